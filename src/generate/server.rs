//! Models behind OpenAI-compatible servers: asking for answers, and judging with them.
//!
//! Owns the HTTP client with its time limits, reading streamed answers, retries with exponential back-off, and the threads that
//! keep several requests in flight. Refuses to write a key anywhere: it comes from an environment variable, goes into one
//! header, and is cut out of every text that a server sends.

mod answers;
mod ask;
mod client;
mod fault;
mod letters;
mod pool;
mod relay;
mod reply;
mod retry;
mod source;

pub use answers::{RemoteAnswer, ServerAnswers};
pub use client::{Client, look_up, names};
pub use fault::{FaultKind, ServerFault};
pub use letters::{LetterServer, Letters, letters_of};
pub use relay::{Asking, Ends, ask_all};
pub use reply::read_answer;
pub(crate) use source::Servers;
