//! Import formats, hostile files and the way back out.

use super::*;
use crate::domain::{PromptBody, Rater, Session};
use crate::protocol::SessionMeta;
use crate::storage::export::{Format, lines as export_lines};
use crate::storage::{Home, SessionDir};
use std::path::{Path, PathBuf};

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
    let imported = pairs(path, None).unwrap();
    let lock = session.lock().unwrap().unwrap();
    let mut writer = session.writer(&lock).unwrap();
    let added = add_pairs(&imported, &session.state().unwrap().0, &mut writer).unwrap();
    (added, session.state().unwrap().0)
}

fn chat(turns: &[(&str, &str)]) -> PromptBody {
    PromptBody::Chat(turns.iter().map(|(r, c)| Message { role: (*r).into(), content: (*c).into() }).collect())
}

#[test]
fn prompts_come_as_text_or_as_json_lines() {
    let (_dir, path) = file("p.txt", b"\xef\xbb\xbfWhy?\r\n\r\n{\"prompt\": 1}\r\nBad \xff byte\nHow?");
    let got = prompts(&path, None).unwrap();
    assert_eq!(got.rows, [PromptBody::user("Why?"), PromptBody::user("{\"prompt\": 1}"), PromptBody::user("How?")]);
    assert_eq!(got.bad, [BadLine { line: 4, reason: "is not UTF-8 text from its byte 5 on".into() }]);

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
    assert_eq!((two.rows.len(), two.limited), (2, true));
}

#[test]
fn pairs_come_in_every_form_of_trl() {
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
        chosen: chosen.into(),
        rejected: rejected.into(),
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
    assert!(got.left_out().unwrap().starts_with("pairs.jsonl: left out 4 lines, the first: line 8 has no `rejected`"));
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
    assert!(error.contains("holds no usable pairs"), "{error}");
}

#[test]
fn importing_twice_adds_nothing_and_another_file_shares_prompts() {
    let (_dir, path) = file(
        "a.jsonl",
        b"{\"prompt\":\"q\",\"chosen\":\"b\",\"rejected\":\"c\"}\n{\"prompt\":\"q\",\"chosen\":\"d\",\"rejected\":\"c\"}\n",
    );
    let (_home, session) = session();
    let (added, state) = add(&session, &path);
    assert_eq!(added, Added { prompts: 1, known_prompts: 1, pairs: 2, known_pairs: 0 });
    assert_eq!(state.rows().0.len(), 2);
    assert_eq!(state.verdict_of(&state.pairs()[0].id, &Rater::new("import:a.jsonl")).unwrap().1.ms, 0);
    assert_eq!(add(&session, &path).0.known_pairs, 2);
    let (_dir2, other) = file("b.jsonl", b"{\"prompt\":\"q\",\"chosen\":\"b\",\"rejected\":\"c\"}\n");
    let (added, state) = add(&session, &other);
    assert_eq!(added, Added { prompts: 0, known_prompts: 1, pairs: 1, known_pairs: 0 });
    let ids: Vec<&str> = state.pairs().iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["i1", "i2", "i3"]);
}

#[test]
fn oasst_pairs_go_in_and_come_out_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/oasst_pairs.jsonl");
    if !path.exists() {
        println!("skipped: {} is missing", path.display());
        return;
    }
    let (_home, session) = session();
    let imported = pairs(&path, None).unwrap();
    let (_, state) = add(&session, &path);
    let (rows, left) = state.rows();
    assert_eq!((rows.len(), left.total()), (imported.rows.len(), 0));
    for format in [Format::Trl, Format::TrlImplicit] {
        let (_dir, out) = file("out.jsonl", export_lines(&rows, format).as_bytes());
        assert_eq!(pairs(&out, None).unwrap().rows, imported.rows, "{format:?}");
    }
}
