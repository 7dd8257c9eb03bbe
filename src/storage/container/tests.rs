//! Files of every kind and their records.

use super::*;
use std::io::Write;

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// Each record's line and `prompt`, or the text of a line; an error as its text.
fn read(name: &str, bytes: &[u8], plain_text: bool) -> Result<Vec<(usize, String)>> {
    let (_dir, path) = file(name, bytes);
    let mut out = Vec::new();
    records(&path, plain_text, |line, record| {
        out.push((
            line,
            match record {
                Ok(record) => match record.as_text() {
                    Some(text) => format!("text {text}"),
                    None => {
                        record.field("prompt").map_or_else(|| "no prompt".into(), |p| p.as_str().unwrap_or("?").into())
                    }
                },
                Err(e) => format!("bad: {e}"),
            },
        ));
        true
    })?;
    Ok(out)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn rows(wanted: &[(usize, &str)]) -> Vec<(usize, String)> {
    wanted.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
}

const LINES: &[u8] = b"{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n";

#[test]
fn a_file_is_what_its_content_says_whatever_its_name() {
    let two = rows(&[(1, "a"), (2, "b")]);
    let zstd = zstd::encode_all(LINES, 1).unwrap();
    for bytes in [LINES.to_vec(), gzip(LINES), zstd] {
        for name in ["rows", "rows.jsonl", "rows.txt", "rows.bin"] {
            assert_eq!(read(name, &bytes, true).unwrap(), two, "{name}");
        }
    }
    // Two members, as `cat a.gz b.gz` writes them.
    let members = [gzip(&LINES[..15]), gzip(&LINES[15..])].concat();
    assert_eq!(read("rows", &members, true).unwrap(), two);
    assert_eq!(
        read("rows", "\u{feff}{\"prompt\":\"a\"}\r\n\r\n{\"prompt\":\"b\"}\r\n\n".as_bytes(), true).unwrap(),
        rows(&[(1, "a"), (3, "b")])
    );
    assert_eq!(read("rows", "{\"prompt\":\"a\u{2028}b\"}".as_bytes(), true).unwrap(), rows(&[(1, "a\u{2028}b")]));
}

#[test]
fn arrays_and_values_over_several_lines_are_read_whole_with_their_lines() {
    let pretty = b"[\n {\n  \"prompt\": \"a\"\n },\n {\"prompt\": \"b\"}\n]\n";
    for bytes in [pretty.to_vec(), gzip(pretty), [b"\xef\xbb\xbf".as_slice(), pretty].concat()] {
        assert_eq!(read("rows", &bytes, true).unwrap(), rows(&[(2, "a"), (5, "b")]));
    }
    assert_eq!(read("r", b"[{\"prompt\":\"a\"},{\"prompt\":\"b\"}]", true).unwrap(), rows(&[(1, "a"), (1, "b")]));
    let values = b"{\n \"prompt\": \"a\"\n}\n{\n \"prompt\": \"b\"\n}\n";
    assert_eq!(read("r", values, true).unwrap(), rows(&[(1, "a"), (4, "b")]));
    let broken = read("r", &values[..values.len() - 4], true).unwrap();
    assert!(broken.len() == 2 && broken[1].1.contains("the rest of the file was not read"), "{broken:?}");
}

#[test]
fn the_first_line_does_not_decide() {
    let text = b"{\"prompt\":NaN}\n{\"prompt\":\"b\"}\n";
    assert_eq!(read("rows", text, true).unwrap()[1], (2, "b".into()));
    let comment = b"# made by a script\n{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n";
    let found = read("rows", comment, true).unwrap();
    assert!(found[0].1.starts_with("bad: is not JSON") && found.len() == 3, "{found:?}");
    // A text with one line of JSON stays text.
    assert_eq!(read("r", b"Why?\n{\"a\":1}\nHow?\n", true).unwrap()[1], (2, "text {\"a\":1}".into()));
}

#[test]
fn objects_with_a_comma_behind_each_line_are_lines() {
    let listed = b"{\"prompt\":\"a\"},\n{\"prompt\":\"b\"} , \r\n{\"prompt\":\"c\"}\n";
    for name in ["rows", "rows.json"] {
        assert_eq!(read(name, listed, true).unwrap(), rows(&[(1, "a"), (2, "b"), (3, "c")]), "{name}");
    }
    // Two commas, and a comma behind what is no object, say nothing.
    let broken = read("rows.jsonl", b"{\"prompt\":\"a\"}\n{\"prompt\":\"b\"},,\n3,\n", true).unwrap();
    assert!(broken[1..].iter().all(|(_, text)| text.starts_with("bad: is not JSON")), "{broken:?}");
}

#[test]
fn tables_are_read_by_their_header() {
    let csv = b"prompt,chosen,rejected\r\na,\"x, y\",z\r\nb,\"1\n2\",\"say \"\"hi\"\"\"\r\nc,only two\r\n\r\n";
    let found = read("p.csv", csv, true).unwrap();
    assert_eq!(found[..2], rows(&[(2, "a"), (3, "b")])[..]);
    assert_eq!(found[2], (5, "bad: has 2 cells: the header has 3".into()));
    assert_eq!(found.len(), 3);
    assert_eq!(read("p", csv, true).unwrap(), found);
    assert_eq!(read("p", b"prompt\tchosen\na b, c\td\n", true).unwrap(), rows(&[(2, "a b, c")]));
    assert_eq!(read("x.csv", b"\xef\xbb\xbfid_v2,type,prompt\n1,x,a\n", true).unwrap(), rows(&[(2, "a")]));
    let twice = read("p.csv", b"prompt,prompt\na,b\n", true).unwrap_err().to_string();
    assert!(twice.contains("names the column `prompt` twice"), "{twice}");
    // Text with commas is text.
    let text = read("p.txt", b"Hello, world\nAnswer, please\n", true).unwrap();
    assert_eq!(text[0].1, "text Hello, world");
    let python = read("p.csv", b"prompt,chosen\n\"[{'role': 'user'}]\",b\n", true).unwrap();
    assert!(python[0].1.contains("as Python prints it"), "{python:?}");
}

#[test]
fn what_cannot_be_read_is_named() {
    for (bytes, says) in [
        (&b"ARROW1\0\0"[..], "Arrow file"),
        (b"PK\x03\x04abcd", "zip archive"),
        (b"BZh91AY&SY", "bzip2"),
        (b"abc\0def", "binary data"),
        (b"- prompt: a\n  chosen: b\n", "YAML"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"PAR1 cut off", "Parquet file that cannot be read"),
        (b"\xff\xfea\0b\0", "UTF-16"),
    ] {
        let said = read("rows", bytes, true).unwrap_err().to_string();
        assert!(said.contains(says) && said.contains("rows"), "{said}");
    }
    let torn = gzip(&LINES.repeat(100));
    assert!(read("rows", &torn[..torn.len() / 2], true).is_err());
}

/// A Parquet file with columns of text.
pub(in super::super) fn written_parquet(names: &[&str], rows: &[&[&str]]) -> Vec<u8> {
    use ::parquet::data_type::{ByteArray, ByteArrayType};
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use std::sync::Arc;
    let columns: Vec<String> = names.iter().map(|name| format!("OPTIONAL BYTE_ARRAY {name} (UTF8);")).collect();
    let schema = format!("message rows {{ {} }}", columns.join(" "));
    let schema = Arc::new(::parquet::schema::parser::parse_message_type(&schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut at = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(row[at])).collect();
        let present = vec![1; rows.len()];
        column.typed::<ByteArrayType>().write_batch(&values, Some(&present), None).unwrap();
        column.close().unwrap();
        at += 1;
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet_rows_are_records() {
    let bytes = written_parquet(&["prompt", "chosen"], &[&["a", "b"], &["c", "d\ne"]]);
    assert_eq!(read("rows.bin", &bytes, true).unwrap(), rows(&[(1, "a"), (2, "c")]));
    let (_dir, path) = file("rows.parquet", &bytes);
    assert_eq!(records(&path, true, |_, _| true).unwrap(), "row");
    assert!(read("rows", &bytes[..bytes.len() - 8], true).is_err());
}

#[test]
fn files_of_other_kinds_are_refused_by_name_with_the_remedy() {
    let utf_16: Vec<u8> = "prompt,chosen\nq,a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes, says) in [
        ("x.csv", utf_16.as_slice(), "is UTF-16 text"),
        ("x.pkl", b"\x80\x02]q\0(}q\x01", "is a Python pickle"),
        ("x.pkl", b"\x80\x05\x95\x10\0\0", "is a Python pickle"),
        ("x.pkl", b"(lp0\n(dp1\nVprompt\np2\nVq\np3\nsa.", "is a Python pickle"),
        ("x.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "is an old Excel workbook"),
        ("x.feather", b"FEA1\0\0\0\0", "is a Feather file"),
        ("x.zip", b"PK\x05\x06\0\0\0\0", "is an empty zip archive"),
        ("x.bz2", b"BZh91AY&SY\x01\x80", "`bunzip2`"),
        ("x.orc", b"ORC\n\x03\0\0", "is an ORC file"),
        ("x.yaml", b"version: 2\nseed_examples:\n  - question: q\n", "is YAML"),
        ("x.txt", b"# pairs\n- system: s\n  prompt: q\n", "is YAML"),
        ("x.toml", b"[[pairs]]\nprompt = \"q\"\n", "is TOML"),
        ("x.md", b"| prompt | chosen |\n|---|:-:|\n| q | a |\n", "is a Markdown table"),
        ("train.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", "`git lfs pull`"),
    ] {
        let said = read(name, bytes, true).unwrap_err().to_string();
        assert!(said.contains(says), "{name}: {said}");
    }
    // A text may begin with the letters of a kind.
    for text in ["ORCHESTRATE a plan.", "GGUF is what?", "BZhang asks:", "- Why: because?", "# Why?"] {
        assert_eq!(read("x.txt", text.as_bytes(), true).unwrap(), rows(&[(1, &format!("text {text}"))]));
    }
    let latin = read("x.txt", b"Caf\xe9?\nWhy?\n", true).unwrap();
    assert!(latin[0].1.contains("from byte 4 on: save the file as UTF-8"), "{latin:?}");
}

#[test]
fn tables_are_read_as_spreadsheets_write_them() {
    let one = rows(&[(2, "q")]);
    assert_eq!(read("x.csv", b"prompt|chosen|rejected\nq|a|b\n", true).unwrap(), one);
    assert_eq!(read("x.csv", b"sep=;\nprompt;chosen;rejected\nq;a;b\n", true).unwrap(), rows(&[(3, "q")]));
    assert_eq!(read("x.csv", b"\xef\xbb\xbfsep=,\r\nprompt,chosen\r\nq,a\r\n", true).unwrap(), rows(&[(3, "q")]));
    let printed = read("x.csv", b"prompt,chosen\nq,\"{'role': 'assistant', 'content': 'a'}\"\n", true).unwrap();
    assert!(printed[0].1.contains("as Python prints it"), "{printed:?}");
}
