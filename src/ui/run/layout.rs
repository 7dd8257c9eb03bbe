//! The layout of the watch screen.
//!
//! ```text
//!  wide (110 columns and more)                      narrow
//!  runs   dpo-1 finished · dpo-2 running            runs …
//!  ─ loss ───── ─ rewards ──── ─ run ───────        ─ loss ───── ─ rewards ───
//!                              …                    …
//!  ─ margin ─── ─ accuracy ─── ─ findings ──        ─ margin ─── ─ accuracy ──
//!                              …                    …
//!  ─ samples ───────────────── …                    ─ samples ────────────────
//!  …                                                …
//! ```

use ratatui::layout::Rect;

/// From this width on, facts and findings have a side column.
const WIDE: u16 = 110;
/// The side column's width.
const SIDE: u16 = 38;
/// The smallest readable chart, including its title.
const MIN_CHART: (u16, u16) = (34, 6);

/// The parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The line of runs; none for a single run.
    pub runs: Option<Rect>,
    /// The line of the objective; none if space is short.
    pub formula: Option<Rect>,
    /// The charts of this page.
    pub charts: Vec<Rect>,
    /// The first pane shown.
    pub first: usize,
    /// Facts and findings; none on a narrow screen.
    pub side: Option<Rect>,
    /// Samples or `worker.log`, and on a narrow screen the findings.
    pub bottom: Rect,
}

/// From this height on, the objective has a line.
const OBJECTIVE_ROWS: u16 = 24;

/// Whether an area of this width has a column for facts and findings.
#[must_use]
pub fn has_side(width: u16) -> bool {
    width >= WIDE
}

/// What to lay out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutInput {
    /// The number of panes.
    pub panes: usize,
    /// The index of the focused pane, which must be visible.
    pub focus: usize,
    /// Whether to reserve a line for the runs.
    pub runs: bool,
    /// Whether to reserve a line for the objective.
    pub formula: bool,
    /// Whether only the focused pane shows.
    pub enlarged: bool,
}

/// Lays out the screen.
#[must_use]
pub fn parts(area: Rect, wanted: LayoutInput) -> Parts {
    let LayoutInput { panes, focus, runs, formula, enlarged } = wanted;
    let mut rest = area;
    let runs = (runs && rest.height > 8).then(|| take_top(&mut rest, 1));
    let formula = (formula && rest.height >= OBJECTIVE_ROWS).then(|| take_top(&mut rest, 1));
    let side = has_side(rest.width).then(|| {
        rest.width -= SIDE + 1;
        Rect { x: rest.right() + 1, width: SIDE, ..rest }
    });
    let bottom_height = if rest.height < 12 { 0 } else { (rest.height / 4).clamp(4, 9) };
    let bottom = take_bottom(&mut rest, bottom_height);
    if enlarged || panes <= 1 {
        return Parts { runs, formula, charts: vec![rest], first: focus.min(panes.saturating_sub(1)), side, bottom };
    }
    let (columns, rows) = grid(rest.width, rest.height, panes);
    let page = columns * rows;
    let first = focus.min(panes - 1) / page * page;
    let shown = page.min(panes - first);
    let charts = (0..shown).map(|i| cell(rest, columns, shown.div_ceil(columns).min(rows), shown, i)).collect();
    Parts { runs, formula, charts, first, side, bottom }
}

/// Columns and rows: as few pages as possible, then charts about four times as wide as high.
fn grid(width: u16, height: u16, panes: usize) -> (usize, usize) {
    let most_columns = usize::from(width / MIN_CHART.0).clamp(1, 5);
    let most_rows = usize::from(height / MIN_CHART.1).max(1);
    (1..=most_columns)
        .map(|columns| (columns, panes.div_ceil(columns).min(most_rows)))
        .min_by_key(|(columns, rows)| {
            let pages = panes.div_ceil(columns * rows);
            let shape = (f64::from(width) / *columns as f64) / (f64::from(height) / *rows as f64) / 4.0;
            (pages, (shape.ln().abs() * 1000.0) as u64)
        })
        .unwrap_or((1, 1))
}

/// One cell of a grid of `count`, with a blank column between cells; cells of an incomplete last row are wider.
fn cell(area: Rect, columns: usize, rows: usize, count: usize, at: usize) -> Rect {
    let share = |whole: u16, parts: usize, at: usize| (usize::from(whole) * at / parts) as u16;
    let (column, row) = (at % columns, at / columns);
    let columns = columns.min(count - row * columns);
    let (x0, x1) = (share(area.width + 1, columns, column), share(area.width + 1, columns, column + 1));
    let (y0, y1) = (share(area.height, rows, row), share(area.height, rows, row + 1));
    Rect { x: area.x + x0, y: area.y + y0, width: (x1 - x0).saturating_sub(1), height: y1 - y0 }
}

fn take_top(area: &mut Rect, height: u16) -> Rect {
    let height = height.min(area.height);
    let top = Rect { height, ..*area };
    area.y += height;
    area.height -= height;
    top
}

fn take_bottom(area: &mut Rect, height: u16) -> Rect {
    let height = height.min(area.height);
    area.height -= height;
    Rect { y: area.bottom(), height, ..*area }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_overlap_and_stay_inside() {
        for (w, h) in [(80, 20), (120, 36), (200, 56), (60, 14), (40, 9), (20, 5), (1, 1), (0, 0)] {
            for panes in [1, 2, 5, 9, 14] {
                let area = Rect::new(0, 2, w, h);
                let wanted = LayoutInput { panes, focus: panes - 1, runs: true, formula: true, enlarged: false };
                let p = parts(area, wanted);
                let mut all: Vec<Rect> = p.charts.clone();
                all.extend(p.runs.into_iter().chain(p.formula).chain(p.side).chain([p.bottom]));
                all.retain(|r| !r.is_empty());
                for (i, a) in all.iter().enumerate() {
                    assert_eq!(area.intersection(*a), *a, "{w}x{h} {panes}");
                    assert!(all[i + 1..].iter().all(|b| !a.intersects(*b)), "{w}x{h} {panes} {p:?}");
                }
                assert!(p.first < panes && p.first + p.charts.len() >= panes.min(p.first + 1));
            }
        }
    }

    #[test]
    fn the_focused_pane_is_on_the_page() {
        let area = Rect::new(0, 1, 80, 20);
        for focus in 0..9 {
            let p = parts(area, LayoutInput { panes: 9, focus, runs: false, formula: false, enlarged: false });
            assert!((p.first..p.first + p.charts.len()).contains(&focus), "{focus} {p:?}");
        }
    }
}
