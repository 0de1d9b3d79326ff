//! Numbers the words that it sees, and keeps the number in its memory, where no checkpoint finds it: what a plugin must
//! not do. Undisturbed runs give the same output; after a crash the numbers start over.

use floodmark_sdk::{Config, Decimal, Operator, Output, Record, Result, States};

#[derive(Debug, Default, States)]
struct Forgetful {
    #[state(skip)]
    seen: u64,
}

#[floodmark_sdk::operator]
impl Operator for Forgetful {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _: Record<'_>, out: &mut Output<'_>) -> Result {
        self.seen += 1;
        out.emit(Decimal(self.seen));
        Ok(())
    }
}

floodmark_sdk::export!(Forgetful);
