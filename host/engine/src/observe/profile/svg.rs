//! Formats a profile as a flame graph, in one SVG file without dependencies: boxes as wide as their time, each below
//! the box that contains it.
//!
//! A click on a box makes it as wide as the picture, a click on the top box resets it, and hovering shows the name and
//! time of a box. Without scripts it is a picture with the same texts.

use std::fmt::Write;
use std::time::Duration;

use super::Profile;
use super::tree::ProfileTree;

/// Width of the picture, in pixels.
const WIDTH: f64 = 1200.0;
/// Height of a box with the gap below it, in pixels.
const ROW: usize = 18;
/// Vertical position of the first box, in pixels.
const TOP: usize = 44;
/// Narrower boxes are left out, in pixels.
const NARROW: f64 = 0.2;
/// Width of a character in a font of 12 pixels, in pixels.
const CHAR: f64 = 7.0;

/// The styles, and the script for clicks.
const STYLE_AND_SCRIPT: &str = include_str!("svg.xml");

struct Boxes {
    svg: String,
    total: f64,
    depth: usize,
}

impl Profile {
    /// The profile as a flame graph.
    #[must_use]
    pub fn svg(&self) -> String {
        let total = self.tree.total();
        let mut boxes = Boxes {
            svg: String::new(),
            total: total.max(1) as f64,
            depth: 0,
        };
        boxes.draw(&self.job, &self.tree, 0, 0.0, "job");
        let height = TOP + (boxes.depth + 1) * ROW + 8;
        let says = match self.samples {
            0 => String::new(),
            samples => format!(", {samples} samples of plugins"),
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n{STYLE_AND_SCRIPT}<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"4\" y=\"18\" class=\"head\">{}: {} of work{says}</text>\n<text x=\"4\" y=\"36\" id=\"said\">click a box to enlarge it, or the top one to go back</text>\n{}</svg>\n",
            escaped(&self.job),
            time(total),
            boxes.svg
        )
    }
}

impl Boxes {
    /// Draws a box and its children; `begin` is its start, in nanoseconds.
    fn draw(&mut self, name: &str, tree: &ProfileTree, depth: usize, begin: f64, kind: &str) {
        let spent = tree.total();
        let (left, width) = (
            begin / self.total * WIDTH,
            spent as f64 / self.total * WIDTH,
        );
        if width < NARROW {
            return;
        }
        self.depth = self.depth.max(depth);
        let top = TOP + depth * ROW;
        let percent = 100.0 * spent as f64 / self.total;
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.svg,
            "<g class=\"{kind}\" data-x=\"{left:.3}\" data-w=\"{width:.3}\" data-d=\"{depth}\"><title>{name}: {time} ({percent:.2} %)</title><rect x=\"{left:.3}\" y=\"{top}\" width=\"{width:.3}\" height=\"{height}\"{fill}/><text x=\"{text:.3}\" y=\"{base}\">{label}</text></g>",
            name = escaped(name),
            time = time(spent),
            height = ROW - 1,
            fill = fill(kind, name),
            text = left + 3.0,
            base = top + 13,
            label = escaped(&label(name, width)),
        );
        let mut begin = begin;
        for (below, tree) in &tree.below {
            self.draw(below, tree, depth + 1, begin, kind_below(kind, below));
            begin += tree.total() as f64;
        }
    }
}

/// The kind of a box, by the one that contains it.
fn kind_below(kind: &str, name: &str) -> &'static str {
    match kind {
        "job" => "node",
        "node" => "stage",
        _ if name.starts_with('[') => "stage",
        _ => "guest",
    }
}

/// The colour: by name for functions of plugins, by kind for all others.
fn fill(kind: &str, name: &str) -> String {
    if kind != "guest" {
        return String::new();
    }
    let hash = name.bytes().fold(7_u32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(byte.into())
    });
    let (green, blue) = (110 + hash % 110, 40 + hash / 128 % 50);
    format!(" fill=\"rgb(245,{green},{blue})\"")
}

/// The part of a name that fits.
fn label(name: &str, width: f64) -> String {
    let room = ((width - 6.0) / CHAR).max(0.0) as usize;
    if name.chars().count() <= room {
        return name.to_owned();
    }
    match room {
        0..3 => String::new(),
        room => name.chars().take(room - 2).chain("..".chars()).collect(),
    }
}

fn time(nanos: u64) -> String {
    let time = Duration::from_nanos(nanos);
    match nanos {
        0..1_000_000 => format!("{:.1} µs", time.as_secs_f64() * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML cannot represent them.
            char if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') => {
                escaped.push(' ')
            }
            char => escaped.push(char),
        }
    }
    escaped
}
