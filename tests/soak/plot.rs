//! Lines over time, as a picture.

use std::fmt::Write as _;

/// Minutes and a value.
pub(crate) type Line = Vec<(f64, f64)>;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
const MARGIN: f64 = 50.0;
const COLOURS: [&str; 4] = ["#1f6feb", "#d1571b", "#2a8f4f", "#8250df"];

/// One panel below the other, each from zero.
pub(crate) fn picture(panels: &[(&str, &[Line])]) -> String {
    let height = (HEIGHT + 2.0 * MARGIN) * panels.len() as f64;
    let width = WIDTH + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, (name, lines)) in panels.iter().enumerate() {
        let top = (HEIGHT + 2.0 * MARGIN) * index as f64 + MARGIN;
        let points = || lines.iter().flatten();
        let longest = points().map(|it| it.0).fold(0.1, f64::max);
        let highest = points().map(|it| it.1).fold(1.0, f64::max) * 1.1;
        let bottom = top + HEIGHT;
        let _infallible = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{}\">{name}, from 0 to {highest:.0}, over {longest:.1} minutes</text>\n\
             <path d=\"M{MARGIN} {top}V{bottom}H{}\" fill=\"none\" stroke=\"#888\"/>",
            top - 10.0,
            MARGIN + WIDTH,
        );
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let point = |(x, y): &(f64, f64)| {
                let x = MARGIN + x / longest * WIDTH;
                format!("{x:.1},{:.1}", bottom - y / highest * HEIGHT)
            };
            let points: Vec<_> = line.iter().map(point).collect();
            let _infallible = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>",
                points.join(" ")
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}
