//! An Ollama Modelfile beside a GGUF file, with the chat template in Go's template language.
//!
//! Owns deriving it: conversations are rendered with marks in place of texts, which shows what the template puts around each turn.
//! Refuses a template that does more than put text around turns: the Modelfile then says so and leaves the choice to Ollama.

use crate::domain::Message;
use crate::model::language_model::LanguageModel;

/// A Modelfile.
pub(super) struct Modelfile {
    pub(super) text: String,
    /// What is missing from it, as a sentence.
    pub(super) note: Option<String>,
}

/// Stands for a turn's text.
const MARK: &str = "\u{2}Text\u{2}";

/// What a template puts around turns.
#[derive(Debug, PartialEq)]
struct Turns {
    /// Before everything.
    start: String,
    /// Before a conversation without a system turn: a system turn of the template's own.
    default_system: String,
    /// Before and behind the texts of system, user and assistant.
    around: [(String, String); 3],
    /// Before the answer.
    answer: String,
}

const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// The Modelfile of the model in `file`. `adds_bos`: whether the file's tokenizer puts the starting token itself.
pub(super) fn modelfile(model: &LanguageModel, file: &str, adds_bos: bool) -> Modelfile {
    let mut text = format!("FROM ./{file}\n");
    let mut note = None;
    if model.template.is_some() {
        let bos = model.tokenizer.special.bos.as_deref().filter(|_| adds_bos);
        if let Some(template) = turns(model).and_then(|turns| go_template(&turns, bos)) {
            text.push_str(&format!("TEMPLATE \"\"\"{template}\"\"\"\n"));
        } else {
            let why =
                "# The chat template does more than put text around turns: Ollama chooses by the one in the file.\n";
            text.push_str(why);
            let said = "The chat template has no equal in Ollama's template language: the Modelfile names none, and Ollama chooses one.";
            note = Some(said.to_owned());
        }
    } else {
        text.push_str("TEMPLATE \"\"\"{{ .Prompt }}\"\"\"\n");
    }
    for stop in model.tokenizer.stops().iter().filter_map(|id| model.tokenizer.token(*id)) {
        text.push_str(&format!("PARAMETER stop {}\n", quoted(&stop)));
    }
    Modelfile { text, note }
}

/// A value in quotes, as Ollama reads it.
fn quoted(text: &str) -> String {
    if text.contains('"') { format!("\"\"\"{text}\"\"\"") } else { format!("\"{text}\"") }
}

fn render(model: &LanguageModel, roles: &[&str], answer: bool) -> Option<String> {
    let turns: Vec<Message> = roles.iter().map(|role| Message::new(*role, MARK)).collect();
    model.render(&turns, answer).ok()
}

/// What the model's template puts around turns, if that is all it does.
fn turns(model: &LanguageModel) -> Option<Turns> {
    let whole = |roles: &[&str]| render(model, roles, false);
    let pieces =
        |roles: &[&str]| -> Option<Vec<String>> { Some(whole(roles)?.split(MARK).map(str::to_owned).collect()) };
    // Behind a text and before the next one lies an end and a start. The end of the last turn shows where to cut.
    let user = pieces(&["user"])?;
    let [before_user, behind_user] = user.as_slice() else { return None };
    let two = pieces(&["user", "assistant"])?;
    let [_, middle, behind_assistant] = two.as_slice() else { return None };
    let before_assistant = middle.strip_prefix(behind_user.as_str())?;
    let three = pieces(&["user", "assistant", "user"])?;
    let [_, _, middle, _] = three.as_slice() else { return None };
    let user_again = middle.strip_prefix(behind_assistant.as_str())?;
    let answer = render(model, &["user"], true)?.strip_prefix(whole(&["user"])?.as_str())?.to_owned();
    // What the first user turn has in front of a later one: a start, or a system turn of the template's own.
    let opening = before_user.strip_suffix(user_again)?;
    let (start, default_system, system) = match pieces(&["system", "user"]).as_deref() {
        Some([before, middle, _]) if middle.ends_with(user_again) => {
            let behind = middle.strip_suffix(user_again)?;
            let shared = if opening.is_empty() || before.starts_with(opening) { opening.len() } else { 0 };
            let (start, default) = if shared > 0 { (opening, "") } else { ("", opening) };
            (start.to_owned(), default.to_owned(), (before[shared..].to_owned(), behind.to_owned()))
        }
        // No system turns: one is refused, or folded into the user's.
        _ => return None,
    };
    let pair = |before: &str, behind: &str| (before.to_owned(), behind.to_owned());
    let turns = Turns {
        start,
        default_system,
        around: [system, pair(user_again, behind_user), pair(before_assistant, behind_assistant)],
        answer,
    };
    let checks: [&[&str]; 4] = [
        &["user"],
        &["system", "user", "assistant", "user"],
        &["user", "assistant", "user", "assistant", "user"],
        &["system", "user", "assistant", "user", "assistant", "user"],
    ];
    checks
        .into_iter()
        .all(|roles| render(model, roles, true).is_some_and(|text| text == composed(&turns, roles)))
        .then_some(turns)
}

/// What the Go template makes of turns with marks.
fn composed(turns: &Turns, roles: &[&str]) -> String {
    let mut out = turns.start.clone();
    if roles.first() != Some(&"system") {
        out.push_str(&turns.default_system);
    }
    for role in roles {
        if let Some((before, behind)) = ROLES.iter().position(|known| known == role).map(|i| &turns.around[i]) {
            out.push_str(&format!("{before}{MARK}{behind}"));
        }
    }
    out + &turns.answer
}

/// The template in Go's language; none where its text would be taken for an action or end the quotes.
fn go_template(turns: &Turns, bos: Option<&str>) -> Option<String> {
    let texts = turns.around.iter().flat_map(|(before, behind)| [before, behind]);
    let mut texts = texts.chain([&turns.start, &turns.default_system, &turns.answer]);
    if texts.any(|text| text.contains("{{") || text.contains("}}") || text.contains("\"\"\"")) {
        return None;
    }
    let start = bos.and_then(|bos| turns.start.strip_prefix(bos)).unwrap_or(&turns.start);
    let mut out = start.to_owned();
    if !turns.default_system.is_empty() {
        out.push_str(&format!(
            "{{{{ if ne (index .Messages 0).Role \"system\" }}}}{}{{{{ end }}}}",
            turns.default_system
        ));
    }
    out.push_str("{{ range .Messages }}");
    for (i, (role, (before, behind))) in ROLES.iter().zip(&turns.around).enumerate() {
        let word = if i == 0 { "if" } else { "else if" };
        out.push_str(&format!("{{{{ {word} eq .Role \"{role}\" }}}}{before}{{{{ .Content }}}}{behind}"));
    }
    out.push_str("{{ end }}{{ end }}");
    Some(out + &turns.answer)
}
