//! Formats a profile as collapsed stacks, which flame graph tools read: each line has the names from the outermost on,
//! separated by semicolons, and the nanoseconds.

use std::fmt::Write;

use super::Profile;
use super::tree::ProfileTree;

impl Profile {
    /// The profile as collapsed stacks, in nanoseconds.
    #[must_use]
    pub fn folded(&self) -> String {
        let mut text = String::new();
        lines(&self.tree, &name(&self.job), &mut text);
        text
    }
}

fn lines(tree: &ProfileTree, path: &str, text: &mut String) {
    if tree.own > 0 {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{path} {}", tree.own);
    }
    for (below, tree) in &tree.below {
        lines(tree, &format!("{path};{}", name(below)), text);
    }
}

/// A name without the characters that separate names and lines.
fn name(name: &str) -> String {
    let char = |char: char| match char {
        ';' => ':',
        char if char.is_control() => ' ',
        char => char,
    };
    name.chars().map(char).collect()
}
