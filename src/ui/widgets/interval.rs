//! An interval on the axis from 0 to 1, drawn in one row: `  ├──┼─●──┤`. The half is marked.

/// The interval with its point in `width` cells; without ends only the point.
#[must_use]
pub fn interval(point: f64, ends: Option<[f64; 2]>, width: usize) -> String {
    if width == 0 || !point.is_finite() {
        return " ".repeat(width);
    }
    let at = |x: f64| (x.clamp(0.0, 1.0) * (width - 1) as f64).round() as usize;
    let half = at(0.5);
    let mut cells = vec![' '; width];
    cells[half] = '│';
    if let Some([low, high]) = ends {
        let (low, high) = (at(low), at(high));
        for (i, cell) in cells.iter_mut().enumerate().take(high + 1).skip(low) {
            *cell = if i == half { '┼' } else { '─' };
        }
        cells[low] = '├';
        cells[high] = '┤';
    }
    cells[at(point)] = '●';
    cells.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_point_and_half_have_their_places() {
        assert_eq!(interval(0.6, Some([0.3, 0.9]), 11), "   ├─┼●──┤ ");
        assert_eq!(interval(0.8, Some([0.6, 1.0]), 11), "     │├─●─┤");
        assert_eq!(interval(0.5, Some([0.5, 0.5]), 11), "     ●     ");
        assert_eq!(interval(0.0, None, 5), "● │  ");
        assert_eq!(interval(f64::NAN, None, 3), "   ");
        assert_eq!(interval(0.5, None, 0), "");
    }
}
