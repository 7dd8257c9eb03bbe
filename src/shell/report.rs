//! The report of a session: what was trained on what, labels, curves, evaluations, answers side by side.
//!
//! Owns the document, built once, and its renderings as Markdown and as one HTML file without scripts. Each part names the
//! command that makes its numbers again. Refuses to compute: every number comes from the logs through `domain`.
//!
//! **Invariant.** Text that a model or a person wrote is sanitised when it enters the document and escaped by each rendering, so
//! that it never becomes markup.

mod base_card;
mod card;
mod card_index;
mod chart;
mod content;
mod document;
mod escape;
mod html;
mod markdown;
mod ratings;
mod results;
mod words;

pub use card::model_card;
pub use content::document;
pub use html::html;
pub use markdown::markdown;
