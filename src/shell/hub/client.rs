//! Requests to the hub: a repository's list of files, a file's length and checksum, a file's bytes from a position on.
//!
//! Owns redirects: they are followed here, so that the token goes to the hub's own address and to no other host.

use super::super::error::Error;
use super::fault::{HubFault, status, transport};
use super::place::HubPlace;
use super::reply::HubReply;
use super::repo::HubRepo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::io::Read;
use std::time::Duration;
use ureq::http::Uri;

/// The longest time to connect.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The longest silence of the hub.
const SILENCE: Duration = Duration::from_mins(1);
/// The most redirects of one request.
const MOST_REDIRECTS: usize = 8;
/// The most bytes of a list of files.
const MOST_LIST: u64 = 64 << 20;
/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// A client of the hub.
pub(super) struct HubClient<'p> {
    pub(super) place: &'p HubPlace,
    agent: ureq::Agent,
}

/// A revision of a repository.
pub(super) struct HubListing {
    /// Its commit.
    pub(super) commit: String,
    /// Its files.
    pub(super) files: Vec<String>,
}

/// A file's metadata.
#[derive(Debug, Clone)]
pub(super) struct FileFacts {
    /// Identifies its content: SHA-256 of a large file, another hash of a small one.
    pub(super) etag: String,
    /// Bytes, where the hub says so.
    pub(super) size: Option<u64>,
}

impl FileFacts {
    /// The SHA-256 that its bytes must have, if the hub told one.
    pub(super) fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit())).then_some(&self.etag)
    }
}

/// The answer of `/api/models/ORG/NAME/revision/REVISION`.
#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The bytes of a file from a position on.
pub(super) struct HubStream {
    /// The position of the first byte.
    pub(super) from: u64,
    /// How many bytes follow, where the server says so.
    pub(super) length: Option<u64>,
    pub(super) body: Box<dyn Read>,
}

impl<'p> HubClient<'p> {
    pub(super) fn new(place: &'p HubPlace) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("tiebreak/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIME))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        Self { place, agent: config.build().into() }
    }

    /// One request, not redirected. `from` asks for the bytes from there on.
    fn once(&self, head: bool, url: &str, from: Option<u64>) -> Result<(HubReply, ureq::Body), HubFault> {
        let mut request = if head { self.agent.head(url) } else { self.agent.get(url) };
        // Lengths and ranges count the file's own bytes.
        request = request.header("Accept-Encoding", "identity");
        if let Some(token) = self.place.token.as_ref().filter(|_| same_origin(url, &self.place.endpoint)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|e| transport(self.place, &e))?;
        let (parts, body) = response.into_parts();
        Ok((HubReply { status: parts.status.as_u16(), headers: parts.headers }, body))
    }

    /// A request, redirected until `enough` says that a reply is all that is needed, or to its end.
    fn follow(
        &self,
        head: bool,
        url: &str,
        from: Option<u64>,
        mut enough: impl FnMut(&HubReply) -> bool,
    ) -> Result<(HubReply, ureq::Body), HubFault> {
        let mut at = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let (reply, body) = self.once(head, &at, from)?;
            if enough(&reply) || !(300..400).contains(&reply.status) || reply.status == 304 {
                return Ok((reply, body));
            }
            let location = reply.header("location").and_then(|to| absolute(&at, &to));
            at = location.ok_or_else(|| {
                Error::failed(format!("{url} redirects to no address, status {}: check HF_ENDPOINT", reply.status))
            })?;
        }
        Err(Error::failed(format!("{url} redirects more than {MOST_REDIRECTS} times: check HF_ENDPOINT")).into())
    }

    /// The commit and the files of a revision.
    pub(super) fn list(&self, repo: &HubRepo) -> Result<HubListing, HubFault> {
        let url = format!("{}/api/{}", self.place.endpoint, repo.api_path());
        let (reply, body) = self.follow(false, &url, None, |_| false)?;
        if reply.status == 404 && reply.header("x-error-code").is_none() {
            // Which of the two is missing is asked for.
            let base = url.split("/revision/").next().unwrap_or(&url);
            let known = self.follow(false, base, None, |_| false)?.0.status == 200;
            return Err(HubFault::Missing(if known {
                format!("{} has no revision {}: correct what stands behind @", repo.id, repo.revision)
            } else {
                format!("there is no {} on {}: correct the name", repo.id, self.place.endpoint)
            }));
        }
        if reply.status != 200 {
            return Err(status(self.place, &repo.id, &format!("revision {}", repo.revision), &reply));
        }
        let mut text = Vec::new();
        let read = body.into_reader().take(MOST_LIST).read_to_end(&mut text);
        read.map_err(|e| HubFault::Passing(format!("the list of files of {} broke off ({e}): try again", repo.id)))?;
        let no_hub = |why: &str| {
            Error::failed(format!("{} is no Hugging Face hub ({why}): check HF_ENDPOINT", self.place.endpoint))
        };
        let info: Info = serde_json::from_slice(&text).map_err(|_| no_hub("its list of files is not JSON"))?;
        let commit = info.sha.filter(|sha| is_commit(sha)).ok_or_else(|| no_hub("its list of files has no commit"))?;
        Ok(HubListing { commit, files: info.siblings.into_iter().map(|file| file.rfilename).collect() })
    }

    /// The address of a file of a commit.
    fn url(&self, repo: &HubRepo, commit: &str, file: &str) -> String {
        let file = utf8_percent_encode(file, PATH);
        format!("{}/{}/resolve/{commit}/{file}", self.place.endpoint, repo.web_path())
    }

    /// A file's checksum and length.
    pub(super) fn facts(&self, repo: &HubRepo, commit: &str, file: &str) -> Result<FileFacts, HubFault> {
        let url = self.url(repo, commit, file);
        let (mut etag, mut size) = (None, None);
        let (reply, _) = self.follow(true, &url, None, |reply| {
            // The hub's own words come before those of the place where the bytes lie.
            etag = etag.take().or_else(|| reply.etag("x-linked-etag"));
            size = size.take().or_else(|| reply.number("x-linked-size"));
            etag.is_some() && size.is_some() && reply.status < 400
        })?;
        if reply.status >= 400 {
            return Err(status(self.place, &repo.id, file, &reply));
        }
        let size = size.or_else(|| reply.number("content-length").filter(|_| reply.status == 200));
        let etag = etag.or_else(|| reply.etag("etag")).ok_or_else(|| {
            Error::failed(format!(
                "{url} has no ETag: {} is no Hugging Face hub, check HF_ENDPOINT",
                self.place.endpoint
            ))
        })?;
        Ok(FileFacts { etag, size })
    }

    /// A file's bytes from a position on; none if there are none behind it.
    pub(super) fn bytes(
        &self,
        repo: &HubRepo,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Option<HubStream>, HubFault> {
        let url = self.url(repo, commit, file);
        let (reply, body) = self.follow(false, &url, Some(from).filter(|from| *from > 0), |_| false)?;
        let length = reply.number("content-length");
        match reply.status {
            200 => Ok(Some(HubStream { from: 0, length, body: Box::new(body.into_reader()) })),
            206 => {
                let range = reply.header("content-range").unwrap_or_default();
                let first = range.trim_start_matches("bytes ").split('-').next().and_then(|n| n.trim().parse().ok());
                if first != Some(from) {
                    let text = format!("{url} answers other bytes than those asked for ({range}): check HF_ENDPOINT");
                    return Err(Error::failed(text).into());
                }
                Ok(Some(HubStream { from, length, body: Box::new(body.into_reader()) }))
            }
            416 => Ok(None),
            _ => Err(status(self.place, &repo.id, file, &reply)),
        }
    }
}

/// Whether text is a commit's hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_lowercase(), port))
}

fn same_origin(a: &str, b: &str) -> bool {
    origin(a).is_some_and(|a| Some(a) == origin(b))
}

/// The address that a redirect from `at` names.
fn absolute(at: &str, to: &str) -> Option<String> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return Some(to.to_owned());
    }
    let uri: Uri = at.parse().ok()?;
    let base = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    match to {
        _ if to.starts_with("//") => Some(format!("{}:{to}", uri.scheme_str()?)),
        _ if to.starts_with('/') => Some(format!("{base}{to}")),
        _ => {
            let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            Some(format!("{base}{folder}/{to}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say_and_origins_differ_by_scheme_host_and_port() {
        let at = "https://hub.example/acme/tiny/resolve/main/a.json";
        for (to, full) in [
            ("https://cdn.example/x", "https://cdn.example/x"),
            ("/api/x?y=1", "https://hub.example/api/x?y=1"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("b.json", "https://hub.example/acme/tiny/resolve/main/b.json"),
        ] {
            assert_eq!(absolute(at, to).as_deref(), Some(full));
        }
        assert!(same_origin(at, "https://HUB.example:443"));
        for other in ["http://hub.example", "https://hub.example:8443", "https://hub.example.evil.net", "nothing"] {
            assert!(!same_origin(at, other), "{other}");
        }
    }
}
