//! A server that speaks the hub's paths: lists of files, `resolve` with the hub's headers, ranges, redirects, and faults.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Sends that many bytes of each answer, then closes.
    CutAfter(usize),
    /// Says another length than it has.
    WrongLength,
    /// Says the checksum of other bytes.
    WrongSum,
    /// Sends it from another host.
    Elsewhere,
    /// Names another path of the same host, relative.
    Relative,
    /// Has no such file although it is listed.
    Gone,
}

/// What the server answers.
#[derive(Debug, Default)]
pub struct State {
    /// `models/acme/tiny` to its files.
    pub repos: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Trouble by file name.
    pub trouble: BTreeMap<String, Trouble>,
    /// Answers every request with this status and `X-Error-Code`.
    pub refuse: Option<(u16, &'static str)>,
    /// Where [`Trouble::Elsewhere`] redirects to.
    pub elsewhere: String,
    /// Requests, as `METHOD PATH`, with the range and the token.
    pub asked: Vec<(String, Option<String>, Option<String>)>,
}

/// A running server.
pub struct Server {
    pub url: String,
    pub state: Arc<Mutex<State>>,
}

impl Server {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { url, state }
    }

    pub fn with(&self, repo: &str, files: &[(&str, &[u8])]) {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        self.state.lock().unwrap().repos.insert(repo.into(), files);
    }

    pub fn trouble(&self, file: &str, trouble: Trouble) {
        self.state.lock().unwrap().trouble.insert(file.into(), trouble);
    }

    pub fn asked(&self) -> Vec<(String, Option<String>, Option<String>)> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn respond(stream: &mut TcpStream, status: u16, headers: &[(&str, String)], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(body);
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let mut parts = first.split(' ');
    let (method, path) = (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned());
    let (mut range, mut token) = (None, None);
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        match name.to_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => token = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut state = state.lock().unwrap();
    state.asked.push((format!("{method} {path}"), range.clone(), token));
    let none = |stream: &mut TcpStream, status: u16, code: &str| {
        let code = if code.is_empty() { vec![] } else { vec![("X-Error-Code", code.to_owned())] };
        let mut headers = vec![("Content-Length", "0".to_owned())];
        headers.extend(code);
        respond(stream, status, &headers, b"");
    };
    if let Some((status, code)) = state.refuse {
        return none(&mut stream, status, code);
    }
    if let Some(api) = path.strip_prefix("/api/") {
        let (repo, revision) = api.split_once("/revision/").unwrap_or((api, "main"));
        let Some(files) = state.repos.get(repo) else { return none(&mut stream, 404, "RepoNotFound") };
        if !["main", COMMIT, "refs%2Fpr%2F1"].contains(&revision) {
            return none(&mut stream, 404, "RevisionNotFound");
        }
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "id": repo, "sha": COMMIT, "siblings": siblings }).to_string();
        return respond(&mut stream, 200, &[("Content-Length", body.len().to_string())], body.as_bytes());
    }
    let path = path.trim_start_matches("/moved");
    let Some((repo, file)) = path.trim_start_matches('/').split_once("/resolve/") else {
        return none(&mut stream, 404, "");
    };
    let repo = if repo.starts_with("datasets/") { repo.to_owned() } else { format!("models/{repo}") };
    let file = file.split_once('/').unwrap().1.to_owned();
    let file = percent_encoding::percent_decode_str(&file).decode_utf8().unwrap().into_owned();
    let trouble = state.trouble.get(&file).copied().unwrap_or(Trouble::None);
    let bytes = state.repos.get(&repo).and_then(|files| files.get(&file)).cloned();
    let elsewhere = state.elsewhere.clone();
    drop(state);
    let Some(bytes) = bytes.filter(|_| trouble != Trouble::Gone) else {
        return none(&mut stream, 404, "EntryNotFound");
    };
    let size = if trouble == Trouble::WrongLength { bytes.len() + 7 } else { bytes.len() };
    let digest = if trouble == Trouble::WrongSum { sum(b"others") } else { sum(&bytes) };
    let mut headers = vec![
        ("X-Repo-Commit", COMMIT.to_owned()),
        ("X-Linked-Etag", format!("\"{digest}\"")),
        ("X-Linked-Size", size.to_string()),
        ("ETag", format!("W/\"{digest}\"")),
        ("Accept-Ranges", "bytes".to_owned()),
    ];
    let to = match trouble {
        Trouble::Elsewhere => Some(format!("{elsewhere}{path}")),
        Trouble::Relative if !first.contains(" /moved") => Some(format!("/moved{path}")),
        _ => None,
    };
    if let Some(to) = to {
        headers.extend([("Location", to), ("Content-Length", "0".into())]);
        return respond(&mut stream, 302, &headers, b"");
    }
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse::<usize>().ok());
    let status = if from.is_some() { 206 } else { 200 };
    let rest = match bytes.get(from.unwrap_or(0)..) {
        Some(rest) if !rest.is_empty() => rest,
        _ => return none(&mut stream, 416, ""),
    };
    if let Some(from) = from {
        headers.push(("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
    }
    headers.push(("Content-Length", rest.len().to_string()));
    let sent = match trouble {
        Trouble::CutAfter(n) => &rest[..n.min(rest.len())],
        _ => rest,
    };
    respond(&mut stream, status, &headers, if method == "HEAD" { b"" } else { sent });
}
