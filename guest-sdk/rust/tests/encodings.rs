//! Catches an encoding that changed: `guest-sdk/encodings.json` is what the SDKs of all languages test against, and
//! each of its vectors is what this SDK writes and reads. `UPDATE_GOLDEN=1` rewrites the file.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and functions around tests are tests too"
)]

use std::fmt::Write as _;

use floodmark_sdk::encoding::{Encoding, Json, Postcard, Raw, SubKey};
use serde_json::{Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../encodings.json");

/// The head of the file.
const ABOUT: &[&str] = &[
    "How values of states and sub-keys of maps are written: the same in the SDKs of all languages.",
    "Made and checked by `guest-sdk/rust/tests/encodings.rs`; change it there.",
    "Integers are decimal strings in `value`, since not every JSON parser reads them exactly; bytes are hex strings. `hex` is \
     what the encoding writes. `json` is the text that `to-json` gives and `from-json` takes: integers are plain numbers there.",
    "`json` of an f64 may be written otherwise if it is the same number (`1` for `1.0`). One that is not a number is `null`, and \
     does not come back.",
    "Objects of the encoding `json` keep their order here because it is alphabetical.",
    "`refused`: bytes that must not decode (`hex`), and texts that `from-json` must not take (`json`).",
    "A sub-key's `type` is a name, or an array of names for a tuple. Vectors of one type are in ascending order: of `hex`, too.",
];

/// The lines of one list of the file.
struct Lines(Vec<Value>);

impl Lines {
    fn value<E: Encoding<T>, T: PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        value: &T,
        shown: Value,
    ) {
        let (mut bytes, mut text, mut again) = (Vec::new(), Vec::new(), Vec::new());
        E::encode(value, &mut bytes).unwrap();
        assert_eq!(E::decode(&bytes).unwrap(), *value);
        E::to_json(&bytes, &mut text).unwrap();
        E::from_json(&text, &mut again).unwrap();
        assert_eq!(again, bytes);
        let text = String::from_utf8(text).unwrap();
        self.0
            .push(json!({ "encoding": name, "value": shown, "hex": hex(&bytes), "json": text }));
    }

    fn refused<E: Encoding<T>, T: std::fmt::Debug>(
        &mut self,
        name: &str,
        bytes: &[&[u8]],
        texts: &[&str],
    ) {
        for bytes in bytes {
            E::decode(bytes).unwrap_err();
            self.0.push(json!({ "encoding": name, "hex": hex(bytes) }));
        }
        for text in texts {
            E::from_json(text.as_bytes(), &mut Vec::new()).unwrap_err();
            self.0.push(json!({ "encoding": name, "json": text }));
        }
    }

    /// For values in ascending order.
    fn sub_keys<K: SubKey + PartialEq + std::fmt::Debug>(
        &mut self,
        name: Value,
        values: &[K],
        shown: impl Fn(&K) -> Value,
    ) {
        let mut last = None;
        for value in values {
            let mut bytes = Vec::new();
            value.append_to(&mut bytes);
            assert_eq!(K::from_bytes(&bytes).unwrap(), *value);
            let json = value.to_json();
            assert_eq!(K::from_json(&json).unwrap(), *value);
            self.0.push(json!({
                "type": name, "value": shown(value), "hex": hex(&bytes), "json": json.to_string(),
            }));
            assert!(last < Some(bytes.clone()));
            last = Some(bytes);
        }
    }

    fn refused_sub_keys<K: SubKey + std::fmt::Debug>(
        &mut self,
        name: Value,
        bytes: &[&[u8]],
        texts: &[&str],
    ) {
        for bytes in bytes {
            K::from_bytes(bytes).unwrap_err();
            self.0.push(json!({ "type": name, "hex": hex(bytes) }));
        }
        for text in texts {
            K::from_json(&serde_json::from_str(text).unwrap()).unwrap_err();
            self.0.push(json!({ "type": name, "json": text }));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn exact(integer: impl ToString) -> Value {
    Value::String(integer.to_string())
}

fn values() -> Lines {
    let mut lines = Lines(Vec::new());
    let past_doubles = (1 << 53) + 1;
    let numbers = [
        0,
        1,
        127,
        128,
        300,
        16_383,
        16_384,
        u64::from(u32::MAX),
        past_doubles,
    ];
    for number in numbers.into_iter().chain([1 << 63, u64::MAX]) {
        lines.value::<Postcard, _>("u64", &number, exact(number));
    }
    let past_doubles = (1_i64 << 53) + 1;
    let numbers = [
        0,
        -1,
        1,
        -64,
        63,
        64,
        -65,
        1_000_000,
        past_doubles,
        -past_doubles,
    ];
    for number in numbers.into_iter().chain([i64::MIN, i64::MAX]) {
        lines.value::<Postcard, _>("i64", &number, exact(number));
    }
    for truth in [false, true] {
        lines.value::<Postcard, _>("bool", &truth, json!(truth));
    }
    for number in [
        0.0,
        -0.0,
        1.0,
        -1.5,
        0.1,
        1e300,
        f64::MIN_POSITIVE,
        f64::MAX,
    ] {
        lines.value::<Postcard, _>("f64", &number, json!(number));
    }
    let long = "long ".repeat(40);
    for text in ["", "a", "rain", "ä \"€\" 🌊\n", "\0", &long] {
        lines.value::<Postcard, _>("text", &text.to_owned(), json!(text));
    }
    lines.value::<Postcard, _>("unit", &(), Value::Null);
    for bytes in [&b""[..], b"rain", "ä".as_bytes(), b"\xff\x00", b"\0"] {
        lines.value::<Raw, _>("raw", &bytes.to_vec(), json!(hex(bytes)));
    }
    for value in [
        Value::Null,
        json!(true),
        json!(0),
        json!(-7),
        json!(0.5),
        json!("ä \"€\" 🌊\n"),
        json!([]),
        json!([1, "two", null, [3]]),
        json!({}),
        json!({ "all": 3, "errors": 1, "last": { "at": 7, "text": "rain" } }),
    ] {
        lines.value::<Json, _>("json", &value, value.clone());
    }
    lines
}

fn refused() -> Lines {
    let mut lines = Lines(Vec::new());
    let too_long = [0xff; 11];
    let above = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    let integers: &[&[u8]] = &[b"", b"\x80", b"\x01\x02", &too_long, &above];
    let never = ["", "null", "1.5", "\"1\"", "[1]", "1 2"];
    let texts = [&never[..], &["-1", "18446744073709551616"]].concat();
    lines.refused::<Postcard, u64>("u64", integers, &texts);
    let texts = [&never[..], &["9223372036854775808", "-9223372036854775809"]].concat();
    lines.refused::<Postcard, i64>("i64", integers, &texts);
    lines.refused::<Postcard, bool>("bool", &[b"", b"\x02", b"\x01\x01"], &["1", "null"]);
    lines.refused::<Postcard, f64>("f64", &[b"", &[0; 7], &[0; 9]], &["\"1\"", "null", "true"]);
    let texts: &[&[u8]] = &[b"", b"\x02a", b"\x01ab", b"\x01\xff", b"\x80"];
    lines.refused::<Postcard, String>("text", texts, &["1", "null", "[\"a\"]"]);
    lines.refused::<Postcard, ()>("unit", &[b"\0"], &["0", "\"\"", "[]"]);
    let texts = [
        "1",
        "null",
        "{\"hex\":\"f\"}",
        "{\"hex\":\"fg\"}",
        "{\"hex\":1}",
        "{}",
    ];
    lines.refused::<Raw, Vec<u8>>("raw", &[], &texts);
    lines.refused::<Json, Value>("json", &[b"", b"{", b"1 2", b"\"\xff\""], &["", "{", "1 2"]);
    lines
}

macro_rules! integers {
    ($lines:expr, $($integer:ident),+) => { $(
        let (low, high) = ($integer::MIN, $integer::MAX);
        let mut numbers = vec![low, low + 1, low / 2, 0, 1, 100, high / 2 + 1, high];
        numbers.sort_unstable();
        numbers.dedup();
        $lines.sub_keys(json!(stringify!($integer)), &numbers, |number| exact(*number));
    )+ };
}

fn sub_keys() -> Lines {
    let mut lines = Lines(Vec::new());
    integers!(lines, u8, u16, u32, u64, i8, i16, i32, i64);
    lines.sub_keys(json!("bool"), &[false, true], |truth| json!(truth));
    let texts = ["", "\0", "a", "a\0", "ab", "rain", "ä", "🌊"].map(str::to_owned);
    lines.sub_keys(json!("text"), &texts, |text| json!(text));
    let bytes = [&b""[..], b"\0", b"\0\xff", b"rain", b"\xff"].map(<[u8]>::to_vec);
    lines.sub_keys(json!("bytes"), &bytes, |bytes| json!(hex(bytes)));
    let pairs = [(-1, "b"), (0, ""), (0, "a"), (1, "")];
    let pairs: Vec<(i16, String)> = pairs.map(|(first, text)| (first, text.to_owned())).into();
    lines.sub_keys(json!(["i16", "text"]), &pairs, |(first, text)| {
        json!([exact(first), text])
    });
    let pairs: [(u64, Vec<u8>); 3] = [(1, vec![]), (1, vec![255]), (1 << 60, b"a".to_vec())];
    lines.sub_keys(json!(["u64", "bytes"]), &pairs, |(first, bytes)| {
        json!([exact(first), hex(bytes)])
    });
    let triples = [
        (1, false, -7_i64),
        (1, true, i64::MIN),
        (1, true, 0),
        (2, false, 0),
    ];
    lines.sub_keys(
        json!(["u8", "bool", "i64"]),
        &triples,
        |(first, second, third): &(u8, bool, i64)| json!([exact(first), second, exact(third)]),
    );
    lines
}

fn refused_sub_keys() -> Lines {
    let mut lines = Lines(Vec::new());
    let texts = ["256", "-1", "\"1\"", "null", "1.5"];
    lines.refused_sub_keys::<u8>(json!("u8"), &[b"", b"\0\0"], &texts);
    lines.refused_sub_keys::<u64>(
        json!("u64"),
        &[&[0; 7], &[0; 9]],
        &["-1", "18446744073709551616"],
    );
    lines.refused_sub_keys::<i64>(json!("i64"), &[&[0; 7]], &["9223372036854775808", "true"]);
    lines.refused_sub_keys::<bool>(json!("bool"), &[b"", b"\x02", b"\0\0"], &["0", "null"]);
    lines.refused_sub_keys::<String>(json!("text"), &[b"\xff"], &["1", "null"]);
    lines.refused_sub_keys::<Vec<u8>>(json!("bytes"), &[], &["1", "{\"hex\":\"f\"}"]);
    let texts = ["[1]", "[1,\"a\",2]", "[\"a\",1]", "1", "[40000,\"a\"]"];
    lines.refused_sub_keys::<(i16, String)>(
        json!(["i16", "text"]),
        &[b"", b"\0", b"\0\0\xff"],
        &texts,
    );
    lines
}

/// One vector per line.
fn file() -> String {
    let mut file = "{\n  \"about\": [".to_owned();
    for (index, line) in ABOUT.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(file, "{comma}\n    {}", json!(line)).unwrap();
    }
    file += "\n  ]";
    for (name, lines) in [
        ("values", values()),
        ("refused", refused()),
        ("sub-keys", sub_keys()),
        ("refused-sub-keys", refused_sub_keys()),
    ] {
        write!(file, ",\n  \"{name}\": [").unwrap();
        for (index, line) in lines.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(file, "{comma}\n    {line}").unwrap();
        }
        file += "\n  ]";
    }
    file + "\n}\n"
}

#[test]
fn the_vectors_of_all_languages_are_what_this_sdk_does() {
    let expected = file();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(FILE, &expected).unwrap();
    }
    let found = std::fs::read_to_string(FILE).unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
}
