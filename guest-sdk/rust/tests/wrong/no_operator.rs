//~ `Counter` is not an operator
//~ an operator is opened with its configuration and then processes one record after the other
use floodmark_sdk::{States, Value};

#[derive(Default, States)]
struct Counter {
    count: Value<u64>,
}

floodmark_sdk::export!(Counter);
