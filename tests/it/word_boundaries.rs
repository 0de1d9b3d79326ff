//! Catches words that are cut, glued together, lost or counted wrongly at odd bytes, at the cuts between tasks and files,
//! or by the way to the output and back.

use crate::job::Job;
use crate::output::counted_by_tools;
use crate::text;

const ALL: [&str; 3] = ["1", "2", "4"];

/// Counts the words of files in a folder and compares with the tools of the system.
#[track_caller]
fn check(files: &[(&str, &[u8])], path: &str, arguments: &[&str]) {
    let job = Job::new();
    let mut text = Vec::new();
    for (name, content) in files {
        job.write(name, content);
        text.extend_from_slice(content);
        text.push(b'\n');
    }
    let path = format!("source.text.path={path}");
    job.run(&[&["--set", &path], arguments].concat())
        .succeeded()
        .says("finished: ");
    let expected = counted_by_tools(&text);
    job.output().is_exactly(&expected);
}

#[track_caller]
fn check_file(content: &[u8]) {
    for parallelism in ALL {
        check(
            &[("in.txt", content)],
            "in.txt",
            &["--parallelism", parallelism],
        );
    }
}

#[test]
fn nothing_and_next_to_nothing() {
    check_file(b"");
    check_file(b"\n");
    check_file(b" \t\r\n\x0b\x0c\n\n ");
    check_file(b"one");
    check_file(b"one\n");
    check_file(b"no newline at\nthe end");
}

#[test]
fn any_bytes() {
    let mut every_byte: Vec<u8> = (0..=255).collect();
    every_byte.extend((0..=255_u8).flat_map(|byte| [byte, b'x', byte, b' ']));
    check_file(&every_byte);
    check_file(b"\xff\xfe \x80 \xc3\x28 \xc3 \xff\xfe\n\xed\xa0\x80");
    check_file(b"\0 \0\0 a\0b \0\n\0");
    check_file("ärger \u{2028} \u{a0} Ärger\u{85}ärger".as_bytes());
}

#[test]
fn any_white_space() {
    check_file(b"one two\r\none\r\n\r\ntwo\r\n");
    check_file(b"a\rb\ra\r\rb");
    check_file(b"a\x0bb\x0ca\x0b\x0cb\ta");
    check_file(b"   indented  text   \n\t\tand more ");
}

#[test]
fn what_csv_quotes() {
    check_file(b"a,b \"a\" \"\" \" , ,, \"a,b\" a\"b \"\"\" a,b \",\n'x' =1+1");
}

#[test]
fn one_line_of_ten_megabytes() {
    let mut line = text::text(10_000_000, 1);
    for byte in &mut line {
        if *byte == b'\n' {
            *byte = b'\t';
        }
    }
    check_file(&line);
}

#[test]
fn one_word_of_ten_megabytes() {
    check_file(&vec![b'x'; 10_000_000]);
}

#[test]
fn a_million_words() {
    let words: String = (0..1_000_000)
        .map(|number| format!("w{}\n", number % 250_007))
        .collect();
    for (parallelism, split_bytes) in [("1", "16777216"), ("2", "100003"), ("4", "65536")] {
        let split_bytes = format!("source.text.split-bytes={split_bytes}");
        check(
            &[("in.txt", words.as_bytes())],
            "in.txt",
            &["--parallelism", parallelism, "--set", &split_bytes],
        );
    }
}

#[test]
fn cuts_fall_on_any_byte() {
    let text = b"ab cd\n\nefg\r\nh i\nj\n\n\nklmnop ab\nlast line";
    for split_bytes in 1..=8 {
        let split_bytes = format!("source.text.split-bytes={split_bytes}");
        check(
            &[("in.txt", text)],
            "in.txt",
            &["--parallelism", "2", "--set", &split_bytes],
        );
    }
}

#[test]
fn folders_and_patterns() {
    let files: [(&str, &[u8]); 5] = [
        ("texts/a.txt", b"one two"),
        ("texts/b.txt", b"two three\n"),
        ("texts/c.txt", b""),
        ("texts/below/d.txt", b"three\r\nfour one"),
        ("texts/below/with space, \"x\".txt", b"five"),
    ];
    for parallelism in ALL {
        check(&files, "texts", &["--parallelism", parallelism]);
        check(&files, "texts/**/*.txt", &["--parallelism", parallelism]);
        check(&files[..3], "texts/?.txt", &["--parallelism", parallelism]);
        check(
            &files[..1],
            "texts/[!b-z].txt",
            &["--parallelism", parallelism],
        );
    }
}
