//! A line for each thing that was measured, over sizes that grow by factors.

use std::fmt::Write as _;

/// Of the picture, in pixels.
const SIZE: [f64; 2] = [640.0, 360.0];
/// Around what is drawn: left, top, right, bottom.
const EDGES: [f64; 4] = [56.0, 40.0, 24.0, 48.0];
/// One for each line; told apart without colours by their dashes.
const STROKES: [(&str, &str); 2] = [("#1f5fbf", "none"), ("#b3541e", "6 4")];

/// Ratios to the first size.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// An SVG of its own, readable on light and on dark.
pub(crate) fn plot(grows: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (least, most) = points().fold((f64::MAX, f64::MIN), |(least, most), (size, _)| {
        (least.min(size.log2()), most.max(size.log2()))
    });
    let top = points().fold(1.2_f64, |top, (_, ratio)| top.max(*ratio)) * 1.1;
    let [left, above, right, below] = EDGES;
    let [width, height] = [SIZE[0] - left - right, SIZE[1] - above - below];
    let x = |size: f64| left + (size.log2() - least) / (most - least).max(1.0) * width;
    let y = |ratio: f64| above + height - ratio / top * height;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<title>Ratios as {grows} grow</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        SIZE[0], SIZE[1]
    );
    let mut add = |text: String| svg.push_str(&text);
    let mut level = 0.0;
    let step = if top > 3.0 { 1.0 } else { 0.5 };
    // At most a few dozen: the step grows with the largest ratio.
    while level < top && level / step < 50.0 {
        let at = y(level);
        add(format!(
            "<path d=\"M{left:.0} {at:.1}H{:.0}\" stroke=\"#d0d0d0\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{level:.1}</text>\n",
            left + width,
            left - 6.0,
            at + 4.0
        ));
        level += step;
    }
    for (size, _) in lines.first().map(|line| line.points.as_slice()).unwrap_or_default() {
        add(format!(
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{size}</text>\n",
            x(*size),
            above + height + 18.0
        ));
    }
    add(format!(
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{grows}</text>\n",
        left + width / 2.0,
        SIZE[1] - 8.0
    ));
    for (at, (line, (colour, dashes))) in lines.iter().zip(STROKES).enumerate() {
        let mut path = String::new();
        for (size, ratio) in &line.points {
            let first = if path.is_empty() { 'M' } else { 'L' };
            // Writing to a String cannot fail.
            let _infallible = write!(path, "{first}{:.1} {:.1}", x(*size), y(*ratio));
            add(format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>\n",
                x(*size),
                y(*ratio)
            ));
        }
        let from = left + 240.0 * f64::from(u32::try_from(at).unwrap_or(0));
        add(format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dashes}\"/>\n\
             <path d=\"M{from:.0} 20h24\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dashes}\"/><text x=\"{:.0}\" y=\"24\">{}</text>\n",
            from + 30.0,
            line.name
        ));
    }
    svg + "</svg>\n"
}
