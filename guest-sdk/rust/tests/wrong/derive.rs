//~ `Zähler` cannot name a state; use 1 to 64 characters of `a-z`, `0-9` and `-`
//~ there are two states `count`; rename one
//~ a state knows `skip`, `name = ".."`, `ttl = "1h"`, `version = 1` and `migrate = function`
//~ `1 hour` is not a duration; write one such as `500ms`, `10s`, `5min`, `1h` or `30d`
//~ `0s` is not between 1ms and 36525d
//~ values are migrated from an older version, and this state declares version 1; raise `version`
//~ version 1 is migrated twice
//~ an operator is a struct; its fields are its states
//~ a state needs a name that outlives this version of the plugin; name the fields
use floodmark_sdk::{States, Value};

#[derive(States)]
struct Umlaut {
    #[state(name = "Zähler")]
    count: Value<u64>,
}

#[derive(States)]
struct Twice {
    count: Value<u64>,
    #[state(name = "count")]
    other: Value<u64>,
}

#[derive(States)]
struct Attribute {
    #[state(skipped)]
    count: Value<u64>,
}

#[derive(States)]
struct Ttl {
    #[state(ttl = "1 hour")]
    count: Value<u64>,
}

#[derive(States)]
struct NoTtl {
    #[state(ttl = "0s")]
    count: Value<u64>,
}

fn older(count: u32) -> u64 {
    count.into()
}

#[derive(States)]
struct SameVersion {
    #[state(migrate(1 = older))]
    count: Value<u64>,
}

#[derive(States)]
struct MigratedTwice {
    #[state(version = 2, migrate = older, migrate(1 = older))]
    count: Value<u64>,
}

#[derive(States)]
enum Either {
    Count(Value<u64>),
}

#[derive(States)]
struct Unnamed(Value<u64>);
