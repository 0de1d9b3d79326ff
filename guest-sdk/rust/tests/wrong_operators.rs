//! Catches operators that are wrong and compile, or whose error does not say what to do.
//!
//! Each case in `wrong/` names, in its first lines, sentences that the compiler must say. The cases are compiled against the
//! library that this test is built with; only sentences are compared, so no path and no wording of the compiler's own matters.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[test]
fn wrong_operators_do_not_compile_and_say_why() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut cases: Vec<PathBuf> = fs::read_dir(cases)
        .expect("the cases stand beside this file")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    cases.sort();
    assert!(cases.len() > 1, "there are cases");
    for case in cases {
        check(&case);
    }
}

fn check(case: &Path) {
    let source = fs::read_to_string(case).expect("a case can be read");
    let sentences = source.lines().filter_map(|line| line.strip_prefix("//~ "));
    let sentences: Vec<&str> = sentences.collect();
    let said = compile(case);
    let name = case.display();
    assert_eq!(said.is_empty(), sentences.is_empty(), "{name}:\n{said}");
    for sentence in sentences {
        assert!(
            said.contains(sentence),
            "{name}: `{sentence}` is not in\n{said}"
        );
    }
}

/// What the compiler says about a case: nothing if it is right.
fn compile(case: &Path) -> String {
    let executable = env::current_exe().expect("a test knows where it is");
    let dependencies = executable.parent().expect("it is in a folder");
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "lib",
            "--emit",
            "metadata",
            "-Awarnings",
            "-o",
        ])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.rmeta"))
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .arg("--extern")
        .arg(format!(
            "floodmark_sdk={}",
            newest_library(dependencies).display()
        ))
        .arg(case)
        // The case stands for a crate of its own.
        .env("CARGO_PKG_NAME", "wrong")
        .env("CARGO_PKG_VERSION", "0.0.0")
        .output()
        .expect("the compiler starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

/// This library as it was built last; older ones with other settings may lie beside it.
fn newest_library(dependencies: &Path) -> PathBuf {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libfloodmark_sdk-") && name.ends_with(".rlib")
    };
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    fs::read_dir(dependencies)
        .expect("the folder can be read")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_library)
        .max_by_key(changed)
        .expect("this test is built after the library")
}
