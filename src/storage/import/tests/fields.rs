//! What the rows of the field's formats mean: three rows of each, written for it, and what they must become.

use super::*;
use crate::domain::{Choice, Conversation, Side, Strength};
use crate::storage::formats::{GivenAnswer, recognise};

/// The turns of a conversation: `user: Hi / assistant: Hello`.
pub(super) fn turns(turns: &[Message]) -> String {
    let one = |turn: &Message| {
        let flag = match turn.trains() {
            Some(true) => "+",
            Some(false) => "-",
            None => "",
        };
        format!("{}{flag}: {}", turn.role, turn.readable().replace('\n', " "))
    };
    turns.iter().map(one).collect::<Vec<_>>().join(" / ")
}

fn extras(talk: &Conversation) -> String {
    let mut out = String::new();
    if !talk.tools().is_empty() {
        let name = |tool: &serde_json::Value| {
            tool.get("function").unwrap_or(tool).get("name").and_then(|n| n.as_str()).unwrap_or("?").to_owned()
        };
        out = format!(" {{tools {}}}", talk.tools().iter().map(name).collect::<Vec<_>>().join(" "));
    }
    if !talk.variables().is_empty() {
        out.push_str(&format!(" {{{}}}", serde_json::to_string(talk.variables()).unwrap()));
    }
    out
}

pub(super) fn prompt(body: &PromptBody) -> String {
    match body {
        PromptBody::Text(text) => format!("text: {}", text.replace('\n', "⏎")),
        PromptBody::Chat(talk) => turns(talk) + &extras(talk),
    }
}

fn answer(answer: &GivenAnswer) -> String {
    answer.text.replace('\n', "⏎")
}

/// Every row in one line each: the prompt, the answers, the judgement.
pub(super) fn rows(rows: &ImportedRows) -> Vec<String> {
    match rows {
        ImportedRows::Prompts(rows) => rows.iter().map(|row| prompt(&row.body)).collect(),
        ImportedRows::Pairs(rows) => rows
            .iter()
            .map(|row| format!("{} | {} > {}", prompt(&row.prompt), answer(&row.chosen), answer(&row.rejected)))
            .collect(),
        ImportedRows::Votes(rows) => rows
            .iter()
            .map(|row| {
                let vote = |vote: &crate::storage::formats::ImportedVote| {
                    let sign = match vote.choice {
                        Choice::Prefer(Side::A, Strength::Much) => "a!",
                        Choice::Prefer(Side::A, Strength::Better) => "a",
                        Choice::Prefer(Side::A, Strength::Slight) => "a?",
                        Choice::Prefer(Side::B, Strength::Much) => "b!",
                        Choice::Prefer(Side::B, Strength::Better) => "b",
                        Choice::Prefer(Side::B, Strength::Slight) => "b?",
                        Choice::Tie => "tie",
                        Choice::BothBad => "both bad",
                        Choice::Skip => "skip",
                    };
                    let by = vote.asked.criterion.as_deref().map_or_else(String::new, |by| format!(" by {by}"));
                    format!("{} {sign}{by}", vote.rater)
                };
                let votes: Vec<String> = row.votes.iter().map(vote).collect();
                format!("{} | {} ~ {} | {}", prompt(&row.prompt), answer(&row.a.0), answer(&row.b.0), votes.join(", "))
            })
            .collect(),
        ImportedRows::Texts(_, rows) => rows
            .iter()
            .map(|row| match row {
                SftBody::Messages(talk) => turns(talk) + &extras(talk),
                SftBody::Completion { prompt: asked, completion } => format!("{} | {completion}", prompt(asked)),
                SftBody::Text(text) => format!("text: {text}"),
            })
            .collect(),
        ImportedRows::Ratings(rows) => rows
            .iter()
            .map(|row| format!("{} | {} | {}", prompt(&row.prompt), answer(&row.completion), row.good))
            .collect(),
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/formats/{name}.jsonl"))
}

/// The fixture, the format it is recognised as, and its rows.
const TABLE: &[(&str, &str, &[&str])] = &[
    (
        "intel-orca",
        "pairs",
        &[
            "system: Answer as a baker. / user: What rises? | Dough rises. > Stones rise.",
            "user: What sinks? | Stones sink. > Stones float.",
            "system: Be short. / user: What floats? | Cork. > Lead, which is heavy, floats.",
        ],
    ),
    (
        "llama-factory",
        "pairs",
        &[
            "system: You translate. / user: Hi / assistant: Hello / user: Translate to French.  bread | pain > brot",
            "user: Name a tree. | An oak. > A cup.",
            "user: Count to two. | One, two. > One, three.",
        ],
    ),
    (
        "openai-preference",
        "openai-preference",
        &[
            "user: Name a tree. | An oak. > A cup.",
            "system: Be short. / user: Name a fish. | A carp. > I do not know any fish.",
            "user: Weather in Rome? {tools weather} | → weather({\"city\":\"Rome\"}) > Sunny, I guess.",
        ],
    ),
    (
        "safe-rlhf",
        "safe-rlhf",
        &[
            "user: How do I open a jar? | Hit it. ~ Warm the lid. | annotator b, annotator b by safer",
            "user: How do I fix a lamp? | Unplug it first, then call someone. ~ Replace the bulb. | annotator b, annotator a by safer",
            "user: Is rain wet? | Yes. ~ No. | annotator a, annotator a by safer",
        ],
    ),
    (
        "helpsteer2",
        "helpsteer",
        &[
            "user: Name a metal. | Iron. ~ Wood. | annotator a!",
            "user: Name a gas. | Ice. ~ Neon. | annotator b",
            "user: Name a bird. | A wren. ~ A crow. | annotator tie",
        ],
    ),
    (
        "helpsteer3",
        "helpsteer",
        &[
            "user: Name a metal. | Iron. ~ Wood. | annotator1 a!, annotator2 a?",
            "user: Print a. / assistant: print(a) / user: And b? | a(b) ~ print(b) | annotator1 b!",
            "user: Pick one. | One. ~ 1. | annotator tie",
        ],
    ),
    (
        "shp",
        "shp",
        &[
            "user: Why does my bread sink? | Less yeast. ~ Who knows. | readers a",
            "user: Is rye sour? | No. ~ Often. | readers b",
            "user: Which oil? | The one in the manual. ~ Olive. | readers a",
        ],
    ),
    (
        "arena",
        "arena",
        &[
            "user: Name a sea. | A pond. ~ The Baltic. | arena_user_1 b",
            "user: 2+2? | 5 ~ 6 | arena_user_2 both bad",
            "user: Pick a number. | Seven.⏎⏎[user]⏎Double it.⏎⏎[assistant]⏎Fourteen. ~ Two.⏎⏎[user]⏎Double it.⏎⏎[assistant]⏎Five. | expert_1 a",
        ],
    ),
    (
        "arena-55k",
        "arena",
        &[
            "user: Name a sea. | The Baltic. ~ A pond. | user a",
            "user: Pick a number. / assistant: Two. / user: Double it. | Five. ~ Four. | user b",
            "user: Hi | Hello. ~ Hey. | user tie",
        ],
    ),
    (
        "alpaca-eval",
        "alpaca-eval",
        &[
            "user: Name a tool. | A cloud. ~ A saw. | judge-1 b",
            "user: Name a dish. | Soup. ~ A plank. | judge-1 a",
            "user: Name a day. | Monday. ~ Friday. | judge-1 tie",
        ],
    ),
    (
        "webgpt",
        "webgpt",
        &[
            "user: Why is the sea salty? | Rivers carry salt. ~ Fish. | labeller a!",
            "user: Why is grass green? | Paint. ~ Chlorophyll. | labeller b?",
            "user: Who wrote it? | Ann. ~ Ben. | labeller tie",
        ],
    ),
    (
        "nectar",
        "nectar",
        &[
            "user: Name a herb. | Basil. ~ A brick. | rank a",
            "user: Name a herb. | Basil. ~ Perhaps mint? | rank a",
            "user: Name a herb. | A brick. ~ Perhaps mint? | rank b",
            "user: Hi. / assistant: Hello. / user: Name a nut. | A walnut. ~ A chair. | rank a",
            "user: Yes or no? | Yes. ~ No. | rank tie",
        ],
    ),
    (
        "ultrafeedback",
        "ultrafeedback",
        &[
            "user: Name a river. | The Elbe. ~ A road. | overall_score a",
            "user: Name a hill. | A lake. ~ Arthur's Seat. | overall_score b",
            "user: Name a hill. | A lake. ~ The Brocken. | overall_score b",
            "user: Name a hill. | Arthur's Seat. ~ The Brocken. | overall_score tie",
            "user: Name a cave. | Lascaux. ~ A tower. | fine-grained_score a",
        ],
    ),
    (
        "oasst",
        "oasst",
        &[
            "user: Name a cheese. | Brie. ~ A shoe. | rank a",
            "user: Name a cheese. / assistant: Brie. / user: Another? | Gouda. ~ A wheel. | rank a",
            "user: Name a wine. | Milk. ~ Riesling. | rank b",
            "user: Name a tea. | Assam. ~ Gravel. | rank a",
        ],
    ),
    (
        "comparison",
        "comparison",
        &[
            "user: Name a song. | A stone. ~ Greensleeves. | score b",
            "user: Name a dance.  It is slow. | A waltz. ~ A hammer. | order a",
            "user: Name a poem. | The Raven. ~ A spoon. | score a",
            "user: Name a poem. | The Raven. ~ Kubla Khan. | score tie",
            "user: Name a poem. | A spoon. ~ Kubla Khan. | score b",
        ],
    ),
    (
        "kto-messages",
        "ratings",
        &[
            "user: Name a cat. | A lynx. | true",
            "user: Name a dog. | A table. | false",
            "system: Be short. / user: Name a cow. | Moo. | false",
        ],
    ),
    (
        "dolly",
        "dolly",
        &[
            "user: Who bakes?  Ida bakes bread. | Ida.",
            "user: Name a bread. | Rye.",
            "user: Sum it up.  It rained. It stopped. | Rain came and went.",
        ],
    ),
    (
        "self-instruct",
        "self-instruct",
        &[
            "user: Add the numbers.  1 2 | 3",
            "user: Add the numbers.  2 2 | 4",
            "user: Say hello. | Hello.",
            "user: Write a subject.  We meet at noon. | Meeting at noon",
        ],
    ),
    (
        "hh-rlhf",
        "hh-rlhf",
        &[
            "user: Name a sport. | Chess. > A pan.",
            "user: Hi. / assistant: Hello. / user: Sing. | La la. > No.",
            "user: Count. | One. > Blue.",
        ],
    ),
    (
        "summarize-from-feedback",
        "summarize-from-feedback",
        &[
            "user: TITLE: Cat  POST: My cat ran off and came back.  TL;DR: | Cat left. ~ Cat left and returned. | w1 b, w2 a",
            "user: POST: Rain fell on the fair.  TL;DR: | It rained at the fair. ~ A fair. | w1 a",
        ],
    ),
    (
        "sharegpt",
        "sharegpt",
        &[
            "system: Answer in Dutch. / user: Name a colour. / assistant: Rood.",
            "user: What time? / assistant: → clock({}) / tool: 12:00 / assistant: Noon. {tools clock}",
            "user: Hi / assistant: Hello.",
        ],
    ),
    (
        "distilabel",
        "distilabel",
        &[
            "user: Name a stone. | Granite. ~ Butter. | ratings a",
            "user: Name a cloth. | Nails. ~ Linen. | ratings b",
            "user: Name a cloth. | Nails. ~ Wool. | ratings b",
            "user: Name a cloth. | Linen. ~ Wool. | ratings tie",
            "user: Name a wood. | Ash. ~ Tin. | ratings a",
        ],
    ),
    (
        "distilabel-pairs",
        "pairs",
        &[
            "system: Help. / user: Name a stone. | Granite. > Butter.",
            "user: Name a cloth. | Linen. > Nails.",
            "user: Name a wood. | Ash. > Tin.",
        ],
    ),
    (
        "nemo",
        "nemo",
        &[
            "text: <extra_id_0>System⏎⏎<extra_id_1>User⏎Name a king.⏎<extra_id_1>Assistant⏎ | Arthur. ~ A fork. | rank a",
            "user: Name a queen. | A bee, perhaps. ~ Victoria. | rank b",
            "user: Name a duke. | Wellington. ~ A duck. | rank a",
            "user: Name a duke. | Wellington. ~ 7 | rank a",
            "user: Name a duke. | A duck. ~ 7 | rank a",
        ],
    ),
    (
        "ms-swift",
        "ms-swift",
        &[
            "system: Be short. / user: Name a month. | May. > Eleventy.",
            "user: Name a week day. | Monday. > May.",
            "system: Be short. / user: Hi / assistant: Hello / user: Name a year. | 1999. > Long ago.",
        ],
    ),
    (
        "openrlhf",
        "openrlhf",
        &[
            "user: Name a drum. | A bodhran. > A drain.",
            "user: Hi / assistant: Hello. / user: Name a horn. | A tuba. > A thumb.",
            "user: Name a harp. | A lyre. > A liar.",
        ],
    ),
    (
        "oasst-messages",
        "oasst-messages",
        &[
            "user: Name a cheese. | Brie. ~ A shoe. | rank a",
            "user: Name a cheese. / assistant: Brie. / user: Another? | Gouda. ~ A wheel. | rank a",
            "user: Name a wine. | Milk. ~ Riesling. | rank b",
        ],
    ),
    (
        "helpsteer2-ratings",
        "helpsteer-ratings",
        &[
            "user: Name a stone. | Granite. ~ A cloud. | helpfulness a",
            "user: Name a coat. / assistant: A parka. / user: Another? | An anorak. ~ A raincoat. | helpfulness tie",
        ],
    ),
    ("mt-bench", "mt-bench", &["user: Name a street.", "user: 1+1?", "user: Name a square."]),
    (
        "tool-calls",
        "sft",
        &[
            "user: Weather? / assistant: → get_weather({\"city\":\"Rome\"}) / tool: 18 / assistant: 18 degrees. {tools get_weather}",
            "user: 1+1? / assistant: <think> One and one. </think>  2 {{\"enable_thinking\":false}}",
            "user: a / assistant-: DRAFT / user: b / assistant+: good",
        ],
    ),
];

#[test]
fn the_rows_of_every_format_mean_what_its_publisher_says() {
    for (name, format, wanted) in TABLE {
        let path = fixture(name);
        assert_eq!(recognise(&path).unwrap().name, *format, "{name}");
        let imported = by_name(&path, format, None).unwrap();
        assert_eq!(rows(&imported.rows), *wanted, "{name}");
        assert_eq!((imported.refused.bad_lines, imported.refused.empty), (0, 0), "{name}: {:?}", imported.refused);
        // Every row reaches a session, and a second import adds nothing.
        let (_home, session) = session();
        let (first, state) = add_as(&session, &path, format);
        let (again, same) = add_as(&session, &path, format);
        assert!(first.pairs + first.unjudged + first.rows + first.prompts > 0, "{name}");
        assert_eq!((again.prompts, again.pairs, again.unjudged, again.rows), (0, 0, 0, 0), "{name}");
        assert_eq!(state.pairs().len(), same.pairs().len(), "{name}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let fixtures = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(fixtures, TABLE.len(), "every fixture is in the table");
}

#[test]
fn a_fixture_survives_its_export_with_the_same_meaning() {
    for (name, format, _) in TABLE {
        let (_home, session) = session();
        let (_, state) = add_as(&session, &fixture(name), format);
        let imported = by_name(&fixture(name), format, None).unwrap();
        let (out, kind) = match imported.rows {
            ImportedRows::Votes(_) => ("votes", "votes"),
            ImportedRows::Pairs(_) => ("trl", "pairs"),
            ImportedRows::Texts(..) => ("sft", "sft"),
            ImportedRows::Ratings(_) => ("kto", "ratings"),
            ImportedRows::Prompts(_) => continue,
        };
        let (_dir, path) = file("out.jsonl", exported(&state, out).as_bytes());
        let back = by_name(&path, kind, None).unwrap();
        assert_eq!(prompts_and_answers(&back.rows), prompts_and_answers(&imported.rows), "{name}");
    }
}

/// The rows without who judged them: an export names the raters by the file.
fn prompts_and_answers(imported: &ImportedRows) -> Vec<String> {
    let parts = rows(imported).into_iter().map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join(" | "));
    parts.collect()
}

#[test]
fn rankings_and_unused_columns_are_said() {
    let imported = by_name(&fixture("nectar"), "nectar", None).unwrap();
    let notes = imported.notes();
    assert_eq!(notes[0], "nectar.jsonl: 3 rankings gave 5 pairs: every pair of the answers of each");
    assert_eq!(
        notes.last().unwrap(),
        "nectar.jsonl: not used: good_natured (1 row), num_responses (1 row), source (1 row), turns (3 rows)"
    );
    // The pairs of a ranking share their answers.
    let (_home, session) = session();
    let (_, state) = add_as(&session, &fixture("nectar"), "nectar");
    assert_eq!((state.pairs().len(), state.completions().len()), (5, 7));
    let imported = by_name(&fixture("distilabel-pairs"), "pairs", None).unwrap();
    let notes = imported.notes().join("; ");
    assert!(notes.contains("1 pair whose scores say that the rejected answer is better"), "{notes}");
}

#[test]
fn what_belongs_together_and_is_not_whole_is_counted() {
    let imported = by_name(&fixture("helpsteer2-ratings"), "helpsteer-ratings", None).unwrap();
    assert_eq!(imported.left_out().unwrap(), "helpsteer2-ratings.jsonl: left out 1 prompt with a single response");
    let imported = by_name(&fixture("mt-bench"), "mt-bench", None).unwrap();
    assert_eq!(imported.left_out().unwrap(), "mt-bench.jsonl: left out 3 later turns of a question");
    assert_eq!(imported.notes().last().unwrap(), "mt-bench.jsonl: not used: reference (1 row)");
    let message = |id: &str, parent: &str, role: &str, rank: &str| {
        format!(r#"{{"message_id":"{id}","parent_id":{parent},"text":"text {id}","role":"{role}","rank":{rank}}}"#)
    };
    let read = |lines: &[String], limit| {
        let (_dir, path) = file("m.jsonl", lines.join("\n").as_bytes());
        assert_eq!(recognise(&path).unwrap().name, "oasst-messages");
        by_name(&path, "oasst-messages", limit)
    };
    let tree = |n: usize| {
        let id = |part: &str| format!("{n}{part}");
        [
            message(&id("q"), "null", "prompter", "null"),
            message(&id("a"), &format!("\"{n}q\""), "assistant", "1"),
            message(&id("b"), &format!("\"{n}q\""), "assistant", "0"),
        ]
    };
    let mut lines: Vec<String> = (0..3).flat_map(tree).collect();
    let some = read(&lines, Some(2)).unwrap();
    assert_eq!((some.rows.len(), some.limited), (2, true));
    // A parent that the file lacks, an id that stands twice, a circle, and a question behind a lost one.
    lines.extend([
        message("lost", "\"nobody\"", "assistant", "0"),
        message("0q", "null", "prompter", "null"),
        message("r1", "\"r2\"", "prompter", "null"),
        message("r2", "\"r1\"", "assistant", "0"),
        message("r3", "\"r1\"", "assistant", "1"),
        message("s", "\"nobody\"", "prompter", "null"),
        message("s1", "\"s\"", "assistant", "0"),
        message("s2", "\"s\"", "assistant", "1"),
    ]);
    let whole = read(&lines, None).unwrap();
    assert_eq!(rows(&whole.rows).len(), 3, "{:?}", rows(&whole.rows));
    let said = whole.left_out().unwrap();
    for part in [
        "2 messages whose parent the file lacks",
        "1 message with the id of another",
        "1 question whose conversation is not whole",
        "1 question behind a conversation of more than 64 turns",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let none = read(&lines[..2], None).unwrap_err().to_string();
    assert!(none.contains("holds no usable pairs"), "{none}");
}

#[test]
fn what_a_template_reads_reaches_the_session_and_its_rows() {
    let (_home, session) = session();
    let (_, state) = add_as(&session, &fixture("openai-preference"), "openai-preference");
    let (rows, _) = state.rows();
    let call = &rows[2].turns.as_ref().unwrap().chosen[0];
    assert_eq!(call.tool_calls()[0]["function"]["name"], "weather");
    let PromptBody::Chat(talk) = &rows[2].prompt else { panic!() };
    assert_eq!(talk.tools().len(), 1);
    assert!(rows[0].turns.is_none());
}
