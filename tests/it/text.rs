//! Text and chance, both from one seed; and how a word is found in a text.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

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
