//! A chart's grid of dots: two by four in a braille cell, one in an ASCII cell.
//!
//! Owns the dots and which curve a cell belongs to. Knows no values.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// The stroke of a curve, which tells curves apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// A solid line.
    Solid,
    /// A dashed line.
    Dashed,
    /// Single dots, for context: raw values below a smoothed curve, superseded attempts.
    Dotted,
    /// One mark per point, not joined: evaluations.
    Marks,
}

impl Stroke {
    /// Its symbol in a legend.
    #[must_use]
    pub fn sample(self, ascii: bool) -> &'static str {
        match (self, ascii) {
            (Self::Solid, false) => "━",
            (Self::Solid, true) => "*",
            (Self::Dashed, false) => "╌",
            (Self::Dashed, true) => "-",
            (Self::Dotted, false) => "·",
            (Self::Dotted, true) => ".",
            (Self::Marks, false) => "◆",
            (Self::Marks, true) => "o",
        }
    }
}

/// The bit of each dot of a braille cell, by row and column.
const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// The content of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    dots: u8,
    /// The character for the whole cell: an evaluation mark, or anything in ASCII.
    glyph: Option<char>,
    /// The curve drawn last.
    owner: usize,
}

/// The grid.
#[derive(Debug, Clone)]
pub struct Raster {
    width: u16,
    height: u16,
    ascii: bool,
    cells: Vec<Cell>,
}

impl Raster {
    /// An empty grid of `width` by `height` cells.
    #[must_use]
    pub fn new(width: u16, height: u16, ascii: bool) -> Self {
        let cells = vec![Cell::default(); usize::from(width) * usize::from(height)];
        Self { width, height, ascii, cells }
    }

    /// The width in dots.
    #[must_use]
    pub fn columns(&self) -> usize {
        usize::from(self.width) * if self.ascii { 1 } else { 2 }
    }

    /// The height in dots.
    #[must_use]
    pub fn rows(&self) -> usize {
        usize::from(self.height) * if self.ascii { 1 } else { 4 }
    }

    /// The column of the cell that contains a column of dots.
    #[must_use]
    pub fn cell_of(&self, column: usize) -> u16 {
        (column / if self.ascii { 1 } else { 2 }) as u16
    }

    /// Sets a dot; ignores one outside the grid.
    fn dot(&mut self, column: i64, row: i64, stroke: Stroke, owner: usize) {
        let (columns, rows) = (self.columns() as i64, self.rows() as i64);
        if !(0..columns).contains(&column) || !(0..rows).contains(&row) {
            return;
        }
        let ascii = self.ascii;
        let (dx, dy) = if ascii { (1, 1) } else { (2, 4) };
        let at = (row / dy) as usize * usize::from(self.width) + (column / dx) as usize;
        let Some(cell) = self.cells.get_mut(at) else { return };
        // A cell has one colour, that of the curve drawn last; the dots of other curves stay visible.
        cell.owner = owner;
        if ascii {
            cell.glyph = Some(match stroke {
                Stroke::Solid => '*',
                Stroke::Dashed => '-',
                Stroke::Dotted => '.',
                Stroke::Marks => 'o',
            });
        } else {
            cell.dots |= BITS[(row % dy) as usize][(column % dx) as usize];
        }
    }

    /// Sets a mark in the cell of a dot.
    pub fn mark(&mut self, column: i64, row: i64, owner: usize) {
        self.dot(column, row, Stroke::Marks, owner);
        let (dx, dy) = if self.ascii { (1, 1) } else { (2, 4) };
        let (x, y) = (column / dx, row / dy);
        if column < 0 || row < 0 || x >= i64::from(self.width) || y >= i64::from(self.height) {
            return;
        }
        let at = y as usize * usize::from(self.width) + x as usize;
        if let Some(cell) = self.cells.get_mut(at) {
            cell.glyph = Some(if self.ascii { 'o' } else { '◆' });
        }
    }

    /// Draws the dots of one column from row `top` to row `bottom`, both included. No stroke leaves gaps in a spike.
    pub fn column(&mut self, column: i64, top: i64, bottom: i64, stroke: Stroke, owner: usize) {
        if top == bottom && !self.inked(column, stroke) {
            return;
        }
        for row in top..=bottom {
            self.dot(column, row, stroke, owner);
        }
    }

    /// Joins two dots by a straight line, one vertical span per column.
    pub fn join(&mut self, from: (i64, i64), to: (i64, i64), stroke: Stroke, owner: usize) {
        let ((c0, r0), (c1, r1)) = (from, to);
        if c1 <= c0 {
            return;
        }
        let slope = (r1 - r0) as f64 / (c1 - c0) as f64;
        let at = |c: f64| r0 as f64 + slope * (c - c0 as f64);
        let edge = |c: i64, half: f64| at((c as f64 + half).clamp(c0 as f64, c1 as f64)).round() as i64;
        for c in c0.max(0)..=c1.min(self.columns() as i64 - 1) {
            if !self.inked(c, stroke) {
                continue;
            }
            let (a, b) = (edge(c, -0.5), edge(c, 0.5));
            for row in a.min(b)..=a.max(b) {
                self.dot(c, row, stroke, owner);
            }
        }
    }

    /// Whether a stroke has ink in a column.
    fn inked(&self, column: i64, stroke: Stroke) -> bool {
        match (stroke, self.ascii) {
            (Stroke::Solid | Stroke::Marks, _) | (_, true) => true,
            (Stroke::Dashed, false) => column.rem_euclid(6) < 3,
            (Stroke::Dotted, false) => column.rem_euclid(2) == 0,
        }
    }

    /// Writes the cells that have ink; `style` gives a curve's style.
    pub fn paint(&self, area: Rect, buf: &mut Buffer, style: impl Fn(usize) -> Style) {
        for (at, cell) in self.cells.iter().enumerate() {
            let (x, y) = ((at % usize::from(self.width)) as u16, (at / usize::from(self.width)) as u16);
            let glyph = match cell.glyph {
                Some(glyph) => glyph,
                None if cell.dots > 0 => char::from_u32(0x2800 + u32::from(cell.dots)).unwrap_or('?'),
                None => continue,
            };
            if let Some(target) = buf.cell_mut((area.x + x, area.y + y)) {
                target.set_char(glyph).set_style(style(cell.owner));
            }
        }
    }

    /// The grid as text, one line for a row of cells.
    #[must_use]
    pub fn text(&self) -> String {
        let area = Rect::new(0, 0, self.width, self.height);
        let mut buf = Buffer::empty(area);
        self.paint(area, &mut buf, |_| Style::default());
        let mut out = String::new();
        for y in 0..self.height {
            for x in 0..self.width {
                out.push_str(buf[(x, y)].symbol());
            }
            out.push('\n');
        }
        out
    }
}
