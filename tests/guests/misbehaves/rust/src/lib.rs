//! Misbehaves in one of two ways.
//!
//! Without options each record's value says what to do, as the plugins of other languages in this case do.
//! With one of its options it counts words as `word-count` does, with the same state, until the configuration's word comes by. So
//! `word-count` is the plugin in which the defect is corrected.

use floodmark_sdk::{Config, Decimal, Error, Operator, Output, Record, Result, States, Value};

#[derive(Debug, Default, States)]
struct Misbehaves {
    count: Value<u64>,
    /// What misbehaves while it counts; without it, values say what to do.
    #[state(skip)]
    defect: Option<Defect>,
}

#[derive(Debug)]
struct Defect {
    /// The word at which to panic.
    panic_at: Option<Vec<u8>>,
    /// The word at which to return an error.
    fail_at: Option<Vec<u8>>,
    /// The word from which there is no return.
    hang_at: Option<Vec<u8>>,
    /// How many words an instance can stand.
    words_left: Option<u64>,
}

#[floodmark_sdk::operator]
impl Operator for Misbehaves {
    fn open(config: &Config) -> Result<Self> {
        if config.parse_or("panic-in-open", false)? {
            panic!("not in the mood");
        }
        let word = |option| config.find(option).map(|word| word.as_bytes().to_vec());
        let defect = Defect {
            panic_at: word("panic-at"),
            fail_at: word("fail-at"),
            hang_at: word("hang-at"),
            words_left: config
                .find("panic-after")
                .map(|_| config.parse("panic-after"))
                .transpose()?,
        };
        let words = [&defect.panic_at, &defect.fail_at, &defect.hang_at];
        let is_there = defect.words_left.is_some() || words.into_iter().any(Option::is_some);
        Ok(Self {
            defect: is_there.then_some(defect),
            ..Self::default()
        })
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let Some(defect) = &mut self.defect else {
            return obey(record.value(), out);
        };
        defect.strike(record.key())?;
        let count = self.count.or_default();
        *count += 1;
        out.emit(Decimal(*count));
        Ok(())
    }
}

impl Defect {
    fn strike(&mut self, word: &[u8]) -> Result {
        let is = |told: &Option<Vec<u8>>| told.as_deref() == Some(word);
        if is(&self.panic_at) {
            panic!("cannot stand this word");
        }
        if is(&self.fail_at) {
            return Err(Error::new("this word is too much"));
        }
        if let Some(left) = &mut self.words_left {
            *left = left.checked_sub(1).expect("that was enough");
        }
        while is(&self.hang_at) {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

/// Does what a value says.
fn obey(told: &[u8], out: &mut Output<'_>) -> Result {
    match told {
        b"trap" => panic!("as asked"),
        b"loop" => loop {
            std::hint::spin_loop();
        },
        b"memory" => fill_memory(),
        b"error" => return Err(Error::new("as asked")),
        b"log" => floodmark_sdk::info!("hello"),
        other => out.emit(other),
    }
    Ok(())
}

/// Keeps what it allocates, so that there is no way to do without the memory.
fn fill_memory() {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

floodmark_sdk::export!(Misbehaves);

#[cfg(test)]
mod tests {
    //! Catches modes that are mixed up. `loop` and `memory` have no end here; they are tested where they have limits.

    use floodmark_sdk::log::Level;
    use floodmark_sdk::testing::Task;

    use super::*;

    #[test]
    fn a_value_says_what_to_do() -> Result {
        let mut task = Task::new::<Misbehaves>();
        assert_eq!(
            task.run([("k", "traps"), ("k", "")])?,
            [("k", "traps"), ("k", "")]
        );
        assert!(task.run([("k", "log")])?.is_empty());
        assert_eq!(task.take_log(), [(Level::Info, "hello".to_owned())]);
        let refused = task
            .run([("k", "a"), ("k", "error")])
            .expect_err("it is told to fail");
        assert!(refused.to_string().ends_with(": as asked"), "{refused}");
        assert_eq!(task.value::<u64>("count", "k"), None);
        Ok(())
    }

    #[test]
    #[should_panic(expected = "as asked")]
    fn a_trap_is_a_panic() {
        let _ = Task::new::<Misbehaves>().run([("k", "trap")]);
    }

    #[test]
    fn with_an_option_it_counts() -> Result {
        let mut task = Task::with_config::<Misbehaves>(&[("fail-at", "bad")]);
        assert_eq!(
            task.run([("k", "error"), ("k", "")])?,
            [("k", "1"), ("k", "2")]
        );
        assert!(task.run([("bad", "")]).is_err());
        Ok(())
    }
}
