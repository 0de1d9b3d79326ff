//! Catches a component from Go that imports more than the contract, and a run-time that never stops waiting.

use std::fs;

use floodmark_engine::guest::{GuestEngine, Instance, Plugin};
use floodmark_plugin_build::Language;
use floodmark_state::stream::Batch;

use crate::languages::is_available;
use crate::plugins::repository;

const OPERATOR: &str = r#"package main

import (
	"fmt"
	"os"
	"time"

	"floodmark.dev/sdk"
)

type demo struct{}

func (*demo) Process(record sdk.Record, out *sdk.Output) error {
	fmt.Println("no text: \xff\xe2\x82")
	before := time.Now()
	switch string(record.Value()) {
	case "exit":
		os.Exit(0)
	case "panic":
		panic("that was enough")
	case "block":
		<-make(chan int)
	case "open":
		if _, err := os.ReadFile("/etc/hostname"); err == nil {
			out.EmitString("a file")
		}
	}
	time.Sleep(time.Hour)
	waited := make(chan bool)
	go func() { waited <- time.Since(before) > time.Hour }()
	out.Emitf("%v %v %v", <-waited, len(os.Args), len(os.Environ()))
	return nil
}

func init() { sdk.Register(&demo{}) }

func main() {}
"#;

fn call(instance: &mut Instance, value: &str) -> Result<String, String> {
    let mut batch = Batch::default();
    batch.push(b"key", value.as_bytes(), 0);
    let output = instance.process(0, &batch, &[], None);
    let output = output.map_err(|error| error.to_string())?;
    let values = output
        .emissions
        .iter()
        .map(|emission| emission.values.get(0));
    let values: Vec<_> = values.map(String::from_utf8_lossy).collect();
    Ok(values.join("; "))
}

fn check_runs(plugin: &Plugin) {
    assert!(
        plugin
            .imports()
            .iter()
            .all(|import| import.starts_with("floodmark:engine/"))
    );
    let open = || plugin.open("demo", &[]).unwrap();
    let mut instance = open();
    assert_eq!(call(&mut instance, "wait"), Ok("true 0 0".to_owned()));
    assert_eq!(call(&mut instance, "open"), Ok("true 0 0".to_owned()));
    let error = call(&mut instance, "panic").unwrap_err();
    assert!(
        error.contains("panic: that was enough at main.(*demo).Process ("),
        "{error}"
    );
    assert_eq!(
        call(&mut instance, "wait"),
        Ok("true 0 0".to_owned()),
        "after an error"
    );
    call(&mut instance, "exit").unwrap_err();
    call(&mut open(), "block").unwrap_err();
}

#[test]
fn a_folder_becomes_a_plugin_without_an_operating_system() {
    if !is_available(Language::Go) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sdk = repository().join("guest-sdk/go").canonicalize().unwrap();
    let manifest = format!(
        "module example.com/demo\n\ngo 1.24\n\nrequire floodmark.dev/sdk v0.0.0\n\nreplace floodmark.dev/sdk => {}\n",
        sdk.display()
    );
    fs::write(folder.path().join("go.mod"), manifest).unwrap();
    fs::write(folder.path().join("main.go"), OPERATOR).unwrap();
    let component = floodmark_plugin_build::component(folder.path(), &mut |_| ()).unwrap();
    let engine = GuestEngine::new(None).unwrap();
    let component = fs::read(component).unwrap();
    check_runs(&engine.load("demo", &component).unwrap());
}
