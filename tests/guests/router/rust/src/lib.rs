//! Parts numbers: below the limit to `small`, others to `large`, and each odd one also to `odd`, all under one key
//! there. What is not a number is rejected.

use floodmark_sdk::{Config, Operator, Output, Port, Record, Result, States};

#[derive(Debug, States)]
struct Router {
    /// The least number that is large.
    #[state(skip)]
    limit: i64,
}

const LARGE: Port = Port::named(Router::OUTPUTS, "large");
const ODD: Port = Port::named(Router::OUTPUTS, "odd");

#[floodmark_sdk::operator]
impl Operator for Router {
    const OUTPUTS: &'static [&'static str] = &["small", "large", "odd"];

    fn open(config: &Config) -> Result<Self> {
        Ok(Self {
            limit: config.parse_or("limit", 100)?,
        })
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let value = record.value();
        let Some(number) = number(value) else {
            let value = String::from_utf8_lossy(value);
            out.reject(format_args!("not a number: {value}"));
            return Ok(());
        };
        let port = match number < self.limit {
            true => Port::FIRST,
            false => LARGE,
        };
        out.to(port).emit(value);
        if number % 2 != 0 {
            out.to(ODD).key("odd").at(0).emit(value);
        }
        Ok(())
    }
}

floodmark_sdk::export!(Router);

/// The number that a value spells: ASCII digits, with a `-` before them or without. A `+` is not part of a number.
fn number(value: &[u8]) -> Option<i64> {
    let text = str::from_utf8(value).ok()?;
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    //! Catches numbers that leave by the wrong port, under the wrong key or time, or are none and leave all the same.

    use floodmark_sdk::testing::{Given, Task};

    use super::*;

    fn check(task: &mut Task, value: &str, ports: &[&str]) {
        let emitted = task
            .run([Given::from(("k", value)).at(7)])
            .expect("nothing fails");
        let emitted: Vec<_> = emitted
            .iter()
            .map(|one| (one.output.as_str(), one.key.as_slice(), one.timestamp))
            .collect();
        let expected = ports.iter().map(|&port| match port {
            "odd" => (port, b"odd".as_slice(), Some(0)),
            port => (port, b"k".as_slice(), Some(7)),
        });
        assert_eq!(emitted, expected.collect::<Vec<_>>(), "{value}");
    }

    #[test]
    fn numbers_are_parted() {
        let mut task = Task::new::<Router>();
        check(&mut task, "98", &["small"]);
        check(&mut task, "99", &["small", "odd"]);
        check(&mut task, "100", &["large"]);
        check(&mut task, "-9223372036854775807", &["small", "odd"]);
        check(&mut task, "9223372036854775807", &["large", "odd"]);
        let mut task = Task::with_config::<Router>(&[("limit", "-5")]);
        check(&mut task, "-6", &["small"]);
        check(&mut task, "-5", &["large", "odd"]);
        check(&mut task, "007", &["large", "odd"]);
    }

    #[test]
    fn what_is_no_number_is_rejected() {
        let mut task = Task::new::<Router>();
        let no_numbers = [
            "",
            "-",
            "+1",
            "1 ",
            "1.0",
            "0x10",
            "9223372036854775808",
            "١",
        ];
        for value in no_numbers {
            check(&mut task, value, &[]);
            let rejected = task.take_rejected();
            assert_eq!(rejected.len(), 1, "{value}");
            assert_eq!(rejected[0].reason, format!("not a number: {value}"));
        }
    }
}
