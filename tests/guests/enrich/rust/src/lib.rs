//! Adds to each record the profile of its key. Profiles have an input of their own, and an empty one clears what was
//! there.

use floodmark_sdk::{Config, Operator, Output, Port, Record, Result, States, Value};

#[derive(Debug, Default, States)]
struct Enrich {
    profile: Value<String>,
}

const PROFILES: Port = Port::named(Enrich::INPUTS, "profiles");

#[floodmark_sdk::operator]
impl Operator for Enrich {
    const INPUTS: &'static [&'static str] = &["records", "profiles"];

    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let text = record.text()?;
        if record.input() == PROFILES {
            if text.is_empty() {
                self.profile.clear();
            } else {
                self.profile.set(text.to_owned());
            }
        } else {
            let profile = self.profile.get().map_or("?", String::as_str);
            out.emit(format_args!("{text}|{profile}"));
        }
        Ok(())
    }
}

floodmark_sdk::export!(Enrich);

#[cfg(test)]
mod tests {
    //! Catches inputs that are mixed up, and a profile that is lost or stays after it was cleared.

    use floodmark_sdk::testing::Task;

    use super::*;

    #[test]
    fn a_record_meets_the_last_profile_of_its_key() -> Result {
        let mut task = Task::new::<Enrich>();
        assert_eq!(task.run([("ann", "hello")])?, [("ann", "hello|?")]);
        assert!(
            task.run_on(
                "profiles",
                [("ann", "gold"), ("bob", "new"), ("ann", "top")]
            )?
            .is_empty()
        );
        task.kill();
        let met = [("ann", "a|top"), ("bob", "b|new"), ("eve", "c|?")];
        assert_eq!(
            task.run_on("records", [("ann", "a"), ("bob", "b"), ("eve", "c")])?,
            met
        );
        assert_eq!(task.value("profile", "ann"), Some("top".to_owned()));
        Ok(())
    }

    #[test]
    fn an_empty_profile_is_none() -> Result {
        let mut task = Task::new::<Enrich>();
        task.run_on("profiles", [("ann", "gold"), ("ann", "")])?;
        assert_eq!(task.run([("ann", "a")])?, [("ann", "a|?")]);
        assert_eq!(task.value::<String>("profile", "ann"), None);
        Ok(())
    }
}
