//! Counts words as `word-count` does, with the same state, and misbehaves as its configuration says. So `word-count` is
//! the plugin in which the defect is corrected.

use floodmark_sdk::{Config, Decimal, Error, Operator, Output, Record, Result, States, Value};

#[derive(Debug, Default, States)]
struct Misbehaves {
    count: Value<u64>,
    /// The word at which to panic.
    #[state(skip)]
    panic_at: Option<Vec<u8>>,
    /// The word at which to return an error.
    #[state(skip)]
    fail_at: Option<Vec<u8>>,
    /// The word from which there is no return.
    #[state(skip)]
    hang_at: Option<Vec<u8>>,
    /// How many words an instance can stand.
    #[state(skip)]
    words_left: u64,
}

impl Operator for Misbehaves {
    fn open(config: &Config) -> Result<Self> {
        if config.parse_or("panic-in-open", false)? {
            panic!("not in the mood");
        }
        let word = |option| config.find(option).map(|word| word.as_bytes().to_vec());
        Ok(Self {
            panic_at: word("panic-at"),
            fail_at: word("fail-at"),
            hang_at: word("hang-at"),
            words_left: config.parse_or("panic-after", u64::MAX)?,
            ..Self::default()
        })
    }

    fn process(&mut self, word: Record<'_>, out: &mut Output<'_>) -> Result {
        let is = |told: &Option<Vec<u8>>| told.as_deref() == Some(word.key());
        if is(&self.panic_at) {
            panic!("cannot stand this word");
        }
        if is(&self.fail_at) {
            return Err(Error::new("this word is too much"));
        }
        self.words_left = self.words_left.checked_sub(1).expect("that was enough");
        while is(&self.hang_at) {
            std::hint::spin_loop();
        }
        let count = self.count.or_default();
        *count += 1;
        out.emit(Decimal(*count));
        Ok(())
    }
}

floodmark_sdk::export!(Misbehaves);
