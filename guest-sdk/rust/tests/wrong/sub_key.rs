//~ `f64` cannot be the sub-key of a map
//~ sub-keys are integers, `bool`, text, bytes, and tuples of which all but the last are integers or `bool`
//~ `String` can only come last in a sub-key
use floodmark_sdk::{Map, States};

#[derive(Default, States)]
struct Fraction {
    counts: Map<f64, u64>,
}

#[derive(Default, States)]
struct TextFirst {
    counts: Map<(String, u64), u64>,
}
