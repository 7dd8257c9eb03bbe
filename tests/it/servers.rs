//! Candidates and verdicts from servers: real processes against a small HTTP server in this one, which plays every fault.

use crate::cli::{json, text, tiebreak, with_pairs};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tiebreak::domain::{Choice, Completion, Finding, Finish, Pair, Rater, RunId, Side};
use tiebreak::protocol::{Growing, RunEvent};
use tiebreak::storage::{Home, RunDir, SessionDir};

const PATIENCE: Duration = Duration::from_mins(2);

/// What the server was asked: the last message of each chat, and the key of each request.
#[derive(Default)]
struct Asked {
    prompts: Vec<String>,
    keys: Vec<String>,
}

/// A server with the model `little`. The prompt's first word says what it plays.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Asked>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Asked::default()));
        let shared = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = shared.clone();
                std::thread::spawn(move || serve(stream, &asked));
            }
        });
        Self { url, asked }
    }

    /// How often each prompt was asked.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        self.asked.lock().unwrap().prompts.iter().for_each(|p| *out.entry(p.clone()).or_default() += 1);
        out
    }

    pub fn model(&self) -> String {
        format!("{}#little", self.url)
    }
}

fn respond(stream: &mut TcpStream, status: &str, kind: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n");
    let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
}

fn stream_of(parts: &[Value], done: bool) -> String {
    let end = done.then(|| "data: [DONE]".to_owned());
    let parts = parts.iter().map(|p| format!("data: {p}")).chain(end).collect::<Vec<_>>();
    parts.join("\n\n") + "\n\n"
}

fn delta(key: &str, words: &str, finish: Option<&str>) -> Value {
    object!({ "system_fingerprint": "fp-1", "choices": [{ "index": 0, "delta": { key: words }, "finish_reason": finish }] })
}

fn serve(mut stream: TcpStream, asked: &Mutex<Asked>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    // A TLS handshake begins with no letter: answered as servers without TLS do.
    if !reader.fill_buf().is_ok_and(|bytes| bytes.first().is_some_and(u8::is_ascii_alphabetic)) {
        return respond(&mut stream, "400 Bad Request", "text/plain", "no HTTP");
    }
    let (mut first, mut length, mut key) = (String::new(), 0, String::new());
    reader.read_line(&mut first).unwrap_or_default();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        if line.to_lowercase().starts_with("authorization:") {
            line["authorization:".len()..].trim().clone_into(&mut key);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    asked.lock().unwrap().keys.push(key.clone());
    if first.starts_with("GET /v1/models") {
        let list = object!({ "object": "list", "data": [{ "id": "little", "owned_by": "test" }, { "id": "other" }] });
        return respond(&mut stream, "200 OK", "application/json", &list.to_string());
    }
    if !first.starts_with("POST /v1/chat/completions") {
        return respond(&mut stream, "404 Not Found", "text/html", "<html>nothing here</html>");
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    let prompt = request["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    let times = {
        let mut asked = asked.lock().unwrap();
        asked.prompts.push(prompt.clone());
        asked.prompts.iter().filter(|p| **p == prompt).count()
    };
    if request["logprobs"] == true {
        return respond(&mut stream, "200 OK", "application/json", &letters(&prompt).to_string());
    }
    let events = "text/event-stream";
    let answer = |stream: &mut TcpStream, words: &str| {
        let parts = [delta("content", "Here: ", None), delta("content", words, Some("stop"))];
        let usage = object!({ "choices": [], "usage": { "completion_tokens": 5 } });
        respond(stream, "200 OK", events, &stream_of(&[parts[0].clone(), parts[1].clone(), usage], true));
    };
    let seed = request["seed"].as_u64().unwrap();
    let word = prompt.split(' ').next().unwrap();
    match word {
        "slow" => {
            std::thread::sleep(Duration::from_millis(150));
            answer(&mut stream, &prompt);
        }
        "drip" => {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {events}\r\nConnection: close\r\n\r\n");
            for n in 0..24 {
                let part = delta("content", &format!("{seed} drop {n}, "), (n == 23).then_some("stop"));
                if write!(stream, "data: {part}\n\n").and_then(|()| stream.flush()).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            let _ = write!(stream, "data: [DONE]\n\n");
        }
        // As llama-cpp-python's server: another request, be it for the list of models, ends the answer.
        "frail" => {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {events}\r\nConnection: close\r\n\r\n");
            let before = asked.lock().unwrap().keys.len();
            for n in 0..8 {
                let last = n == 7;
                let part = delta("content", &format!("{seed} part {n}, "), last.then_some("stop"));
                let _ = write!(stream, "data: {part}\n\n").and_then(|()| stream.flush());
                std::thread::sleep(Duration::from_millis(100));
                if asked.lock().unwrap().keys.len() > before {
                    break;
                }
            }
            let _ = write!(stream, "data: [DONE]\n\n");
        }
        "busy" if times == 1 => respond(&mut stream, "429 Too Many Requests\r\nRetry-After: 0", "text/plain", "later"),
        "flaky" if times == 1 => respond(&mut stream, "503 Service Unavailable", "text/plain", "loading"),
        "hangup" if times == 1 => {}
        "cut" if times == 1 => {
            respond(&mut stream, "200 OK", events, &stream_of(&[delta("content", "Half an", None)], false));
        }
        "nonsense" => respond(&mut stream, "200 OK", events, "data: {not json\n\n"),
        "page" => respond(&mut stream, "200 OK", "text/html", "<html>login</html>"),
        "none" => respond(&mut stream, "200 OK", "application/json", "{\"choices\":[]}"),
        "long" => {
            let body = "{\"error\":{\"message\":\"the prompt has 9999 tokens\"}}";
            respond(&mut stream, "400 Bad Request", "application/json", body);
        }
        "limit" => {
            respond(&mut stream, "200 OK", events, &stream_of(&[delta("content", "So long", Some("length"))], true));
        }
        "think" => {
            let parts = [delta("reasoning_content", "Hmm.", None), delta("content", "Yes.", Some("stop"))];
            respond(&mut stream, "200 OK", events, &stream_of(&parts, true));
        }
        "key" => {
            let body = object!({ "error": { "message": format!("wrong key: {key}") } });
            respond(&mut stream, "400 Bad Request", "application/json", &body.to_string());
        }
        "echo" => answer(&mut stream, &key),
        _ => answer(&mut stream, &format!("{prompt} {seed}")),
    }
}

/// The judge's log-probs: the answer with the word `good` is better; where both have it, the first one.
fn letters(question: &str) -> Value {
    let b = question.split("[Answer B]").nth(1).unwrap();
    let a = question.split("[Answer A]").nth(1).unwrap().split("[Answer B]").next().unwrap();
    let better_b = b.contains("good") && !a.contains("good");
    let (p, q) = if better_b { (0.05_f64, 0.9_f64) } else { (0.9, 0.05) };
    let top = object!([{ "token": "A", "logprob": p.ln() }, { "token": "B", "logprob": q.ln() }]);
    object!({ "choices": [{ "message": { "content": "A" }, "logprobs": { "content": [{ "token": "A", "top_logprobs": top }] } }] })
}

pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama")
}

pub fn session(home: &Path, prompts: &[String]) {
    let file = home.join("prompts.txt");
    fs::write(&file, prompts.join("\n")).unwrap();
    let model = tiny();
    let args = ["new", "s", "--model", model.to_str().unwrap(), "--prompts", file.to_str().unwrap(), "--json"];
    assert!(tiebreak(home, &args).status.success());
}

pub fn run(home: &Path, id: &str) -> RunDir {
    let home = Home::resolve(Some(home)).unwrap();
    SessionDir::find(&home, "s").unwrap().run(&RunId::new(id)).unwrap()
}

pub fn events(run: &RunDir) -> Vec<RunEvent> {
    run.tail().poll().unwrap().into_iter().filter_map(|e| e.data.ok()).collect()
}

fn completions(events: &[RunEvent]) -> Vec<Completion> {
    events.iter().filter_map(|e| if let RunEvent::Completed(c) = e { Some(c.as_ref().clone()) } else { None }).collect()
}

pub fn found<'a>(events: &'a [RunEvent], rule: &str) -> Option<&'a Finding> {
    events.iter().find_map(|e| if let RunEvent::Found(f) = e { Some(f).filter(|f| f.rule == rule) } else { None })
}

/// Samples and follows to the end; returns what was said.
fn sample(home: &Path, model: &str, more: &[&str]) -> String {
    let args = [&["sample", "s", "--model", model, "--retries", "1"], more].concat();
    let output = tiebreak(home, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn faults_are_repeated_and_what_cannot_be_had_is_counted() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let words = ["plain", "busy", "flaky", "hangup", "cut", "nonsense", "page", "none", "long", "limit", "think"];
    session(home, &words.map(|w| format!("{w} question")));
    let said = sample(home, &server.model(), &["--per-prompt", "1", "--max-new-tokens", "9"]);
    assert!(said.contains("7 of 11 answers; 4 left out:"), "{said}");
    assert!(said.contains("9999 tokens") && said.contains("invalid JSON") && said.contains("web page"), "{said}");
    let events = events(&run(home, "sample-1"));
    let made = completions(&events);
    assert_eq!(made.len(), 7);
    let of = |prompt: usize| made.iter().find(|c| c.prompt.as_str() == format!("p{prompt}")).unwrap();
    assert!(of(1).text.starts_with("Here: plain question"), "{:?}", of(1));
    assert_eq!((of(1).finish, of(1).tokens, of(10).finish), (Finish::Eos, 5, Finish::Length));
    assert_eq!(
        *of(5).text,
        "Here: cut question ".to_owned() + of(5).text.rsplit(' ').next().unwrap(),
        "no half answer"
    );
    assert_eq!(&*of(11).text, "<think>\nHmm.\n</think>\n\nYes.");
    assert!(found(&events, "thoughts_kept").is_some() && found(&events, "server_weights").is_some());
    let counts = server.counts();
    for (word, times) in [("plain", 1), ("busy", 2), ("cut", 2), ("nonsense", 2), ("long", 1), ("hangup", 2)] {
        assert_eq!(counts[&format!("{word} question")], times, "{word}");
    }
    let printed =
        events.iter().any(|e| matches!(e, RunEvent::Answered(a) if a.system_fingerprint.as_deref() == Some("fp-1")));
    assert!(printed);
    let inputs = fs::read_to_string(run(home, "sample-1").path().join("inputs.json")).unwrap();
    assert!(inputs.contains(&server.url) && inputs.contains("owned_by"), "{inputs}");
}

/// The answers in a run's log, in order.
fn answered(dir: &RunDir) -> Vec<String> {
    let id =
        |e: &RunEvent| if let RunEvent::Answered(a) = e { Some(a.completion.id.as_str().to_owned()) } else { None };
    events(dir).iter().filter_map(id).collect()
}

/// The process of the latest attempt.
pub fn worker_of(dir: &RunDir) -> u32 {
    let pid = |e: &RunEvent| if let RunEvent::Started { pid, .. } = e { Some(*pid) } else { None };
    events(dir).iter().rev().find_map(pid).unwrap()
}

pub fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A run that asks twice for each of 12 prompts, four requests at a time.
fn slow_run(home: &Path, server: &Server) -> RunDir {
    session(home, &(0..12).map(|i| format!("slow {i}")).collect::<Vec<_>>());
    let args = ["sample", "s", "--model", &server.model(), "--per-prompt", "2", "--in-flight", "4", "--detach"];
    assert!(tiebreak(home, &args).status.success());
    run(home, "sample-1")
}

/// Checks that the run has each answer once, and that so many requests were sent.
fn check_answers(home: &Path, dir: &RunDir, server: &Server, requests: usize) {
    until("the run finishes", || events(dir).iter().any(|e| matches!(e, RunEvent::Finished { .. })));
    let all = answered(dir);
    let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (24, 24), "every answer is in the log once");
    assert_eq!(server.counts().values().sum::<usize>(), requests, "{:?}", server.counts());
    // One that is in the log may not have been sent before the kill.
    let sent = events(dir).iter().filter(|e| matches!(e, RunEvent::Requested { .. })).count();
    assert!(sent >= requests, "the log holds every request");
    let checked = json(home, &["replay", "s", "--check", "--json"]);
    assert_eq!(checked["ok"], true, "{checked}");
    until("the worker ends", || !dir.is_alive());
    assert!(!dir.path().join("asked.jsonl").exists(), "all of its lines are in the log");
}

#[test]
fn a_killed_run_sends_no_request_twice() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let dir = slow_run(home, &server);
    let mut kept = 0;
    for kills in 1..=5 {
        until("answers come", || answered(&dir).len() >= 4 * kills);
        kill(worker_of(&dir));
        until("it is dead", || !dir.is_alive());
        assert!(tiebreak(home, &["resume", "s/sample-1"]).status.success());
        until("the next one starts", || {
            events(&dir).iter().filter(|e| matches!(e, RunEvent::Started { .. })).count() > kills
        });
    }
    check_answers(home, &dir, &server, 24);
    for event in &events(&dir) {
        if let RunEvent::Found(Finding { rule, text, .. }) = event
            && rule == "answers_kept"
        {
            kept += text.split(' ').next().unwrap().parse::<usize>().unwrap();
        }
    }
    assert!((1..=20).contains(&kept), "four requests were under way at each of five kills, {kept} are said to be kept");
}

/// The worker that resumes asks such a server for nothing, not even its models, while it still writes an answer.
#[test]
fn a_server_that_drops_answers_is_left_alone_until_it_has_written_them() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &(0..4).map(|i| format!("frail {i}")).collect::<Vec<_>>());
    let args = ["sample", "s", "--model", &server.model(), "--per-prompt", "1", "--in-flight", "1", "--detach"];
    assert!(tiebreak(home, &args).status.success());
    let dir = run(home, "sample-1");
    until("an answer comes", || !answered(&dir).is_empty());
    let asked = server.counts().len();
    until("the next one is asked for", || server.counts().len() > asked);
    kill(worker_of(&dir));
    until("it is dead", || !dir.is_alive());
    assert!(tiebreak(home, &["resume", "s/sample-1"]).status.success());
    until("the run finishes", || events(&dir).iter().any(|e| matches!(e, RunEvent::Finished { .. })));
    assert!(server.counts().values().all(|n| *n == 1), "{:?}", server.counts());
    assert_eq!(answered(&dir).len(), 4);
    assert!(found(&events(&dir), "answers_awaited").is_some());
}

#[test]
fn a_stopped_run_sends_no_request_twice() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let dir = slow_run(home, &server);
    until("answers come", || answered(&dir).len() >= 4);
    assert!(tiebreak(home, &["stop", "s/sample-1"]).status.success());
    until("it ends", || !dir.is_alive());
    assert!(answered(&dir).len() < 24, "stopped in the middle");
    assert!(tiebreak(home, &["resume", "s/sample-1"]).status.success());
    check_answers(home, &dir, &server, 24);
}

#[test]
fn requests_that_were_lost_with_their_process_are_counted_and_sent_again() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let dir = slow_run(home, &server);
    until("answers come", || answered(&dir).len() >= 4);
    let worker = worker_of(&dir);
    let asking = tiebreak::storage::lock_holder(&dir.path().join("asked.lock")).unwrap().pid;
    assert_ne!(asking, worker);
    kill(worker);
    kill(asking);
    until("both are dead", || !dir.is_alive() && !dir.asked().is_under_way());
    assert!(tiebreak(home, &["resume", "s/sample-1"]).status.success());
    until("the run finishes", || events(&dir).iter().any(|e| matches!(e, RunEvent::Finished { .. })));
    let events = events(&dir);
    let said = found(&events, "asked_again").map_or(0, |f| f.text.split(' ').next().unwrap().parse().unwrap());
    assert!((1..=4).contains(&said), "{said}");
    let all = answered(&dir);
    assert_eq!((all.len(), all.iter().collect::<std::collections::BTreeSet<_>>().len()), (24, 24));
    let (asked, logged) =
        (server.counts().values().sum::<usize>(), |e: &&RunEvent| matches!(e, RunEvent::Requested { .. }));
    assert_eq!(events.iter().filter(logged).count(), 24 + said, "the log holds every request");
    // None of those in the log may have been sent yet.
    assert!((24..=24 + said).contains(&asked), "{asked} requests, {said} said to be sent again");
}

/// A worker whose asking process dies under it ends with the remedy, and loses nothing.
#[test]
fn a_run_whose_asking_process_dies_says_so_and_resumes() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let dir = slow_run(home, &server);
    until("answers come", || answered(&dir).len() >= 4);
    kill(tiebreak::storage::lock_holder(&dir.path().join("asked.lock")).unwrap().pid);
    until("the worker ends", || !dir.is_alive());
    let Some(RunEvent::Failed { error, .. }) = events(&dir).pop() else { panic!("{:?}", events(&dir).last()) };
    assert!(error.contains("resume the run"), "{error}");
    assert!(tiebreak(home, &["resume", "s/sample-1"]).status.success());
    until("the run finishes", || events(&dir).iter().any(|e| matches!(e, RunEvent::Finished { .. })));
    assert_eq!(answered(&dir).len(), 24);
}

/// What a live run shows of its answers, until it is over; each state once.
fn watched(dir: &RunDir) -> Vec<Growing> {
    let (mut tail, mut seen, start) = (dir.growing(), Vec::new(), Instant::now());
    while !events(dir).iter().any(|e| matches!(e, RunEvent::Finished { .. })) {
        assert!(start.elapsed() < PATIENCE, "it never finished");
        seen.extend(tail.poll().filter(|growing| !growing.is_empty()));
        std::thread::sleep(Duration::from_millis(20));
    }
    while dir.is_alive() {
        std::thread::sleep(Duration::from_millis(10));
    }
    seen
}

#[test]
fn answers_of_a_server_can_be_read_while_they_arrive_and_leave_nothing_behind() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &["drip a".to_owned(), "drip b".to_owned()]);
    let args = ["sample", "s", "--model", &server.model(), "--per-prompt", "2", "--in-flight", "2", "--detach"];
    assert!(tiebreak(home, &args).status.success());
    let dir = run(home, "sample-1");
    let seen = watched(&dir);
    let (made, log) = (completions(&events(&dir)), fs::read_dir(dir.path().join("metrics")).unwrap());
    assert_eq!(made.len(), 4);
    let mut lengths: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for growing in &seen {
        for answer in &growing.answers {
            let whole = &made.iter().find(|c| c.id == answer.completion).unwrap().text;
            assert!(whole.starts_with(&answer.text) && !answer.text.is_empty(), "{answer:?} {whole}");
            assert!(!answer.ended || **whole == *answer.text);
            lengths.entry(answer.completion.to_string()).or_default().push(answer.text.len());
        }
    }
    let grew = |all: &Vec<usize>| all.len() >= 3 && all.is_sorted() && all[0] < all[all.len() - 1];
    assert!(lengths.len() == 4 && lengths.values().all(grew), "{lengths:?}");
    let paired: Vec<Pair> = events(&dir)
        .into_iter()
        .filter_map(|e| if let RunEvent::Paired(p) = e { Some(p.as_ref().clone()) } else { None })
        .collect();
    assert!(seen.iter().flat_map(|g| &g.pairs).all(|pair| paired.contains(pair)), "the pairs that will be");
    // At most five states a second, and nothing of them in the log or beside it.
    assert!(!dir.path().join("growing.json").exists());
    let bytes: u64 = log.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 20_000, "{bytes} bytes of log for four short answers");
}

#[test]
fn models_take_turns_and_only_the_log_names_them() {
    let (one, two) = (Server::start(), Server::start());
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &["plain a".into(), "plain b".into()]);
    let local = tiny();
    let more =
        ["--model", local.to_str().unwrap(), "--model", &two.model(), "--per-prompt", "6", "--max-new-tokens", "6"];
    sample(home, &one.model(), &more);
    let made = completions(&events(&run(home, "sample-1")));
    for c in &made {
        let k: usize = c.id.as_str().rsplit('.').next().unwrap().parse().unwrap();
        match k % 3 {
            0 => assert!(c.model.ends_with("tiny-llama"), "{c:?}"),
            n => {
                let server = if n == 1 { &one } else { &two };
                let host = server.url.trim_start_matches("http://").trim_end_matches("/v1");
                assert_eq!(c.model, format!("little@{host}"));
            }
        }
    }
    assert_eq!((one.counts()["plain a"], two.counts()["plain b"]), (2, 2));
    assert!(made.iter().filter(|c| c.model.starts_with("little")).count() == 8, "seeds differ: {made:?}");
}

/// Every file under a folder that holds a text.
fn files_with(dir: &Path, needle: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(files_with(&path, needle));
        } else if fs::read(&path).unwrap().windows(needle.len()).any(|w| w == needle.as_bytes()) {
            out.push(path);
        }
    }
    out
}

#[test]
fn a_key_is_in_no_file_and_no_message() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &["key a".into(), "echo b".into()]);
    let secret = "sk-3f9c1a77e0";
    let model = server.model();
    let args = ["sample", "s", "--model", &model, "--key-env", "OUR_KEY", "--per-prompt", "1", "--retries", "0"];
    let with = |value: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
        command.args(args).env("TIEBREAK_HOME", home).env_remove("OUR_KEY");
        if let Some(value) = value {
            command.env("OUR_KEY", value);
        }
        command.output().unwrap()
    };
    let missing = with(None);
    assert!(text(&missing.stderr).contains("the environment variable OUR_KEY is not set"), "{}", text(&missing.stderr));
    let output = with(Some(secret));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.contains("wrong key: Bearer [key]"), "{said}");
    assert!(!said.contains(secret), "{said}");
    assert!(server.asked.lock().unwrap().keys.iter().all(|key| key == &format!("Bearer {secret}")));
    assert_eq!(files_with(home, secret), Vec::<PathBuf>::new());
    assert!(!files_with(home, "OUR_KEY").is_empty(), "its name is recorded");
    // A session that came from elsewhere cannot have a key sent to a server of its choice.
    fs::remove_file(home.join("server-keys.txt")).unwrap();
    let log = run(home, "sample-1").path().join("metrics/000001.jsonl");
    let text_of_log = fs::read_to_string(&log).unwrap();
    let unfinished: Vec<&str> = text_of_log.lines().filter(|l| !l.contains("\"finished\"")).collect();
    fs::write(&log, unfinished.join("\n") + "\n").unwrap();
    let resumed = tiebreak(home, &["resume", "s/sample-1"]);
    assert!(text(&resumed.stderr).contains("if you trust that server"), "{}", text(&resumed.stderr));
}

#[test]
fn what_cannot_work_is_refused_before_there_is_a_run() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &["plain".into()]);
    let root = server.url.trim_end_matches("/v1").to_owned();
    for (model, words) in [
        (format!("{}#litle", server.url), &["did you mean `little`?"][..]),
        (server.url.clone(), &["little, other", "#NAME"]),
        (format!("{root}#little"), &["answers under", "/v1#NAME"]),
        ("http://127.0.0.1:9/v1#m".into(), &["http://127.0.0.1:9/v1 is not running"]),
        (format!("{}#little", server.url.replace("http:", "https:")), &["secure connection", "http://"]),
        ("http://me:pass@h/v1#m".into(), &["--key-env"]),
    ] {
        let output = tiebreak(home, &["sample", "s", "--model", &model]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.trim_end().lines().count() == 1, "{model}: {said}");
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("pass@"), "{model}: {said}");
    }
    assert_eq!(fs::read_dir(home.join("sessions/s/runs")).map_or(0, Iterator::count), 0);
}

#[test]
fn a_judge_is_asked_in_both_orders_and_each_pair_once() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    // Pairs `good`/`bad` and `fine`/`poor`: of the second, the judge always prefers the first.
    with_pairs(home);
    let judge = format!("judge:{}", server.model());
    let output = tiebreak(home, &["score", "tone", "--with", &judge, "--vote"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(said.contains("2 pairs judged") && said.contains("(1 tie)") && said.contains("decided 1 (50 %)"), "{said}");
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "tone").unwrap();
    let (state, _) = dir.state().unwrap();
    let host = server.url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let rater = Rater::new(format!("model:judge:little@{host}"));
    assert!(rater.is_model());
    for pair in state.pairs() {
        let (a, _) = state.sides(pair).unwrap();
        let choice = state.verdict_of(&pair.id, &rater).unwrap().1.choice;
        let wanted = state.completion(&pair.a).map(|c| c.text.contains("good"));
        match (choice, wanted) {
            (Choice::Prefer(Side::A, _), Some(true)) | (Choice::Tie, _) => {}
            (Choice::Prefer(Side::B, _), Some(false)) => {}
            other => panic!("{other:?} for {a:?}"),
        }
    }
    let asked = server.asked.lock().unwrap().prompts.len();
    assert_eq!(asked, 4, "two pairs in two orders");
    let again = text(&tiebreak(home, &["score", "tone", "--with", &judge, "--vote"]).stdout);
    assert!(again.contains("0 pairs judged") && again.contains("2 judged before"), "{again}");
    assert_eq!(server.asked.lock().unwrap().prompts.len(), asked);
    let alone = tiebreak(home, &["score", "tone", "--with", &judge]);
    assert!(text(&alone.stderr).contains("--vote"));
    let model = format!("judge:{}", tiny().display());
    let local = tiebreak(home, &["score", "tone", "--with", &model, "--vote", "--json"]);
    assert!(local.status.success(), "{}", text(&local.stderr));
    let lines: Vec<Value> = text(&local.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert!(line["from"]["mass"].as_f64().unwrap() > 0.0 && line["rater"] == "model:judge:tiny-llama", "{line}");
    }
    assert_eq!(json(home, &["replay", "tone", "--check", "--json"])["ok"], true);
}

#[test]
fn a_preference_run_scores_answers_and_judges_pairs() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let set = ["--set", "max_steps=4", "--set", "eval_fraction=0", "--set", "learning_rate=1e-3"];
    let train = [&["train", "tone", "dpo", "--device", "cpu"], &set[..]].concat();
    let output = tiebreak(home, &train);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = tiebreak(home, &["score", "tone", "--with", "dpo-1", "--vote", "--tie-band", "0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("2 pairs judged by model:dpo-1") && said.contains("4 answers scored by dpo-1"), "{said}");
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "tone").unwrap();
    let (state, _) = dir.state().unwrap();
    let (run, rater) = (RunId::new("dpo-1"), Rater::new("model:dpo-1"));
    for pair in state.pairs() {
        let gap = state.score_by(&run, &pair.a).unwrap() - state.score_by(&run, &pair.b).unwrap();
        let Choice::Prefer(side, _) = state.verdict_of(&pair.id, &rater).unwrap().1.choice else { panic!("a tie") };
        assert_eq!(side == Side::A, gap > 0.0);
        // Four steps on these two pairs are enough to prefer what was chosen.
        let person = state.counting(&pair.id).into_iter().find(|(_, v)| v.rater.is_import()).unwrap().1.choice;
        assert!(matches!(person, Choice::Prefer(chosen, _) if chosen == side), "{person:?} {gap}");
    }
    let refused = tiebreak(home, &["label", "tone", "--rater", "model:me"]);
    assert!(text(&refused.stderr).contains("cannot begin with `model:`"), "{}", text(&refused.stderr));
    let pairs = tiebreak(home, &["pair", "tone", "--strategy", "best_worst", "--score", "judge:nobody"]);
    assert!(text(&pairs.stderr).contains("no pair has a verdict of the judge nobody"), "{}", text(&pairs.stderr));
}
