//! Reads and writes states as the contract forbids, in the way that its configuration names. Its states are a value, a list and
//! a map, in this order.

use floodmark_sdk::columns::{
    Batch, Column, Description, ListWrites, MapWrites, OptionalColumn, Output, Part, Plugin,
    StateDeclaration, StateKind,
};
use floodmark_sdk::{Config, Port, Result, reads};

const LIST: u16 = 1;
const MAP: u16 = 2;

struct Overreaches {
    does: String,
}

impl Plugin for Overreaches {
    fn describe() -> Description {
        let kinds = [StateKind::Value, StateKind::List, StateKind::Map];
        let states = kinds.into_iter().zip(["value", "list", "map"]);
        Description {
            name: String::new(),
            version: String::new(),
            states: states
                .map(|(kind, name)| StateDeclaration {
                    name: name.to_owned(),
                    kind,
                    version: 1,
                    ttl_ms: None,
                })
                .collect(),
            inputs: vec!["in".to_owned()],
            outputs: vec!["out".to_owned()],
        }
    }

    fn open(config: &Config) -> Result<Self> {
        let does = config.get("does")?.to_owned();
        if does == "read in open" {
            let _ = reads::list_len(LIST, &[0]);
        }
        Ok(Self { does })
    }

    fn process(&mut self, _: Port, _: Batch, _: Vec<OptionalColumn>) -> Result<Output> {
        let column = |items: &[&[u8]]| {
            let mut column = Column::new();
            for item in items {
                column.push(item);
            }
            column
        };
        let mut present = OptionalColumn::new();
        present.push(Some(b"x"));
        present.push(Some(b"y"));
        let mut list = ListWrites {
            state: LIST,
            cleared: Vec::new(),
            slots: vec![0],
            values: column(&[b"x"]),
        };
        let mut map = MapWrites {
            state: MAP,
            cleared: Vec::new(),
            slots: vec![0, 0],
            sub_keys: column(&[b"b", b"a"]),
            values: present,
        };
        match self.does.as_str() {
            "read a slot" => drop(reads::list_read(LIST, 1, 0, 1)),
            "read a state" => drop(reads::list_len(7, &[0])),
            "read a kind" => drop(reads::map_scan(LIST, 0, b"", None, false, 1)),
            "read a long sub-key" => drop(reads::map_get(MAP, &[0], &column(&[&[0; 65_537]]))),
            "read by one slot too many" => drop(reads::map_get(MAP, &[0, 0], &column(&[b"a"]))),
            "write a kind" => list.state = MAP,
            "write a slot" => list.slots = vec![1],
            "clear twice" => list.cleared = vec![0, 0],
            "write a sub-key twice" => map.sub_keys = column(&[b"a", b"a"]),
            "write a long sub-key" => map.sub_keys = column(&[b"a", &[0; 65_537]]),
            "write without a sub-key" => map.sub_keys = column(&[b"a"]),
            _ => {}
        }
        Ok(Output {
            lists: vec![list],
            maps: vec![map],
            ..Output::new()
        })
    }

    fn migrate(_: u16, _: u32, _: &Column) -> Result<Column> {
        let mut one = Column::new();
        one.push(b"one");
        Ok(one)
    }

    fn to_json(_: u16, _: Part, _: &Column) -> Result<Column> {
        let mut text = Column::new();
        text.push(b"{ no json");
        Ok(text)
    }

    fn checkpoint_completed(&mut self, _: u64) {
        let _ = reads::list_len(LIST, &[0]);
    }
}

floodmark_sdk::export_plugin!(Overreaches);
