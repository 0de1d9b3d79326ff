//! A plugin that traps in `describe`.

use floodmark_sdk::columns::{Batch, Description, OptionalColumn, Output, Plugin};
use floodmark_sdk::{Config, Port, Result};

struct TrapsInDescribe;

impl Plugin for TrapsInDescribe {
    fn describe() -> Description {
        panic!("no words for it");
    }

    fn open(_: &Config) -> Result<Self> {
        Ok(Self)
    }

    fn process(&mut self, _: Port, _: Batch, _: Vec<OptionalColumn>) -> Result<Output> {
        unreachable!("the host never gets so far")
    }
}

floodmark_sdk::export_plugin!(TrapsInDescribe);
