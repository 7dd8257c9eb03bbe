//! What distinguishes one answer from another: its manner, its length, how its story ends. Owns the names, nothing else.

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
    /// What is asked for, in a sentence or two (a story has one more).
    Brief,
    /// The same and something beside the point.
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
