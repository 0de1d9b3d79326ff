//! What tests and benchmarks share: numbers from a seed, and bytes from hexadecimal text.

/// Numbers from a seed: SplitMix64 (Steele, Lea and Flood, 2014). The same seed gives the same numbers everywhere.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// Any number.
    #[expect(
        clippy::should_implement_trait,
        reason = "it has no end, and needs no adapters"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// At most `len_max` bytes of an alphabet.
    pub fn bytes(&mut self, alphabet: &[u8], len_max: usize) -> Vec<u8> {
        let len = self.index(len_max + 1);
        let bytes = (0..len).map(|_| alphabet[self.index(alphabet.len())]);
        bytes.collect()
    }

    /// An index of something that has `len` elements, at least one.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

/// The bytes of hexadecimal text, two digits each; all that is not a digit, such as white space, is left out.
///
/// # Panics
/// When a digit is left over.
#[must_use]
pub fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.chars().filter_map(|digit| digit.to_digit(16));
    let digits: Vec<u8> = digits.map(|digit| digit as u8).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "two digits make a byte");
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

#[cfg(test)]
mod tests {
    //! Catches seeds that give other numbers than they did, so that a reported seed repeats nothing.

    use super::*;

    #[test]
    fn numbers_are_those_of_the_paper() {
        let mut random = Random(1_234_567);
        let first = [random.next(), random.next(), random.next()];
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(first, published);
    }

    #[test]
    fn hexadecimal_text_may_have_lines() {
        assert_eq!(from_hex("00 ff\n1a"), [0, 255, 26]);
    }
}
