//! The masks of a run's first rows: a sheet over the launch screen.
//!
//! Owns the layout of masked rows in lines, and scrolling. A line break in the text shows as a mark, so that a learned
//! one is visible.

use super::wrap::{presentable, wrap};
use crate::domain::counted;
use crate::protocol::{MaskPiece, MaskedRow, Masks};

/// The role of a span of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskStyle {
    /// The row's heading.
    Head,
    /// Context, without loss.
    Read,
    /// Learned: with loss.
    Learned,
    /// Learned, in a mixed-in row.
    Mixed,
    /// The start of a packed text.
    TextStart,
    /// Why a row is left out.
    LeftOut,
}

/// A line: its spans in order.
pub type MaskLine = Vec<(String, MaskStyle)>;

/// The sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskSheet {
    /// The ticket of the request it waits for.
    pub ticket: u64,
    /// The answer, once it has arrived.
    answer: Option<Result<Masks, String>>,
    /// Its lines at the current width.
    pub lines: Vec<MaskLine>,
    /// Lines scrolled off its top.
    pub scroll: usize,
}

/// The columns and rows for the sheet's text on a screen of this size.
#[must_use]
pub fn text_area((columns, rows): (u16, u16)) -> (usize, usize) {
    let columns = usize::from(columns);
    // Wider lines are hard to read; a narrow screen is used in full. Header, footer, status and frame take 6 rows.
    (
        if columns < 100 { columns.saturating_sub(4) } else { (columns - 12).min(110) },
        usize::from(rows).saturating_sub(6),
    )
}

impl MaskSheet {
    /// A sheet that waits for the answer to this request.
    #[must_use]
    pub fn new(ticket: u64) -> Self {
        let lines = vec![vec![("reading the first rows …".to_owned(), MaskStyle::Read)]];
        Self { ticket, answer: None, lines, scroll: 0 }
    }

    /// Sets the answer and lays it out.
    pub fn set_answer(&mut self, answer: &Result<Masks, String>, size: (u16, u16)) {
        self.answer = Some(answer.clone());
        self.lay_out(size);
    }

    /// Lays the text out for a screen of this size.
    pub fn lay_out(&mut self, size: (u16, u16)) {
        let (width, _) = text_area(size);
        match &self.answer {
            None => return,
            Some(Err(why)) => {
                let why = presentable(why);
                self.lines =
                    wrap(&why, width).into_iter().map(|l| vec![(why[l].to_owned(), MaskStyle::LeftOut)]).collect();
            }
            Some(Ok(masks)) => {
                let mut about = format!("the first of {}", counted(masks.all, "row"));
                if masks.mixed > 0 {
                    about.push_str(&format!(", and of {} mixed in", counted(masks.mixed, "text")));
                }
                let about = if masks.rows.is_empty() { "there are no rows".to_owned() } else { about };
                self.lines = vec![vec![(about, MaskStyle::Read)]];
                self.lines.extend(masks.rows.iter().flat_map(|row| row_lines(row, width)));
            }
        }
        self.scroll_by(0, size);
    }

    /// Scrolls by this many lines, within the text.
    pub fn scroll_by(&mut self, by: isize, size: (u16, u16)) {
        let most = self.lines.len().saturating_sub(text_area(size).1);
        self.scroll = self.scroll.saturating_add_signed(by).min(most);
    }
}

/// A row's heading, its text in lines of `width` cells, and a blank line.
fn row_lines(row: &MaskedRow, width: usize) -> Vec<MaskLine> {
    let mut head = presentable(row.id.as_str());
    let texts = row.texts();
    if texts > 1 {
        head.push_str(&format!(" and {} more, packed", texts - 1));
    }
    for part in [row.part.as_str(), if row.mixed { "mixed in" } else { "" }] {
        if !part.is_empty() {
            head.push_str(&format!(" · {part}"));
        }
    }
    if let Some(why) = &row.left_out {
        let said = format!("left out: {}", presentable(why));
        // Beside the heading where both fit, else below it.
        if wrap(&format!("{head}  {said}"), width).len() == 1 {
            return vec![vec![(head, MaskStyle::Head), (format!("  {said}"), MaskStyle::LeftOut)], Vec::new()];
        }
        let lines = wrap(&said, width).into_iter().map(|line| vec![(said[line].to_owned(), MaskStyle::LeftOut)]);
        return std::iter::once(vec![(head, MaskStyle::Head)]).chain(lines).chain([Vec::new()]).collect();
    }
    let counts = format!("  {}, {} learned", counted(row.tokens, "token"), row.learned);
    let mut out = vec![vec![(head, MaskStyle::Head), (counts, MaskStyle::Read)]];
    for said in row.said.iter().map(|said| presentable(said)) {
        out.extend(wrap(&said, width).into_iter().map(|line| vec![(said[line].to_owned(), MaskStyle::LeftOut)]));
    }
    let learned = if row.mixed { MaskStyle::Mixed } else { MaskStyle::Learned };
    let (mut rest, mut number) = (row.pieces.as_slice(), 1);
    while !rest.is_empty() {
        let to = rest.iter().skip(1).position(|piece| piece.begins).map_or(rest.len(), |at| at + 1);
        if number > 1 {
            out.push(vec![(
                format!("┄ text {number} of {texts}: it does not attend to anything above ┄"),
                MaskStyle::TextStart,
            )]);
        }
        text_lines(&rest[..to], learned, width, &mut out);
        (rest, number) = (&rest[to..], number + 1);
    }
    out.push(Vec::new());
    out
}

/// Appends the lines of one text.
fn text_lines(pieces: &[MaskPiece], learned: MaskStyle, width: usize, out: &mut Vec<MaskLine>) {
    let mut text = String::new();
    let mut ends = Vec::new();
    for piece in pieces {
        text.push_str(&presentable(&piece.text).replace('\n', "↵\n"));
        ends.push((text.len(), if piece.learned { learned } else { MaskStyle::Read }));
    }
    for line in wrap(&text, width) {
        let mut parts = MaskLine::new();
        let mut from = line.start;
        for (end, ink) in &ends {
            let to = (*end).min(line.end);
            if to > from {
                parts.push((text[from..to].to_owned(), *ink));
                from = to;
            }
        }
        out.push(parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PairId;

    fn masks() -> Masks {
        let piece = |text: &str, learned| MaskPiece { text: text.into(), learned, begins: false };
        let row = MaskedRow {
            id: PairId::new("p1"),
            part: "chosen".into(),
            mixed: false,
            tokens: 9,
            learned: 3,
            pieces: vec![
                piece("<s>user\nWhy?", false),
                piece(" Because of\u{1b}[31m light.\n", true),
                piece("x", false),
            ],
            left_out: None,
            said: Vec::new(),
        };
        let left = MaskedRow::left_out(PairId::new("p2"), "equal answers");
        Masks { rows: vec![row, left], all: 2, mixed: 0 }
    }

    #[test]
    fn every_character_is_shown_in_its_style() {
        for width in [5, 12, 60] {
            let lines: Vec<MaskLine> = masks().rows.iter().flat_map(|row| row_lines(row, width)).collect();
            let of = |ink: MaskStyle| {
                let parts = lines.iter().flatten().filter(|(_, i)| *i == ink).map(|(t, _)| t.as_str());
                parts.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect::<String>()
            };
            // A control character shows as its symbol, as everywhere.
            assert_eq!(of(MaskStyle::Learned), "Becauseof␛[31mlight.↵", "{width}");
            assert_eq!(of(MaskStyle::Read), "9tokens,3learned<s>user↵Why?x");
            assert_eq!(
                (of(MaskStyle::Head).as_str(), of(MaskStyle::LeftOut).as_str()),
                ("p1·chosenp2", "leftout:equalanswers")
            );
            let cells = |line: &MaskLine| line.iter().map(|(text, _)| text.chars().count()).sum::<usize>();
            assert!(row_lines(&masks().rows[1], width).iter().all(|line| cells(line) <= width), "{width}");
        }
    }

    #[test]
    fn packed_texts_are_separated_and_mixed_rows_have_their_own_style() {
        let mut masks = masks();
        let row = &mut masks.rows[0];
        row.mixed = true;
        row.pieces[2].begins = true;
        let lines = row_lines(row, 60);
        let flat: Vec<String> = lines.iter().map(|l| l.iter().map(|(t, _)| t.as_str()).collect()).collect();
        assert_eq!(flat[0], "p1 and 1 more, packed · chosen · mixed in  9 tokens, 3 learned");
        assert!(flat[flat.len() - 3].starts_with("┄ text 2 of 2") && flat[flat.len() - 2] == "x", "{flat:?}");
        assert!(lines.iter().flatten().any(|(text, ink)| text.contains("Because") && *ink == MaskStyle::Mixed));
        assert!(lines.iter().flatten().all(|(_, ink)| *ink != MaskStyle::Learned));
        masks.mixed = 7;
        let mut sheet = MaskSheet::new(1);
        sheet.set_answer(&Ok(masks), (80, 24));
        assert_eq!(sheet.lines[0][0].0, "the first of 2 rows, and of 7 texts mixed in");
    }

    #[test]
    fn scrolling_stays_within_the_text() {
        let size = (80, 10);
        let mut sheet = MaskSheet::new(1);
        sheet.scroll_by(5, size);
        assert_eq!(sheet.scroll, 0);
        sheet.set_answer(&Ok(masks()), size);
        let most = sheet.lines.len() - 4;
        sheet.scroll_by(100, size);
        assert_eq!(sheet.scroll, most);
        sheet.scroll_by(-1, size);
        assert_eq!(sheet.scroll, most - 1);
        sheet.lay_out((80, 60));
        assert_eq!(sheet.scroll, 0, "no scrolling if everything fits");
    }
}
