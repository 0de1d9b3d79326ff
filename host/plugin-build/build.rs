//! Translates the adapters of Go's components from text, so that the command needs no parser for it.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const ADAPTERS: [&str; 1] = ["preview1"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for name in ADAPTERS {
        let text = format!("src/go/{name}.wat");
        println!("cargo::rerun-if-changed={text}");
        fs::write(
            out.join(name).with_extension("wasm"),
            wat::parse_file(text)?,
        )?;
    }
    Ok(())
}
