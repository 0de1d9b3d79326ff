//! Keeps the last values of each key in a list: emits how many there are and all of them, the oldest first.

use floodmark_sdk::{Config, List, Operator, Output, Record, Result, States};

#[derive(Debug, Default, States)]
struct History {
    values: List<String>,
    /// How many values are kept.
    #[state(skip)]
    length: usize,
}

#[floodmark_sdk::operator]
impl Operator for History {
    fn open(config: &Config) -> Result<Self> {
        Ok(Self {
            length: config.parse_or("length", 5)?,
            ..Self::default()
        })
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        self.values.push(record.text()?.to_owned());
        let mut values = self.values.to_vec()?;
        // A list loses items only all at once, so it is made short when it is twice as long as it needs to be.
        let excess = values.len().saturating_sub(self.length);
        values.drain(..excess);
        if excess >= self.length {
            self.values.replace(values.iter().cloned());
        }
        out.emit(format_args!("{} {}", values.len(), values.join(",")));
        Ok(())
    }
}

floodmark_sdk::export!(History);

#[cfg(test)]
mod tests {
    //! Catches values that are lost, doubled or out of order when a list is made short.

    use floodmark_sdk::testing::check_disposable;

    use super::*;

    #[test]
    fn the_last_values_are_kept() {
        let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let emitted = check_disposable::<History>(
            &[("length", "3")],
            numbers.iter().map(|number| ("k", number)),
        );
        for (index, record) in emitted.iter().enumerate() {
            let kept = &numbers[(index + 1).saturating_sub(3)..=index];
            let expected = format!("{} {}", kept.len(), kept.join(","));
            assert_eq!(*record, ("k", expected));
        }
    }
}
