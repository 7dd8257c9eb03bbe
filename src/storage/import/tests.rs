//! Import formats, hostile files and round trips through export.

use super::*;
use crate::domain::{Message, PairRow, Rater};
use crate::protocol::SessionMeta;
use crate::storage::formats::{export_named, import_named};
use crate::storage::{Home, SessionDir, export};
use std::path::PathBuf;

mod cases;
mod fields;
mod mutated;
mod published;
mod votes;

/// A file's rows of one kind, with the whole import.
#[derive(Debug)]
struct Typed<T> {
    rows: Vec<T>,
    whole: Imported,
}

impl<T> std::ops::Deref for Typed<T> {
    type Target = Refused;

    fn deref(&self) -> &Refused {
        &self.whole.refused
    }
}

fn by_name(path: &Path, name: &str, limit: Option<usize>) -> Result<Imported> {
    read(path, import_named(name).unwrap(), limit)
}

fn prompts(path: &Path, limit: Option<usize>) -> Result<Typed<PromptBody>> {
    let whole = by_name(path, "prompts", limit)?;
    let ImportedRows::Prompts(rows) = whole.rows.clone() else { panic!("{whole:?}") };
    Ok(Typed { rows: rows.into_iter().map(|row| row.body).collect(), whole })
}

fn pairs(path: &Path, limit: Option<usize>) -> Result<Typed<ImportedPair>> {
    let whole = by_name(path, "pairs", limit)?;
    let ImportedRows::Pairs(rows) = whole.rows.clone() else { panic!("{whole:?}") };
    Ok(Typed { rows, whole })
}

fn texts(path: &Path, set: &str, limit: Option<usize>) -> Result<Typed<SftBody>> {
    let whole = by_name(path, set, limit)?;
    let ImportedRows::Texts(_, rows) = whole.rows.clone() else { panic!("{whole:?}") };
    Ok(Typed { rows, whole })
}

fn ratings(path: &Path, limit: Option<usize>) -> Result<Typed<ImportedRating>> {
    let whole = by_name(path, "ratings", limit)?;
    let ImportedRows::Ratings(rows) = whole.rows.clone() else { panic!("{whole:?}") };
    Ok(Typed { rows, whole })
}

/// A session exported in a format.
fn exported(state: &Session, format: &str) -> String {
    export::lines(state, export_named(format).unwrap(), &crate::domain::RowChoice::default()).0.concat()
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn session() -> (tempfile::TempDir, SessionDir) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(dir.path())).unwrap();
    let meta = SessionMeta { format: 1, name: String::new(), model: "m".into(), created_ms: 1, app: "0".into() };
    let session = SessionDir::create(&home, "s", &meta).unwrap();
    (dir, session)
}

fn add(session: &SessionDir, path: &Path) -> (Added, Session) {
    add_as(session, path, "pairs")
}

fn add_as(session: &SessionDir, path: &Path, format: &str) -> (Added, Session) {
    let imported = by_name(path, format, None).unwrap();
    let lock = session.lock().unwrap().unwrap();
    let mut writer = session.writer(&lock).unwrap();
    let added = imported.add_to(&session.state().unwrap().0, &mut writer).unwrap();
    (added, session.state().unwrap().0)
}

fn chat(turns: &[(&str, &str)]) -> PromptBody {
    PromptBody::Chat(turns.iter().map(|(r, c)| Message::new(*r, *c)).collect())
}

#[test]
fn prompts_are_read_from_text_and_json_lines() {
    let (_dir, path) = file("p.txt", b"\xef\xbb\xbfWhy?\r\n\r\n{\"prompt\": 1}\r\nBad \xff byte\nHow?");
    let got = prompts(&path, None).unwrap();
    assert_eq!(got.rows, [PromptBody::user("Why?"), PromptBody::user("{\"prompt\": 1}"), PromptBody::user("How?")]);
    assert_eq!(
        got.bad,
        [BadLine { line: 4, reason: "is not valid UTF-8 from byte 5 on: save the file as UTF-8".into() }]
    );

    let json = concat!(
        "\"one\"\n",
        "{\"prompt\":\"two\"}\n",
        "{\"prompt\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"three\"}]}\n",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"four\"},{\"role\":\"assistant\",\"content\":\"A\"}]}\n",
        "{\"instruction\":\"five\",\"input\":\"this\"}\n",
        "{\"other\":1}\n{oops\n{\"prompt\":\" \"}\n{\"messages\":[{\"role\":\"user\"}]}\n",
    );
    let (_dir, path) = file("p.jsonl", json.as_bytes());
    let got = prompts(&path, None).unwrap();
    assert_eq!(
        got.rows,
        [
            PromptBody::user("one"),
            PromptBody::user("two"),
            chat(&[("system", "S"), ("user", "three")]),
            PromptBody::user("four"),
            PromptBody::user("five\n\nthis"),
        ]
    );
    assert_eq!((got.bad_lines, got.empty), (3, 1));
    assert_eq!(got.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [6, 7, 9]);
    let two = prompts(&path, Some(2)).unwrap();
    assert_eq!((two.rows.len(), two.whole.limited), (2, true));
}

#[test]
fn pairs_are_read_in_every_form_of_trl() {
    let text = concat!(
        "{\"prompt\":\"Sky?\",\"chosen\":\" Blue.\",\"rejected\":\" Green.\"}\n",
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"Sky?\"}],\"chosen\":[{\"role\":\"assistant\",\"content\":\"Blue.\"}],",
        "\"rejected\":[{\"role\":\"assistant\",\"content\":\"Green.\"}]}\n",
        "{\"chosen\":[{\"role\":\"user\",\"content\":\"Sky?\"},{\"role\":\"assistant\",\"content\":\"Blue.\"}],",
        "\"rejected\":[{\"role\":\"user\",\"content\":\"Sky?\"},{\"role\":\"assistant\",\"content\":\"Green.\"}]}\n",
        "{\"chosen\":\"The sky is blue.\",\"rejected\":\"The sky is green.\"}\n",
        "{\"chosen\":\"\\n\\nHuman: Sky?\\n\\nAssistant: Blue.\",\"rejected\":\"\\n\\nHuman: Sky?\\n\\nAssistant: Green.\"}\n",
        "{\"prompt\":\"x\",\"chosen\":\"\",\"rejected\":\"b\"}\n",
        "{\"prompt\":\"x\",\"chosen\":\"a  b\",\"rejected\":\"a b\"}\n",
        "{\"prompt\":\"x\",\"chosen\":\"a\"}\n[1]\n{\"chosen\":\"a\",\"rejected\":\"b\"}\n",
        "{\"prompt\":\"x\",\"chosen\":[],\"rejected\":\"b\"}\n",
    );
    let (_dir, path) = file("pairs.jsonl", text.as_bytes());
    let got = pairs(&path, None).unwrap();
    let pair = |prompt: PromptBody, chosen: &str, rejected: &str| ImportedPair {
        prompt,
        tags: Vec::new(),
        chosen: chosen.into(),
        rejected: rejected.into(),
        models: (None, None),
        strength: None,
        margin: None,
        said: Vec::new(),
    };
    let asked = chat(&[("user", "Sky?")]);
    assert_eq!(
        got.rows,
        [
            pair(PromptBody::Text("Sky?".into()), " Blue.", " Green."),
            pair(asked.clone(), "Blue.", "Green."),
            pair(asked.clone(), "Blue.", "Green."),
            pair(PromptBody::Text("The sky is".into()), " blue.", " green."),
            pair(asked, "Blue.", "Green."),
        ]
    );
    assert_eq!((got.empty, got.equal, got.bad_lines), (1, 1, 4));
    assert!(
        got.whole.left_out().unwrap().starts_with("pairs.jsonl: left out 4 lines, the first: line 8 has no `rejected`")
    );
}

#[test]
fn a_broken_array_is_refused_whole_with_the_entry_and_the_place() {
    let refused = |name: &str, text: &str| {
        let (_dir, path) = file(name, text.as_bytes());
        let said = crate::storage::formats::recognise(&path).unwrap_err().to_string();
        assert_eq!(pairs(&path, None).unwrap_err().to_string(), said);
        said.split_once(name).unwrap().1.trim_start_matches([':', ' ']).to_owned()
    };
    let row = r#"{"prompt":"q","chosen":"a","rejected":"b"}"#;
    let pretty = format!("[\n  {row},\n  {row},\n  {{\"prompt\": oops}}\n]\n");
    assert_eq!(
        refused("p.json", &pretty),
        "is a JSON array that breaks at entry 3 (line 4, byte 108 of the file): expected value; nothing was imported"
    );
    let torn = format!("[{row}, {}", &row[..20]);
    assert!(
        refused("p.json", &torn).starts_with("is a JSON array that ends within entry 2 (line 1, byte 65"),
        "{torn}"
    );
    let comma = format!("[{row} {row}]");
    assert!(refused("p.jsonl", &comma).contains("breaks at entry 2 (line 1"), "{}", refused("p.jsonl", &comma));
    assert!(refused("p.json", &format!("[{row}] {row}\n")).contains("trailing characters"));
    // Text that begins like an array stays text, and lines that are arrays stay lines.
    let (_dir, path) = file("p.md", b"[Intro] Write a song.\n[Outro] End it.\n");
    assert_eq!(prompts(&path, None).unwrap().rows.len(), 2);
    let (_dir, path) = file("p.jsonl", format!("[1]\n{row}\n").as_bytes());
    assert_eq!((pairs(&path, None).unwrap().rows.len(), pairs(&path, None).unwrap().bad_lines), (1, 1));
}

#[test]
fn hostile_lines_are_counted_and_the_good_ones_load() {
    let mut bytes = b"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\r\n".to_vec();
    bytes.extend(b"[".repeat(10_000));
    bytes.push(b'\n');
    bytes.extend(b"{\"prompt\":NaN}\n\"half \xc3\n{\"prompt\":\"");
    bytes.extend(vec![b'x'; 100 << 20]);
    bytes.extend(b"\"}\n{\"prompt\":\"a\",\"chosen\":\"");
    bytes.extend(vec![b'y'; 2 << 20]);
    bytes.extend(b"\",\"rejected\":\"c\"}\n{\"prompt\":\"a\",\"chosen\":\"d\",\"rejected\":\"c\"}");
    let (_dir, path) = file("pairs.jsonl", &bytes);
    let got = pairs(&path, None).unwrap();
    assert_eq!(got.rows.len(), 2);
    assert_eq!(got.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    assert!(got.bad[4].reason.contains("longer than the limit of 1 MiB"));
    let (_dir, path) = file("empty.jsonl", b"\n");
    let error = pairs(&path, None).unwrap_err().to_string();
    assert!(error.contains("is empty: it holds no row"), "{error}");
}

#[test]
fn importing_twice_adds_nothing_and_another_file_shares_prompts() {
    let (_dir, path) = file(
        "a.jsonl",
        b"{\"prompt\":\"q\",\"chosen\":\"b\",\"rejected\":\"c\"}\n{\"prompt\":\"q\",\"chosen\":\"d\",\"rejected\":\"c\"}\n",
    );
    let (_home, session) = session();
    let (added, state) = add(&session, &path);
    assert_eq!(added, Added { prompts: 1, known_prompts: 1, pairs: 2, ..Added::default() });
    assert_eq!(state.rows().0.len(), 2);
    assert_eq!(state.verdict_of(&state.pairs()[0].id, &Rater::new("import:a.jsonl")).unwrap().1.ms, 0);
    assert_eq!(add(&session, &path).0.known_pairs, 2);
    let (_dir2, other) = file("b.jsonl", b"{\"prompt\":\"q\",\"chosen\":\"b\",\"rejected\":\"c\"}\n");
    let (added, state) = add(&session, &other);
    assert_eq!(added, Added { known_prompts: 1, pairs: 1, ..Added::default() });
    let ids: Vec<&str> = state.pairs().iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["i1", "i2", "i3"]);
}

#[test]
#[ignore = "needs oasst_pairs.jsonl beside the repository: .ci/run runs it where it is"]
fn shared_data_oasst_pairs_survive_import_and_export() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/oasst_pairs.jsonl");
    let (_home, first) = session();
    let imported = pairs(&path, None).unwrap();
    let (_, state) = add(&first, &path);
    let (rows, left) = state.rows();
    assert_eq!((rows.len(), left.total()), (imported.rows.len(), 0));
    for format in ["trl", "trl-implicit"] {
        let (_dir, out) = file("out.jsonl", exported(&state, format).as_bytes());
        let (_home, again) = session();
        let texts = |row: PairRow| (row.prompt, row.chosen, row.rejected, row.turns, row.margin);
        let (_, again) = add(&again, &out);
        let again: Vec<_> = again.rows().0.into_iter().map(texts).collect();
        assert_eq!(again, rows.iter().cloned().map(texts).collect::<Vec<_>>(), "{format}");
    }
}

const EXAMPLES: &str = concat!(
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Sky?\"},{\"role\":\"assistant\",\"content\":\"Blue.\"}],\"id\":1}\n",
    "{\"prompt\":\"Sky?\",\"completion\":\" Blue.\"}\n",
    "{\"prompt\":[{\"role\":\"user\",\"content\":\"Sky?\"}],\"completion\":[{\"role\":\"assistant\",\"content\":\"Blue.\"}]}\n",
    "{\"text\":\"The sky is blue.\",\"domain\":\"chat\"}\n",
    "{\"conversations\":[{\"from\":\"human\",\"value\":\"Sea?\"},{\"from\":\"gpt\",\"value\":\"Green.\"}]}\n",
    "{\"instruction\":\"Name it\",\"input\":\"#00f\",\"output\":\"blue\"}\n",
    // Left out: an empty answer, no answer at all, a user's turn in the answer, no known field, no JSON, no object.
    "{\"prompt\":\"Sky?\",\"completion\":\" \"}\n",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Sky?\"}]}\n",
    "{\"prompt\":\"Sky?\",\"completion\":{\"is\":\"Blue.\"}}\n",
    "{\"prompt\":[],\"completion\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}\n",
    "{\"prompt\":\"Sky?\"}\n{\"text\":1}\n{oops\n[]\n",
);

fn example_bodies() -> Vec<SftBody> {
    let turns = |turns: &[(&str, &str)]| match chat(turns) {
        PromptBody::Chat(turns) => SftBody::Messages(turns),
        PromptBody::Text(_) => unreachable!(),
    };
    let completion = |prompt: PromptBody, text: &str| SftBody::Completion { prompt, completion: text.into() };
    vec![
        turns(&[("user", "Sky?"), ("assistant", "Blue.")]),
        completion(PromptBody::Text("Sky?".into()), " Blue."),
        completion(PromptBody::user("Sky?"), "Blue."),
        SftBody::Text("The sky is blue.".into()),
        turns(&[("user", "Sea?"), ("assistant", "Green.")]),
        completion(PromptBody::user("Name it\n\n#00f"), "blue"),
    ]
}

#[test]
fn examples_are_read_in_every_form_and_survive_export() {
    let (_dir, path) = file("e.jsonl", EXAMPLES.as_bytes());
    let got = texts(&path, "sft", None).unwrap();
    assert_eq!(got.rows, example_bodies());
    assert_eq!((got.empty, got.bad_lines), (1, 7));
    assert_eq!(got.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [8, 9, 10, 11, 12, 13, 14]);
    assert_eq!(got.bad[0].reason, "has no message of the role `assistant` in `messages`");
    assert_eq!(got.bad[3].reason, "has none of `messages`, `prompt` with `completion`, and `text`");
    assert_eq!(texts(&path, "sft", Some(2)).unwrap().rows.len(), 2);

    let (_home, session) = session();
    let add = |format: &str| {
        let (added, _) = add_as(&session, &path, format);
        (added.rows, added.known_rows)
    };
    assert_eq!((add("sft"), add("sft")), ((6, 0), (0, 6)));
    // The same texts may be imported as a probe too.
    assert_eq!(add("probe"), (6, 0));
    let (state, found) = session.state().unwrap();
    assert_eq!((state.sft_rows().len(), state.probe_rows().len(), found.damage(), state.prompts().len()), (6, 6, 0, 0));
    let ids: Vec<String> = state.imported_texts().iter().map(|(_, row)| row.id.to_string()).collect();
    assert_eq!(ids, (1..=12).map(|n| format!("t{n}")).collect::<Vec<_>>());

    let (_dir, out) = file("out.jsonl", exported(&state, "sft").as_bytes());
    assert_eq!(texts(&out, "sft", None).unwrap().rows, example_bodies());
    let (_dir, none) = file("none.jsonl", b"{\"prompt\":\"q\"}\n");
    let error = texts(&none, "sft", None).unwrap_err().to_string();
    assert!(error.contains("holds no usable texts (none.jsonl: left out line 1 has none of"), "{error}");
}

#[test]
fn ratings_are_read_as_texts_and_messages_and_survive_export() {
    let text = concat!(
        "{\"prompt\":\"Sky?\",\"completion\":\" Blue.\",\"label\":true}\n",
        "{\"prompt\":\"Sky?\",\"completion\":\" Green.\",\"label\":0}\n",
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"Sky?\"}],\"completion\":[{\"role\":\"assistant\",\"content\":\"Blue.\"}],",
        "\"label\":1}\n",
        "{\"prompt\":\"Sky?\",\"completion\":\" Blue.\",\"label\":true}\n",
        "{\"prompt\":\"Sky?\",\"completion\":\"x\",\"label\":\"yes\"}\n{\"prompt\":\"Sky?\",\"completion\":\"x\",\"label\":2}\n",
        "{\"prompt\":\"Sky?\",\"completion\":\"x\"}\n{\"prompt\":\"Sky?\",\"label\":true}\n",
        "{\"prompt\":\" \",\"completion\":\"x\",\"label\":true}\n",
    );
    let (_dir, path) = file("r.jsonl", text.as_bytes());
    let got = ratings(&path, None).unwrap();
    let rating = |prompt: PromptBody, completion: &str, good: bool| ImportedRating {
        prompt,
        completion: completion.into(),
        good,
    };
    let plain = PromptBody::Text("Sky?".into());
    let rows = [
        rating(plain.clone(), " Blue.", true),
        rating(plain.clone(), " Green.", false),
        rating(PromptBody::user("Sky?"), "Blue.", true),
        rating(plain, " Blue.", true),
    ];
    assert_eq!(got.rows, rows);
    assert_eq!((got.empty, got.bad_lines), (1, 4));
    let reasons: Vec<&str> = got.bad.iter().map(|b| b.reason.as_str()).collect();
    assert_eq!(reasons[1..], ["has a `label` that is neither true nor false", "has no `label`", "has no `completion`"]);

    let (_home, session) = session();
    let (added, state) = add_as(&session, &path, "ratings");
    assert_eq!((added.rows, added.known_rows), (3, 1));
    let ids: Vec<&str> = state.imported_ratings().iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["r1", "r2", "r3"]);
    let (_dir, out) = file("out.jsonl", exported(&state, "kto").as_bytes());
    assert_eq!(ratings(&out, None).unwrap().rows, rows[..3]);
}

#[test]
#[ignore = "needs forgetting_probe.jsonl beside the repository: .ci/run runs it where it is"]
fn shared_data_the_public_probe_imports_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/forgetting_probe.jsonl");
    let got = texts(&path, "probe", None).unwrap();
    assert_eq!((got.rows.len(), got.bad_lines, got.empty), (192, 0, 0));
    assert!(got.rows.iter().all(|body| matches!(body, SftBody::Text(_))));
}
