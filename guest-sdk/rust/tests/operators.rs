//! Operators as users write them, run by `testing`.
//!
//! Catches state that reaches the wrong key or survives where it must not, emissions with another record's key, time or
//! port, and a harness that lets an operator with a memory of its own pass.

use floodmark_sdk::columns::{
    Batch, Description, Emission, EmittedKeys, EmittedTimes, OptionalColumn, Plugin, Selection,
};
use floodmark_sdk::encoding::{Encoding, Postcard, Raw};
use floodmark_sdk::log::Level;
use floodmark_sdk::testing::{Emitted, Given, Task, check_disposable};
use floodmark_sdk::{Config, Decimal, Operator, Output, Port, Record, Result, States, Value};
use serde::{Deserialize, Serialize};

/// Does to its states what the value of each record says.
#[derive(Default, States)]
struct Commands {
    last_text: Value<Text>,
    #[state(name = "bytes", version = 3)]
    raw: Value<Vec<u8>, Raw>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Text {
    text: String,
    length: Option<u16>,
}

impl Operator for Commands {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let Some((command, text)) = record.text()?.split_once(' ') else {
            return Err(floodmark_sdk::Error::new("a command has two words"));
        };
        match command {
            "set" => self.last_text.set(Text {
                text: text.to_owned(),
                length: u16::try_from(text.len()).ok(),
            }),
            "append" => {
                if let Some(last) = self.last_text.get_mut() {
                    last.text.push_str(text);
                }
                self.raw.or_default().extend_from_slice(text.as_bytes());
            }
            "take" => {
                if let Some(last) = self.last_text.take() {
                    out.emit(last.text);
                }
            }
            "clear" => self.raw.clear(),
            "show" => out.emit(format_args!("{:?}", self.last_text.get())),
            _ => panic!("unknown command"),
        }
        Ok(())
    }
}

#[test]
fn states_follow_their_key() -> Result {
    let mut task = Task::new::<Commands>();
    task.run([("a", "set one"), ("b", "set two"), ("a", "append +")])?;
    let a = task.value::<Text>("last-text", "a");
    assert_eq!(a.map(|text| text.text), Some("one+".to_owned()));
    assert_eq!(task.value_bytes("bytes", "a"), Some(b"+".to_vec()));
    assert_eq!(task.value_bytes("bytes", "b"), None);

    task.kill();
    let emitted = task.run([("b", "show it"), ("c", "show it"), ("a", "take it")])?;
    let b = "Some(Text { text: \"two\", length: Some(3) })";
    assert_eq!(emitted, [("b", b), ("c", "None"), ("a", "one+")]);
    assert_eq!(task.value::<Text>("last-text", "a"), None);

    task.run([("a", "clear it")])?;
    assert_eq!(task.value_bytes("bytes", "a"), None);
    Ok(())
}

#[test]
fn operators_with_all_they_keep_in_states_are_disposable() {
    let commands = [
        "set x", "append y", "show it", "take it", "append z", "clear it",
    ];
    let records = commands
        .iter()
        .flat_map(|command| [("a", command), ("b", command)]);
    check_disposable::<Commands>(&[], records);
}

#[test]
fn nothing_is_written_that_did_not_change() {
    let mut plugin = floodmark_sdk::RecordByRecord::<Commands>::open(&Config::default())
        .expect("there is nothing to configure");
    let text = |text: &str| Text {
        text: text.to_owned(),
        length: None,
    };
    let mut stored = Vec::new();
    Postcard::encode(&text("one"), &mut stored).expect("text encodes");
    let mut run = |value: &str| {
        let mut records = Batch {
            keys: Default::default(),
            slots: vec![1],
            values: Default::default(),
            timestamps: vec![0],
        };
        records.keys.push(b"unused");
        records.keys.push(b"a");
        records.values.push(value.as_bytes());
        let mut texts = OptionalColumn::new();
        texts.push(None);
        texts.push(Some(&stored));
        let mut raw = OptionalColumn::new();
        raw.push(None);
        raw.push(None);
        let output = plugin.process(Port::FIRST, records, vec![texts, raw]);
        let writes = output.expect("the command is known").values;
        writes
            .into_iter()
            .map(|write| (write.state, write.slots.places(2).collect()))
            .collect::<Vec<(u16, Vec<usize>)>>()
    };
    assert_eq!(run("show it"), []);
    assert_eq!(run("clear what was never there"), []);
    assert_eq!(run("take it"), [(0, vec![1])]);
    assert_eq!(run("append both"), [(0, vec![1]), (1, vec![1])]);
}

#[test]
fn a_failed_batch_changes_nothing() -> Result {
    let mut task = Task::new::<Commands>();
    task.run([("a", "set one")])?;
    let error = task.run([("a", "set two"), ("a", "wrong")]).unwrap_err();
    let message = error.into_message();
    assert_eq!(
        message,
        "a record with the key `a`: a command has two words"
    );
    assert_eq!(task.run([("a", "take it")])?, [("a", "one")]);
    Ok(())
}

#[test]
fn a_state_of_another_type_is_an_error_that_says_what_to_do() {
    let mut task = Task::new::<Commands>();
    task.set_value_bytes("last-text", "a", [200]);
    let message = task.run([("a", "show it")]).unwrap_err().into_message();
    assert!(
        message.starts_with("state `last-text` of key `a` does not decode as version 1"),
        "{message}"
    );
    assert!(
        message.ends_with("keep this state as it was and add another one for the new type"),
        "{message}"
    );

    // A value with something behind it is not the value either.
    task.set_value_bytes("last-text", "a", [0, 0, 7]);
    let message = task.run([("a", "show it")]).unwrap_err().into_message();
    assert!(message.contains("1 bytes are left over"), "{message}");
}

#[test]
fn names_and_versions_of_states_are_declared() {
    let description = floodmark_sdk::RecordByRecord::<Commands>::describe();
    let states = description
        .states
        .into_iter()
        .map(|state| (state.name, state.version));
    assert_eq!(
        states.collect::<Vec<_>>(),
        [("last-text".to_owned(), 1), ("bytes".to_owned(), 3)]
    );
}

/// Emits in every way there is.
#[derive(States)]
struct Router {
    #[state(skip)]
    prefix: String,
}

const ORDERS: Port = Port::named(Router::INPUTS, "orders");
const LATE: Port = Port::named(Router::OUTPUTS, "late");

impl Operator for Router {
    const INPUTS: &'static [&'static str] = &["clicks", "orders"];
    const OUTPUTS: &'static [&'static str] = &["all", "late"];

    fn open(config: &Config) -> Result<Self> {
        let prefix = config.get("prefix")?.to_owned();
        Ok(Self { prefix })
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        floodmark_sdk::info!("{} bytes", record.value().len());
        if record.input() == ORDERS {
            out.to(LATE).key(&self.prefix).at(9).emit(record.value());
            return Ok(());
        }
        out.emit(record.value());
        if record.value() == b"twice" {
            out.key("other").emit(Decimal(2));
            out.at(5).emit("third");
        }
        Ok(())
    }
}

#[test]
fn emissions_leave_as_they_were_made() -> Result {
    let mut task = Task::with_config::<Router>(&[("prefix", "p")]);
    let records = [
        Given::from(("a", "one")),
        Given::from(("b", "twice")).at(3),
        Given::from(("a", "two")),
    ];
    let emitted = task.run(records)?;
    let expected = [
        ("a", "one"),
        ("b", "twice"),
        ("other", "2"),
        ("b", "third"),
        ("a", "two"),
    ];
    assert_eq!(emitted, expected);
    let times = |emitted: &[Emitted]| {
        emitted
            .iter()
            .map(|record| record.timestamp)
            .collect::<Vec<_>>()
    };
    assert_eq!(times(&emitted), [None, Some(3), Some(3), Some(5), None]);

    let emitted = task.run_on("orders", [("a", "x")])?;
    assert_eq!(emitted, [("p", "x")]);
    assert_eq!(
        (emitted[0].output.as_str(), emitted[0].timestamp),
        ("late", Some(9))
    );

    let lines = task.take_log();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1], (Level::Info, "5 bytes".to_owned()));
    Ok(())
}

#[test]
fn a_wrong_configuration_does_not_open() {
    let check = |config: &[(&str, &str)], expected: &str| {
        let mut task = Task::with_config::<Router>(config);
        let error = task.run([("a", "")]).unwrap_err();
        assert_eq!(error.into_message(), expected);
    };
    check(&[], "option `prefix` is missing; set it");
    check(
        &[("prefix", "p"), ("suffix", "s")],
        "unknown option `suffix`; this operator knows `prefix`",
    );
}

/// Wrong on purpose: remembers in a field.
#[derive(Default, States)]
struct Forgetful {
    #[state(skip)]
    count: u64,
}

impl Operator for Forgetful {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _: Record<'_>, out: &mut Output<'_>) -> Result {
        self.count += 1;
        out.emit(Decimal(self.count));
        Ok(())
    }
}

#[test]
#[should_panic(expected = "keep what must last in a state")]
fn an_operator_with_a_memory_is_found_out() {
    check_disposable::<Forgetful>(&[], [("a", ""), ("a", "")]);
}

/// Sends the batch back as it came, by columns.
struct Echo;

impl Plugin for Echo {
    fn describe() -> Description {
        Description {
            name: "echo".to_owned(),
            version: String::new(),
            states: Vec::new(),
            inputs: vec!["in".to_owned()],
            outputs: vec!["out".to_owned()],
        }
    }

    fn open(_: &Config) -> Result<Self> {
        Ok(Self)
    }

    fn process(
        &mut self,
        _input: Port,
        records: Batch,
        _states: Vec<OptionalColumn>,
    ) -> Result<floodmark_sdk::columns::Output> {
        let emission = Emission {
            output: 0,
            records: Selection::All,
            keys: EmittedKeys::Same,
            values: Some(records.values),
            timestamps: EmittedTimes::Same,
        };
        Ok(floodmark_sdk::columns::Output {
            emissions: vec![emission],
            ..Default::default()
        })
    }
}

floodmark_sdk::export_plugin!(Echo);

#[test]
fn a_plugin_can_handle_columns_itself() -> Result {
    let mut task = Task::of_plugin::<Echo>(&[]);
    let records = [("a", "1"), ("b", "2"), ("a", "3")];
    assert_eq!(task.run(records)?, records);
    Ok(())
}

/// Counts words that are words.
#[derive(Default, States)]
struct Picky {
    count: Value<u64>,
}

impl Operator for Picky {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, word: Record<'_>, out: &mut Output<'_>) -> Result {
        if word.value().is_empty() {
            out.reject(format_args!("`{}` has no value", word.key().escape_ascii()));
            out.reject("and this is not said");
            return Ok(());
        }
        *self.count.or_default() += 1;
        out.emit("counted");
        Ok(())
    }
}

#[test]
fn a_rejected_record_leaves_the_others_of_its_batch_alone() -> Result {
    let mut task = Task::new::<Picky>();
    let emitted = task.run([("a", "1"), ("b", ""), ("a", ""), ("a", "2")])?;
    assert_eq!(emitted, [("a", "counted"), ("a", "counted")]);
    let rejected = task.take_rejected();
    assert_eq!(
        rejected,
        [("b", "", "`b` has no value"), ("a", "", "`a` has no value")]
    );
    assert!(task.take_rejected().is_empty());
    assert_eq!(task.value("count", "a"), Some(2_u64));
    assert_eq!(task.value::<u64>("count", "b"), None);
    Ok(())
}
