//~ a migration of this state returns `String` instead of `u64`
//~ a migration is a function from what the state kept before to what it keeps now
//~ a state cannot keep `Old` with the encoding `Postcard`
use floodmark_sdk::{States, Value};

fn to_text(count: u32) -> String {
    count.to_string()
}

#[derive(Default, States)]
struct OtherType {
    #[state(version = 2, migrate = to_text)]
    count: Value<u64>,
}

struct Old(u64);

fn of_old(old: Old) -> u64 {
    old.0
}

#[derive(Default, States)]
struct Undecodable {
    #[state(version = 2, migrate = of_old)]
    count: Value<u64>,
}
