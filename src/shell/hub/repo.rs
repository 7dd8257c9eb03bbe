//! A repository's addresses on the hub and its folders in the cache.

use super::place::HubPlace;
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::path::PathBuf;

/// A repository at a revision.
#[derive(Debug, Clone)]
pub(super) struct HubRepo {
    /// `ORG/NAME`.
    pub(super) id: String,
    /// A branch, a tag, or a commit.
    pub(super) revision: String,
    pub(super) kind: RepoType,
}

impl HubRepo {
    fn of_crate(&self) -> Repo {
        Repo::with_revision(self.id.clone(), self.kind, self.revision.clone())
    }

    /// The path of its list of files behind `/api/`.
    pub(super) fn api_path(&self) -> String {
        let kind = if matches!(self.kind, RepoType::Dataset) { "datasets" } else { "models" };
        format!("{kind}/{}/revision/{}", self.id, self.revision.replace('/', "%2F"))
    }

    /// The path of its pages.
    pub(super) fn web_path(&self) -> String {
        if matches!(self.kind, RepoType::Dataset) { format!("datasets/{}", self.id) } else { self.id.clone() }
    }

    /// Its folder in the cache.
    pub(super) fn folder(&self, place: &HubPlace) -> PathBuf {
        place.cache.join(self.of_crate().folder_name())
    }

    /// Its place in the cache, as `hf-hub` knows it.
    pub(super) fn cached(&self, place: &HubPlace) -> CacheRepo {
        Cache::new(place.cache.clone()).repo(self.of_crate())
    }

    /// The command that gets all of it.
    pub(super) fn is_data(&self) -> bool {
        matches!(self.kind, RepoType::Dataset)
    }
}
