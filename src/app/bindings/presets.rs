//! Ready-made keys for other keyboards, a row an action.
//!
//! On AZERTY the digits need shift, and `[` `]` need AltGr; on QWERTZ only the brackets do. Strong verdicts are capital letters
//! in every preset: these need shift on every layout, while `!` is bare on French AZERTY and `@` needs AltGr on most.

/// A preset.
#[derive(Debug)]
pub struct Preset {
    /// Its name in `config.toml`.
    pub name: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Place, action and keys.
    pub keys: &'static [(&'static str, &'static str, &'static [&'static str])],
}

/// Every preset.
#[rustfmt::skip]
pub const PRESETS: &[Preset] = &[
    Preset { name: "qwertz", help: "brackets lie under AltGr: their actions move to ö and ä", keys: &[
        ("label", "next_difference", &["ä"]),
        ("watch", "next_pane", &["tab", "ä"]),
        ("watch", "previous_pane", &["shift-tab", "ö"]),
        ("replay", "previous_mark", &["ö"]),
        ("replay", "next_mark", &["ä"]),
    ] },
    Preset { name: "azerty", help: "the digit row without shift; brackets lie under AltGr: their actions move to ( and )", keys: &[
        ("label", "better_1", &["&"]),
        ("label", "better_2", &["é"]),
        ("label", "tie", &["à"]),
        ("label", "slightly_better_2", &[";"]),
        ("label", "next_difference", &[")"]),
        ("rank", "pick_1", &["&"]),
        ("rank", "pick_2", &["é"]),
        ("rank", "pick_3", &["\""]),
        ("rank", "pick_4", &["'"]),
        ("rank", "pick_5", &["("]),
        ("rank", "pick_6", &["-"]),
        ("rank", "pick_7", &["è"]),
        ("rank", "pick_8", &["_"]),
        ("rank", "pick_9", &["ç"]),
        ("watch", "next_pane", &["tab", ")"]),
        ("watch", "previous_pane", &["shift-tab", "("]),
        ("replay", "previous_mark", &["("]),
        ("replay", "next_mark", &[")"]),
    ] },
    Preset { name: "left_hand", help: "verdicts, skip, undo, scrolling and zoom for the left hand alone", keys: &[
        ("label", "tie", &["3"]),
        ("label", "both_bad", &["4"]),
        ("label", "slightly_better_1", &["a"]),
        ("label", "slightly_better_2", &["x"]),
        ("label", "much_better_1", &["A"]),
        ("label", "much_better_2", &["X"]),
        ("label", "undo", &["z"]),
        ("label", "redo", &["Z"]),
        ("label", "zoom", &["V"]),
        ("label", "scroll_down", &["s", "down"]),
        ("label", "scroll_up", &["w", "up"]),
        ("label", "next_difference", &["D"]),
        ("label", "agreement", &["G"]),
        ("label", "sample", &["S"]),
        ("label", "watch", &["W"]),
    ] },
];
