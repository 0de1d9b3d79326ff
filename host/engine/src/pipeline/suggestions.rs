//! Finds the nearest known word for an unknown one.
//!
//! Names from Apache Flink come first, because similarity of letters would not find them; then case and underscores,
//! then the edit distance. The caller passes the known words.

/// Words from habit, and their names here.
const HABITS: &[(&str, &str)] = &[
    ("blackhole", "discard"),
    ("backend", "storage"),
    ("checkpoint-interval", "interval"),
    ("checkpoint-timeout", "timeout"),
    ("checkpointing", "checkpoint"),
    ("console", "stdout"),
    ("datagen", "generator"),
    ("execution", "checkpoint"),
    ("filesystem", "file"),
    ("function", "operator"),
    ("input", "from"),
    ("inputs", "from"),
    ("jar", "plugin"),
    ("json", "jsonl"),
    ("max-retained-checkpoints", "retained"),
    ("min-pause-between-checkpoints", "min-pause"),
    ("ndjson", "jsonl"),
    ("num-retained", "retained"),
    ("managed-memory", "memory"),
    ("number-of-rows", "records"),
    ("parallelism.default", "parallelism"),
    ("pipeline", "job"),
    ("print", "stdout"),
    ("raw", "lines"),
    ("rows-per-second", "rate"),
    ("text", "lines"),
    ("tolerable-failed-checkpoints", "tolerable-failures"),
    ("transform", "operator"),
    ("type", "connector"),
    ("wasm", "plugin"),
];

/// The known word that was probably meant.
pub(super) fn nearest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let plain = word.to_lowercase().replace('_', "-");
    let find = |wanted: &str| known.clone().into_iter().find(|name| *name == wanted);
    if let Some(found) = find(&plain) {
        return Some(found);
    }
    let habit = HABITS.iter().find(|(old, _)| *old == plain);
    if let Some(found) = habit.and_then(|(_, new)| find(new)) {
        return Some(found);
    }
    // A third of the letters may be wrong: with more, the guess would be arbitrary.
    let distance_max = (plain.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&plain, &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= distance_max)
        // Of those that are as near, one that was begun.
        .min_by_key(|(distance, name)| (*distance, !name.starts_with(&plain)))
        .map(|(_, name)| name)
}

/// The end of a message about an unknown word: `; did you mean …?`, or the known words.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = nearest(word, known.clone()) {
        return format!("; did you mean `{name}`?");
    }
    match list(known) {
        names if names.is_empty() => String::new(),
        names => format!("; known here: {names}"),
    }
}

/// Words in back quotes with commas between them.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    //! Catches a typo without a suggestion, and a suggestion that is far off.

    use super::nearest;

    #[test]
    fn typos_and_habits_find_their_word() {
        let known = [
            "connector",
            "from",
            "path",
            "format",
            "max-parallelism",
            "stdout",
        ];
        for (word, meant) in [
            ("pth", Some("path")),
            ("form", Some("from")),
            ("Max_Parallelism", Some("max-parallelism")),
            ("print", Some("stdout")),
            ("inputs", Some("from")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest("m", ["s", "ms", "us"]), Some("ms"));
    }
}
