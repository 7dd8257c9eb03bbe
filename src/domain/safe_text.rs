//! The sanitiser: what of a stranger's text reaches a terminal, a file or another program.
//!
//! Owns the one list of characters that are never shown, and its forms for text and for JSON. Refuses to know where a text goes:
//! every exit calls it. Markup is escaped besides, by each format.

use unicode_segmentation::UnicodeSegmentation;

/// The longest grapheme, in characters: marks can be stacked on a letter without end. The longest emoji in use has ten.
const LONGEST_GRAPHEME: usize = 12;

/// Whether a character may be shown as it is. None that controls a terminal, hides text, changes its direction or carries text
/// that nobody sees; a joiner stays, since emoji and several scripts need it. A line break is no such character.
#[must_use]
pub fn is_shown(c: char) -> bool {
    !matches!(c,
        // C0, DEL and C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // The soft hyphen; marks, embeddings, overrides and isolates of direction.
        | '\u{ad}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Zero width: spaces, the word joiner, invisible operators, deprecated format characters, the byte order mark.
        | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        // Line and paragraph separators, interlinear annotations, beams and slurs of music.
        | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
        // Tags and the variation selectors of plane 14, which can carry any bytes.
        | '\u{e0000}'..='\u{e0fff}')
        && !is_noncharacter(c)
}

/// Whether Unicode keeps a code point out of all text: XML does not allow them.
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

/// Makes text from a model or a file safe for a terminal and for files: what [`is_shown`] refuses is made visible or removed, so
/// that no escape sequence survives. A tab becomes four spaces; CR LF becomes LF; a grapheme of more than 12 characters is cut and
/// marked with `…`.
#[must_use]
pub fn sanitise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str("    "),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            // C0 controls and DEL have visible symbols from U+2400.
            '\0'..='\u{1f}' => out.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}')),
            '\u{7f}' => out.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => out.push('\u{fffd}'),
            c if is_noncharacter(c) => out.push('\u{fffd}'),
            c if is_shown(c) => out.push(c),
            _ => {}
        }
    }
    if out.is_ascii() { out } else { short_graphemes(out) }
}

fn short_graphemes(text: String) -> String {
    // Most graphemes have one character: only a text with a long one is copied.
    if text.graphemes(true).all(|grapheme| grapheme.chars().nth(LONGEST_GRAPHEME).is_none()) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        match grapheme.char_indices().nth(LONGEST_GRAPHEME) {
            Some((at, _)) => out.extend([&grapheme[..at], "…"]),
            None => out.push_str(grapheme),
        }
    }
    out
}

/// A text in one line, sanitised: line breaks become spaces.
#[must_use]
pub fn one_line(text: &str) -> String {
    sanitise(text).replace('\n', " ")
}

/// JSON with every character that must not be shown written as `\u…`: the same values for who parses it, and no escape sequence
/// for a terminal that shows it. The encoder has escaped the controls below U+0020 already.
#[must_use]
pub fn shown_json(json: String) -> String {
    let hidden = |c: char| c != '\n' && !is_shown(c);
    if !json.contains(hidden) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if hidden(c) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// A cell of a table for a spreadsheet, sanitised: what it would take for a formula gets an apostrophe in front, a number does not.
#[must_use]
pub fn table_cell(text: &str) -> String {
    let clean = sanitise(text);
    let formula = clean.trim_start().starts_with(['=', '+', '-', '@']) && clean.trim().parse::<f64>().is_err();
    if formula { format!("'{clean}") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_the_same_value_and_shows_nothing_hidden() {
        let value = serde_json::json!({ "a\u{202e}": "x\u{9b}2J\u{7f}\u{e0041}\u{1b}\n\u{2028}é 👩‍🚀" });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = shown_json(text);
            assert!(shown.chars().all(|c| c == '\n' || is_shown(c)), "{shown:?}");
            assert!(shown.contains("\\udb40\\udc41") && shown.contains("é 👩‍🚀"));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }

    #[test]
    fn a_formula_gets_an_apostrophe_and_a_number_none() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            (" -x", "' -x"),
            ("\t=1", "'    =1"),
            ("-0.5", "-0.5"),
            ("+3e-4", "+3e-4"),
            ("-inf", "-inf"),
            ("loss", "loss"),
            ("\u{1b}[31m=1", "\u{241b}[31m=1"),
        ] {
            assert_eq!(table_cell(text), cell);
        }
    }

    #[test]
    fn stacked_marks_are_cut_and_a_family_is_not() {
        let flood = format!("a{}b", "\u{301}".repeat(1000));
        let shown = sanitise(&flood);
        assert_eq!(shown, format!("a{}…b", "\u{301}".repeat(11)));
        assert_eq!(sanitise(&shown), shown);
        let kiss = "👩🏽\u{200d}❤\u{fe0f}\u{200d}💋\u{200d}👨🏿";
        assert_eq!(sanitise(kiss), kiss);
    }
}
