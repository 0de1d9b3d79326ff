//! Keeps the latest value of each key, and emits how long the one before it was. Its state is as large as its input, which is
//! what benchmarks of state need.

use floodmark_sdk::encoding::Raw;
use floodmark_sdk::{Config, Decimal, Operator, Output, Record, Result, States, Value};

#[derive(Debug, Default, States)]
struct Latest {
    value: Value<Vec<u8>, Raw>,
}

#[floodmark_sdk::operator]
impl Operator for Latest {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let before = self.value.get().map_or(0, Vec::len);
        self.value.set(record.value().to_vec());
        out.emit(Decimal(before as u64));
        Ok(())
    }
}

floodmark_sdk::export!(Latest);

#[cfg(test)]
mod tests {
    //! Catches a value that is not kept.

    use floodmark_sdk::testing::check_disposable;

    use super::*;

    #[test]
    fn the_latest_value_stays() {
        let given = [("a", "one"), ("b", "x"), ("a", "three")];
        assert_eq!(
            check_disposable::<Latest>(&[], given),
            [("a", "0"), ("b", "0"), ("a", "3")]
        );
    }
}
