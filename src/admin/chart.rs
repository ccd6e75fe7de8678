//! A line of numbers as a small drawing. Pure.

use std::fmt::Write;

/// Width and height of the drawing, in its own units.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;

/// A drawing, and its numbers in words: whoever cannot see it misses nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// The last number.
    pub(super) now: String,
    /// The largest.
    pub(super) most: String,
    /// Points of the line, as SVG has them. Empty for fewer than two numbers.
    pub(super) points: String,
}

impl Chart {
    pub(super) fn new(title: &'static str, numbers: &[f64]) -> Self {
        let most = numbers.iter().copied().fold(0.0, f64::max);
        let now = numbers.last().copied().unwrap_or(0.0);
        Self { title, now: text(now), most: text(most), points: points(numbers, most) }
    }
}

fn points(numbers: &[f64], most: f64) -> String {
    let mut points = String::new();
    let Some(last) = numbers.len().checked_sub(1).filter(|last| *last > 0) else { return points };
    // A line at the bottom where all is zero.
    let scale = if most > 0.0 { (HEIGHT - 4.0) / most } else { 0.0 };
    let step = WIDTH / u32::try_from(last).map_or(WIDTH, f64::from);
    for (at, number) in (0_u32..).zip(numbers) {
        let (x, y) = (f64::from(at) * step, HEIGHT - 2.0 - number * scale);
        let space = if points.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _infallible = write!(points, "{space}{x:.1},{y:.1}");
    }
    points
}

/// With as many digits as matter.
fn text(number: f64) -> String {
    if number >= 100.0 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else if number >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_goes_from_edge_to_edge_and_its_highest_point_touches_the_top() {
        let chart = Chart::new("x", &[0.0, 12.34, 6.17]);
        assert_eq!(chart.points, "0.0,46.0 120.0,2.0 240.0,24.0");
        assert_eq!((chart.now.as_str(), chart.most.as_str()), ("6.17", "12.3"));
    }

    #[test]
    fn nothing_and_zeros_are_drawn_without_a_division_by_zero() {
        assert_eq!(Chart::new("x", &[]).points, "");
        assert_eq!(Chart::new("x", &[1.0]).points, "");
        assert_eq!(Chart::new("x", &[0.0, 0.0]).points, "0.0,46.0 240.0,46.0");
    }
}
