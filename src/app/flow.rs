//! Dialogs that any screen may open: a new session, an import. Owns them and what their answers do.

use super::edit::EditBuffer;
use super::effect::Effect;
use super::msg::Unmade;
use super::palette::{Palette, PaletteEntry, Pick};
use super::popup::{InputPurpose, Popup, TextInput};
use super::shared::{ImportFormat, Shared};
use super::words::model_summary;
use super::wrap::presentable;

/// Whether the open session can be written; if not, shows why.
pub fn writable(model: &mut Shared) -> bool {
    match model.open.as_ref().map(|open| open.read_only.clone()) {
        Some(None) => true,
        Some(Some(holder)) => {
            model.warn(super::open::read_only_sentence(&holder));
            false
        }
        None => {
            model.warn("no session is open");
            false
        }
    }
}

/// Asks for a line of text.
pub fn input(model: &mut Shared, title: &str, hint: &str, purpose: InputPurpose, text: &str) {
    model.popups.push(Popup::Input(TextInput {
        title: title.into(),
        hint: hint.into(),
        buffer: EditBuffer::line(text),
        purpose,
        error: None,
    }));
}

/// Says how to run a command of the command line, with the open session in it.
pub fn say_command(model: &mut Shared, at: usize) {
    let Some(command) = model.command_line.get(at) else { return };
    let name = &command.name;
    let session = model.open.as_ref().filter(|_| command.takes_session).map(|open| presentable(&open.name));
    let session = session.map_or_else(String::new, |session| format!(" {session}"));
    let session = if command.takes_session && session.is_empty() { " SESSION".to_owned() } else { session };
    let body = format!(
        "{}\n\nRun it in a shell, also while this is open:\n\n  tiebreak {name}{session}\n\n`tiebreak {name} --help` lists \
         its options.",
        command.about
    );
    model.popups.push(Popup::Message { title: format!("tiebreak {name}"), body });
}

/// Asks for a file to import.
pub fn ask_import(model: &mut Shared) {
    if writable(model) {
        let hint = import_hint(&model.import_formats);
        input(model, "import a file", &hint, InputPurpose::Import, "");
    }
}

/// The formats a file may have: `JSONL: pairs, prompts · one per line: prompts`; only their number where they are many.
fn import_hint(formats: &[ImportFormat]) -> String {
    let names = |plain_only: bool| -> String {
        let names = formats.iter().filter(|format| format.plain_text || !plain_only).map(|format| format.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let (all, plain) = (names(false), names(true));
    let all = if all.len() > NAMED {
        format!("{} formats, found from the content", formats.len())
    } else {
        format!("JSONL: {all}")
    };
    if plain.is_empty() { all } else { format!("{all} · one per line: {plain}") }
}

/// The longest list of formats that is spelled out, in bytes.
const NAMED: usize = 40;

/// Handles a text typed for one of these dialogs.
pub fn typed(model: &mut Shared, input: TextInput) -> Vec<Effect> {
    let text = input.buffer.text().trim().to_owned();
    let again = |model: &mut Shared, input: TextInput, error: String| {
        model.popups.push(Popup::Input(TextInput { error: Some(error), ..input }));
        Vec::new()
    };
    match input.purpose.clone() {
        InputPurpose::NewName => {
            if let Some(problem) = name_problem(model, &text) {
                return again(model, input, problem);
            }
            choose_model(model, text);
            Vec::new()
        }
        InputPurpose::NewModel { .. } | InputPurpose::Import if text.is_empty() => {
            again(model, input, "type a path, or esc to cancel".into())
        }
        InputPurpose::NewModel { name } => {
            ask_prompts(model, name, text);
            Vec::new()
        }
        InputPurpose::NewPrompts { name, model: of } => {
            model.say(format!("creating {name} …"));
            vec![Effect::CreateSession { name, model: of, prompts: (!text.is_empty()).then_some(text) }]
        }
        InputPurpose::Import => {
            model.say(format!("importing {text} …"));
            vec![Effect::Import { path: text }]
        }
        // The label screen handles these.
        InputPurpose::Note { .. }
        | InputPurpose::Filter
        | InputPurpose::Criterion
        | InputPurpose::Tags { .. }
        | InputPurpose::Correct { .. } => Vec::new(),
    }
}

/// Why a session cannot have this name; none if it can.
fn name_problem(model: &Shared, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("type a name".into());
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        return Some(format!("invalid character `{c}`: a name takes letters, digits, - _ ."));
    }
    if name.starts_with('.') {
        return Some("a name must not begin with a dot".into());
    }
    let taken = model.sessions.iter().flatten().any(|card| card.name == name);
    taken.then(|| format!("session {name} exists already"))
}

fn choose_model(model: &mut Shared, name: String) {
    let mut entries: Vec<PaletteEntry> = model
        .models
        .iter()
        .flatten()
        .filter(|card| card.problem.is_none())
        .map(|card| {
            PaletteEntry::new(
                card.name.clone(),
                model_summary(card),
                Pick::Model { name: name.clone(), model: Some(card.name.clone()) },
            )
        })
        .collect();
    entries.push(PaletteEntry::new(
        "another: give a folder or a .gguf path".into(),
        String::new(),
        Pick::Model { name: name.clone(), model: None },
    ));
    model.popups.push(Popup::Palette(Palette::new("which model", entries).or_path(name)));
}

/// Asks for the file of prompts of a new session.
pub fn ask_prompts(model: &mut Shared, name: String, of: String) {
    input(
        model,
        "a file of prompts",
        "one a line, or JSONL; leave it empty to import later",
        InputPurpose::NewPrompts { name, model: of },
        "",
    );
}

/// Handles the model chosen for a new session; none asks for a path.
pub fn pick_model(model: &mut Shared, name: String, of: Option<String>) {
    match of {
        Some(of) => ask_prompts(model, name, of),
        None => input(
            model,
            "the model's folder",
            "a Hugging Face folder, a .gguf file, or a name",
            InputPurpose::NewModel { name },
            "",
        ),
    }
}

/// Asks again for what a new session could not be made with; what was typed is kept.
pub fn not_created(model: &mut Shared, unmade: Unmade) {
    let Unmade { name, model: of, prompts, error, at_prompts } = unmade;
    if let Some(prompts) = prompts.filter(|_| at_prompts) {
        ask_prompts(model, name, of);
        retype(model, &prompts, error);
    } else {
        pick_model(model, name, None);
        retype(model, &of, error);
    }
    model.touch();
}

/// Puts a text and what is wrong with it into the topmost input.
fn retype(model: &mut Shared, text: &str, error: String) {
    if let Some(Popup::Input(input)) = model.popups.last_mut() {
        input.buffer = EditBuffer::line(text);
        input.error = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_import_hint_lists_the_formats_it_was_given() {
        let format = |name: &str, plain_text| ImportFormat { name: name.into(), plain_text };
        assert_eq!(import_hint(&[format("pairs", false)]), "JSONL: pairs");
        assert_eq!(
            import_hint(&[format("pairs", false), format("prompts", true), format("new", false)]),
            "JSONL: pairs, prompts, new · one per line: prompts"
        );
    }
}
