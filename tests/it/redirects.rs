//! A model server that redirects: neither the key nor a prompt follows it to another address.

use crate::cli::{json, text, with_pairs};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

const KEY: &str = "sk-very-secret-4711";

/// What came to a listener, a text for each connection.
type Heard = Arc<Mutex<Vec<String>>>;

/// Reads a request with its body, and says `answer` of its first line.
fn listen(answer: impl Fn(&str) -> String + Send + 'static) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Heard::default();
    let shared = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let request = request(&stream);
            let said = answer(request.lines().next().unwrap_or_default());
            shared.lock().unwrap().push(request);
            let _ = (&stream).write_all(said.as_bytes());
        }
    });
    (address, heard)
}

fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut all, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return all;
        }
        if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        all += &line;
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    all + &String::from_utf8_lossy(&body)
}

fn response(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A command with the key in its environment; its exit code and all that it said.
fn run(home: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    let output = command.args(args).env("TIEBREAK_HOME", home).env("OUR_KEY", KEY).output().unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_redirect_of_a_server_takes_neither_key_nor_prompt_along() {
    let (other, stolen) = listen(|_| response("200 OK", "", "{}"));
    // The same machine under another name is another host.
    let elsewhere = format!("http://{}/v1/chat/completions", other.replace("127.0.0.1", "localhost"));
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        for lists in [true, false] {
            let to = format!("Location: {elsewhere}\r\n");
            let (server, asked) = listen(move |line| {
                if lists && line.starts_with("GET ") {
                    return response("200 OK", "Content-Type: application/json\r\n", r#"{"data":[{"id":"little"}]}"#);
                }
                response(status, &to, "")
            });
            let home = tempfile::tempdir().unwrap();
            let home = home.path();
            with_pairs(home);
            let chat = home.join("chat.jsonl");
            std::fs::write(&chat, "{\"messages\":[{\"role\":\"user\",\"content\":\"our private question\"}]}\n")
                .unwrap();
            json(home, &["import", "tone", chat.to_str().unwrap(), "--as", "prompts", "--json"]);
            let model = format!("http://{server}/v1#little");
            let (judge, llm) = (format!("judge:{model}"), format!("llm:{model}"));
            let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
            let own = own.to_str().unwrap();
            let key = ["--key-env", "OUR_KEY", "--retries", "0"];
            let eval = ["eval", "tone", "--a", own, "--b", own, "--limit", "1", "--max-new-tokens", "2"];
            let commands: [Vec<&str>; 4] = [
                [&["sample", "tone", "--per-prompt", "1", "--model", &model], &key[..]].concat(),
                [&["score", "tone", "--with", &judge, "--vote"], &key[..]].concat(),
                [
                    &[
                        "eval",
                        "tone",
                        "--a",
                        &model,
                        "--b",
                        own,
                        "--suite",
                        "winrate",
                        "--judge",
                        "check:contains=a",
                        "--limit",
                        "1",
                    ],
                    &key[..],
                ]
                .concat(),
                [&eval[..], &["--judge", &llm], &key[..]].concat(),
            ];
            for command in commands {
                asked.lock().unwrap().clear();
                let (code, said) = run(home, &command);
                let what = format!("{status}, {command:?}: {code:?} {said}");
                assert!(!asked.lock().unwrap().is_empty(), "nothing was asked: {what}");
                assert!(
                    asked.lock().unwrap().iter().all(|request| request.contains(KEY)),
                    "the server gets the key: {what}"
                );
                assert!(
                    said.contains("redirects to another address, status 3") && said.contains("name that address"),
                    "{what}"
                );
                assert!(!said.contains(KEY), "{what}");
            }
        }
    }
    assert_eq!(*stolen.lock().unwrap(), Vec::<String>::new(), "something reached the other host");
    // It would have heard.
    drop(TcpStream::connect(&other).unwrap());
    while stolen.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
}
