//! The `floodmark` command. Everything is in the library; this file only hands the arguments over.

use std::process::ExitCode;

fn main() -> ExitCode {
    floodmark::run()
}
