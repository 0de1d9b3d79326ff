//! Text and chance, both from one seed; and how a word is found in a text.

use floodmark_testing::Random;

/// At least this many bytes of lines of words. A few words are frequent and most are rare; some need quotes in CSV.
pub fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut text = Vec::with_capacity(bytes + 64);
    while text.len() < bytes {
        let rare = random.below(50_000);
        let number = random.below(rare + 1);
        let word = match number % 97 {
            0 => format!("\"w{number}\""),
            1 => format!("w,{number}"),
            _ => format!("word{number}"),
        };
        text.extend_from_slice(word.as_bytes());
        text.push(if random.below(12) == 0 { b'\n' } else { b' ' });
    }
    text
}

/// Whether `word` stands in `text`, and not only as a part of a longer one: letters, digits and `joint` make a word longer.
pub fn has_word(text: &str, word: &str, joint: char) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == joint;
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        ![before, after].into_iter().flatten().any(is_part)
    })
}
