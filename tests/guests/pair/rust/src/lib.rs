//! Emits each record with the name of its input, and rejects those that begin with `reject`, unless `mended` is set.

use floodmark_sdk::{Config, Operator, Output, Port, Record, Result, States};

#[derive(Debug, States)]
struct Pair {
    #[state(skip)]
    mended: bool,
}

#[floodmark_sdk::operator]
impl Operator for Pair {
    const INPUTS: &'static [&'static str] = &["left", "right"];

    fn open(config: &Config) -> Result<Self> {
        Ok(Self {
            mended: config.parse_or("mended", false)?,
        })
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let text = record.text()?;
        if text.starts_with("reject") && !self.mended {
            out.reject("as the record asks");
            return Ok(());
        }
        let input = match record.input() {
            Port::FIRST => "left",
            _ => "right",
        };
        out.emit(format_args!("{input} {text}"));
        Ok(())
    }
}

floodmark_sdk::export!(Pair);
