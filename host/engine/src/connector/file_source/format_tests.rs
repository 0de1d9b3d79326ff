//! Catches a byte order mark that is taken for data, rows that are cut at other bytes than the settings name, output of a
//! file sink whose first record is lost, and errors that name the wrong line.

use std::fs;

use tempfile::TempDir;

use super::tests::{message, read_all, source};
use floodmark_state::stream::NO_TIMESTAMP;

/// Keys and values of a file, as text.
fn read(name: &str, content: &[u8], toml: &str) -> Result<Vec<String>, String> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(name), content).unwrap();
    let records = read_all(&source(&folder, &format!("path = '{name}'\n{toml}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let records = records.iter();
    Ok(records
        .map(|(key, value, _)| format!("{}={}", text(key), text(value)))
        .collect())
}

#[track_caller]
fn same(content: &[u8], toml: &str, expected: &[&str]) {
    assert_eq!(read("f", content, toml).unwrap(), expected, "{toml}");
}

#[track_caller]
fn refused(content: &[u8], toml: &str, expected: &str) {
    let found = message(read("f", content, toml));
    assert!(found.contains(expected), "{found}");
}

#[test]
fn a_byte_order_mark_is_not_data() {
    // However short the ranges are, the first line is read once.
    for split_bytes in 1..9 {
        let ranges = format!("split-bytes = {split_bytes}");
        let file = "\u{feff}a b\n\u{feff}c d\n".as_bytes();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("f"), file).unwrap();
        let source = source(&folder, &format!("path = 'f'\n{ranges}"));
        let mut values: Vec<_> = read_all(&source).unwrap();
        values.sort();
        let value = |text: &str| (Vec::new(), text.as_bytes().to_vec(), NO_TIMESTAMP);
        assert_eq!(values, [value("a b"), value("\u{feff}c d")], "{ranges}");
    }
    same("\u{feff}".as_bytes(), "", &[]);
    same(
        "\u{feff}k\tv".as_bytes(),
        "key-separator = \"\\t\"",
        &["k=v"],
    );
    same("\u{feff}1\n".as_bytes(), "format = 'jsonl'", &["=1"]);
    let csv = "format = 'csv'\nkey = 'a'";
    let row = "1={\"a\":\"1\"}";
    same("\u{feff}a\n1\n".as_bytes(), csv, &[row]);
    let listed = format!("{csv}\nheader = false\ncolumns = ['a']");
    same("\u{feff}1\n".as_bytes(), &listed, &[row]);
}

#[test]
fn rows_have_the_layout_of_the_settings() {
    let layout = "format = 'csv'\nkey = 'b'\ndelimiter = ';'\nquote = \"'\"";
    let row = "x;\"={\"a\":\"1,2\",\"b\":\"x;\\\"\"}";
    same(b"a;b\n1,2;'x;\"'\n", layout, &[row]);
    let listed = format!("{layout}\nheader = false\ncolumns = ['a', 'b']");
    same(b"1,2;'x;\"'\n", &listed, &[row]);
    same(
        b"1\t2\n3\t4",
        "format = 'csv'\ndelimiter = '\\t'\nheader = false\ncolumns = ['a', 'b']\nkey = ['b', 'a']",
        &[
            "[\"2\",\"1\"]={\"a\":\"1\",\"b\":\"2\"}",
            "[\"4\",\"3\"]={\"a\":\"3\",\"b\":\"4\"}",
        ],
    );
    refused(
        b"1;2\n",
        &listed.replace("'b']", "'b', 'c']"),
        "but there are 3 columns",
    );
}

#[test]
fn output_of_a_file_sink_does_not_lose_its_first_record() {
    let part = "part-00000001-000.csv";
    let csv = "format = 'csv'\n";
    let found = message(read(part, b"k,1\n", csv));
    assert!(
        found.contains("line 1, byte 0: the file is named like output"),
        "{found}"
    );
    assert!(found.contains("header = false"), "{found}");
    let row = "={\"key\":\"k\",\"value\":\"1\"}";
    let listed = format!("{csv}header = false\ncolumns = ['key', 'value']");
    assert_eq!(read(part, b"k,1\n", &listed).unwrap(), [row]);
    assert_eq!(read(part, b"key,value\nk,1\n", csv).unwrap(), [row]);
    let stated = format!("{csv}header = true");
    assert_eq!(read(part, b"k,1\n", &stated).unwrap(), [""; 0]);
    assert_eq!(read("other.csv", b"k,1\n", csv).unwrap(), [""; 0]);
}

#[test]
fn errors_name_the_line_and_the_byte() {
    refused(
        b"1\n\n{",
        "format = 'jsonl'",
        "f`, line 3, byte 3: the line is not",
    );
    refused(
        b"a\r\n\"x\ny\"\r\n\r\n1,2\r\n",
        "format = 'csv'",
        "f`, line 5, byte 12: the row has 2",
    );
    refused(
        b"a\n\"x\ny\"\n\"",
        "format = 'csv'",
        "f`, line 4, byte 8: the row starts a quoted",
    );
    refused(
        b"{}\n",
        "format = 'jsonl'\nkey = 'a'",
        "there is no field `a`",
    );
    refused(
        b"{\"a\":null}\n",
        "format = 'jsonl'\nkey = 'a'",
        "field `a` is null",
    );
    same(
        b"{\"a\":\"null\"}\n",
        "format = 'jsonl'\nkey = 'a'",
        &["null={\"a\":\"null\"}"],
    );
    refused(
        b"{\"t\":1770000000}",
        "format = 'jsonl'\ntimestamp = 't'",
        "line 1, byte 0: the event time 1770000000 looks like seconds",
    );
}

#[test]
fn lines_have_event_times() {
    const TIME: i64 = 1_796_005_322_000;
    for (form, line, expected) in [
        (
            "%Y-%m-%d %H:%M:%S,%f",
            "2026-11-30 02:22:02,123 INFO started",
            TIME + 123,
        ),
        (
            "[%d/%b/%Y:%H:%M:%S %z]",
            "::1 - - [30/Nov/2026:03:22:02 +0100] \"GET / HTTP/1.1\" 200 7",
            TIME,
        ),
        ("rfc3339", "level=info ts=2026-11-30T02:22:02Z up", TIME),
    ] {
        for separator in ["", "key-separator = ' '\n"] {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join("f"), line).unwrap();
            let toml = format!("path = 'f'\n{separator}timestamp-format = '{form}'");
            let records = read_all(&source(&folder, &toml)).unwrap();
            let times: Vec<_> = records.iter().map(|(_, _, time)| *time).collect();
            assert_eq!(times, [expected], "{form}");
        }
    }
    refused(
        b"2026-11-30 a\nno\n",
        "timestamp-format = '%F'",
        "f`, line 2, byte 13: the line has no event time of the form `%F`",
    );
    let field = "format = 'jsonl'\ntimestamp = 't'\ntimestamp-format = '%F'";
    same(
        b"{\"t\":\"2026-11-30\"}",
        field,
        &["={\"t\":\"2026-11-30\"}"],
    );
    refused(
        b"{\"t\":\"2026-11-30 \"}",
        field,
        "is not an event time of the form `%F`",
    );
}

#[test]
fn a_header_names_all_columns() {
    let csv = "format = 'csv'\n";
    refused(
        b"a,,b\n1,2,3\n",
        csv,
        "f`, line 1, byte 0: column 2 has no name",
    );
    refused(
        b"a\r1\r2,3\r",
        csv,
        "f`, line 3, byte 4: the row has 2 fields, but there is 1 column;",
    );
    let names: Vec<_> = (0..100).map(|name| format!("{name:050}")).collect();
    let header = names.join(",") + "\n";
    let found = message(read("f", header.as_bytes(), &format!("{csv}key = 'k'")));
    assert!(found.contains("…` and 96 more"), "{found}");
    assert!(found.len() < 600, "{found}");
}
