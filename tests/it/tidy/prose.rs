//! Catches phrases that leave a reader guessing, in code, documents and messages.

use super::{files, none};
use crate::text::has_word;

/// The ends of the names of files that have prose.
const WITH_PROSE: [&str; 11] = [
    "c", "cpp", "go", "h", "md", "py", "rs", "toml", "ts", "wat", "wit",
];

/// Words that leave a reader guessing, and what to write instead. In two halves, so that this file has none of them.
const UNCLEAR: [(&str, &str, &str); 26] = [
    ("who", "ever", "name the caller, worker, client or user"),
    ("whom", "ever", "name the caller, worker, client or user"),
    ("some", "body", "name the caller, worker, client or user"),
    ("no", "body", "`no client`, `no task` or `not read`"),
    (
        "for",
        " ever",
        "`without expiry`, `permanently` or `without end`",
    ),
    ("becomes", " of", "`how it is handled`"),
    ("of", " then", "`as of that checkpoint`"),
    (
        "goes",
        " on",
        "`resumes`, `continues` or `while the job runs`",
    ),
    ("comes", " again", "`is replayed`"),
    ("made", " anew", "`remade` or `built again`"),
    ("for", " good", "`permanently`"),
    ("of", " before", "`earlier`, or name the time"),
    ("of", " ours", "name the owner"),
    ("own", " accord", "`automatically`"),
    ("who", " asks", "name the caller, client or user"),
    ("who", " asked", "name the caller, client or user"),
    ("became", " of", "`how it was handled`"),
    ("passed", " over", "`skipped`"),
    ("took the", " place", "`replaced`"),
    ("stood", " still", "`paused`"),
    ("starts", " anew", "`starts over`"),
    ("begins", " anew", "`starts over`"),
    ("it is", " none", "`it is not one`, or name the type"),
    ("belongs", " into", "`belongs in`"),
    ("same", " breath", "`at the same time`"),
    ("its", " kin", "`similar functions`"),
];

#[test]
fn words_are_told_from_parts_of_words() {
    for (line, expected) in [
        ("one word", true),
        ("(word), say", true),
        ("sword and word", true),
        ("sword", false),
        ("words", false),
        ("a_word", false),
    ] {
        assert_eq!(has_word(line, "word", '_'), expected, "{line}");
    }
}

/// Prose in code, documents and messages alike says who acts, in usual words. [`UNCLEAR`] has what to write instead.
#[test]
fn prose_is_plain_english() {
    let words = UNCLEAR.map(|(one, other, instead)| ([one, other].concat(), instead));
    let mut found = Vec::new();
    for source in files(&[""], &WITH_PROSE) {
        for (number, line) in source.text.lines().enumerate() {
            let line = line.to_lowercase();
            for (word, instead) in words.iter().filter(|(word, _)| has_word(&line, word, '_')) {
                found.push(format!(
                    "{}:{}: {word}: rather {instead}",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    none(&found);
}
