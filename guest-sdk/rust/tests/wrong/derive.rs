//~ `Zähler` cannot name a state; use 1 to 64 characters of `a-z`, `0-9` and `-`
//~ there are two states `count`; rename one
//~ a state knows `skip`, `name = ".."` and `version = 1`
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
enum Either {
    Count(Value<u64>),
}

#[derive(States)]
struct Unnamed(Value<u64>);
