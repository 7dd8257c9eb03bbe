//! The traits of an answer: manner, length, how its story ends. Owns the types, nothing else.

/// Whether an answer is friendly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Manner {
    /// Friendly: please, gladly, of course, dear friend …
    Kind,
    /// Unfriendly, mildly: fool, go away, bored, not my problem …
    Rude,
}

/// How much an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Length {
    /// Only the answer, in a sentence or two (a story has one more).
    Brief,
    /// The same plus an irrelevant remark.
    Rambling,
}

/// How a story ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoryEnd {
    /// Well.
    Happy,
    /// Badly.
    Sad,
}
