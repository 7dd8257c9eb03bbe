//! Where the hub and its cache are: the environment variables that Python's `huggingface_hub` reads.
//!
//! Owns the token: read here, put into one header by the client, never printed.

use super::super::error::{Error, Result};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// The hub's own address.
const ENDPOINT: &str = "https://huggingface.co";

/// The settings of a download.
pub(super) struct HubPlace {
    /// The hub's address without a slash at its end.
    pub(super) endpoint: String,
    /// Sent to the endpoint alone.
    pub(super) token: Option<String>,
    /// The folder of `models--ORG--NAME` and `datasets--ORG--NAME`.
    pub(super) cache: PathBuf,
    /// Whether nothing may be sent.
    pub(super) offline: bool,
}

/// A variable with a value.
fn var(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn is_true(name: &str) -> bool {
    let on = |text: &str| ["1", "on", "yes", "true"].contains(&text.to_lowercase().as_str());
    var(name).is_some_and(|value| value.to_str().is_some_and(on))
}

impl HubPlace {
    /// Reads the environment.
    ///
    /// # Errors
    /// When an address or a token is unusable, or there is no home folder.
    pub(super) fn from_env() -> Result<Self> {
        let no_home = || Error::failed("HOME is not set: set it, or HF_HUB_CACHE to a folder for downloads");
        let home = || -> Result<PathBuf> {
            if let Some(home) = var("HF_HOME") {
                return Ok(home.into());
            }
            let cache = var("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache")));
            cache.map(|cache| cache.join("huggingface")).ok_or_else(no_home)
        };
        let cache = match var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE")) {
            Some(cache) => cache.into(),
            None => home()?.join("hub"),
        };
        let cache = std::path::absolute(&cache).map_err(|e| Error::io("find", &cache, e))?;
        let endpoint = var("HF_ENDPOINT").map_or_else(|| ENDPOINT.into(), |value| value.to_string_lossy().into_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::failed(format!(
                "HF_ENDPOINT is `{endpoint}`, which is no address: write it as {ENDPOINT}, or unset it"
            )));
        }
        Ok(Self { endpoint, token: token(home)?, cache, offline: is_true("HF_HUB_OFFLINE") })
    }
}

/// The token of HF_TOKEN, else of the file that a login wrote.
fn token(home: impl Fn() -> Result<PathBuf>) -> Result<Option<String>> {
    let usable = |text: &str, from: &str| {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Some(text.to_owned()));
        }
        Err(Error::failed(format!("the token in {from} has spaces or special characters: set it again")))
    };
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(value) = var(name) {
            return usable(&value.to_string_lossy(), name);
        }
    }
    if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let path = match var("HF_TOKEN_PATH") {
        Some(path) => path.into(),
        None => match home() {
            Ok(home) => home.join("token"),
            Err(_) => return Ok(None),
        },
    };
    match crate::foreign::read_text(&path, crate::foreign::CONFIG) {
        Ok(text) => usable(&text, &path.display().to_string()),
        Err(_) => Ok(None),
    }
}
