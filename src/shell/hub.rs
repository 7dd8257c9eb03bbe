//! The Hugging Face hub by name: `models get ORG/NAME` and `data get ORG/NAME`, into the cache that Python's `huggingface_hub` uses.
//!
//! Owns names, settings, requests, downloads and the choice of files. Refuses to read what it downloads, but for a weight index
//! and a data card. Addresses, folders and refs of the cache are the crate `hf-hub`'s. Its client is not used: it sends the
//! token to the hosts that files are redirected to, checks neither length nor checksum, follows names out of the cache, and
//! panics on odd answers.
//!
//! **Invariants.** A file gets its final name only with the hub's length, and with its SHA-256 where the hub tells one. Nothing is
//! written outside the cache. The token goes to the hub's own address only.

mod card;
mod choose;
mod client;
mod data;
mod fault;
mod files;
mod model;
mod name;
mod place;
mod reply;
mod repo;
mod snapshot;

pub use data::get as get_data;
pub use model::{get as get_model, get_if_there as get_model_if_there, in_cache as model_in_cache};
pub use name::{HubName, looks_like};
