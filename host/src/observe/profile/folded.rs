//! Collapsed stacks, which tools for flame graphs read: a line has the names from the outermost on, between semicolons, and
//! the nanoseconds.

use std::fmt::Write;

use super::Profile;
use super::tree::ProfileTree;

impl Profile {
    /// As collapsed stacks, in nanoseconds.
    #[must_use]
    pub fn folded(&self) -> String {
        let mut text = String::new();
        lines(&self.tree, &name(&self.job), &mut text);
        text
    }
}

fn lines(tree: &ProfileTree, path: &str, text: &mut String) {
    if tree.own > 0 {
        // To write to a text does not fail.
        let _ = writeln!(text, "{path} {}", tree.own);
    }
    for (below, tree) in &tree.below {
        lines(tree, &format!("{path};{}", name(below)), text);
    }
}

/// A name without what separates names and lines.
fn name(name: &str) -> String {
    let char = |char: char| match char {
        ';' => ':',
        char if char.is_control() => ' ',
        char => char,
    };
    name.chars().map(char).collect()
}
