//! A response of the hub without its body: its status and its headers.

/// A response without its body.
pub(super) struct HubReply {
    pub(super) status: u16,
    pub(super) headers: ureq::http::HeaderMap,
}

impl HubReply {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// An ETag without quotes and weakness.
    pub(super) fn etag(&self, name: &str) -> Option<String> {
        let text = self.header(name)?;
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        (!text.is_empty()).then(|| text.to_owned())
    }
}
