//! The contract between engine and plugins as text, embedded in the command: plugins are built for the contract of the
//! command that builds them, wherever it is installed.

use std::fs;
use std::io;
use std::path::Path;

use wit_component::StringEncoding;
use wit_parser::{Resolve, SourceMap, WorldId};

/// The files of `wit/`: name and text.
pub const FILES: [(&str, &str); 11] = [
    (
        "checkpoint-listener.wit",
        include_str!("../../../wit/checkpoint-listener.wit"),
    ),
    (
        "input-columns.wit",
        include_str!("../../../wit/input-columns.wit"),
    ),
    ("log.wit", include_str!("../../../wit/log.wit")),
    ("metrics.wit", include_str!("../../../wit/metrics.wit")),
    ("operator.wit", include_str!("../../../wit/operator.wit")),
    (
        "operator-compact.wit",
        include_str!("../../../wit/operator-compact.wit"),
    ),
    (
        "operator-packed.wit",
        include_str!("../../../wit/operator-packed.wit"),
    ),
    (
        "state-values.wit",
        include_str!("../../../wit/state-values.wit"),
    ),
    ("state.wit", include_str!("../../../wit/state.wit")),
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("world.wit", include_str!("../../../wit/world.wit")),
];

/// The world that a plugin implements.
pub const WORLD: &str = "plugin";
/// The world of a plugin whose calls have numbers packed as bytes.
pub const PACKED_WORLD: &str = "packed-plugin";
/// The world of a plugin whose calls have fewer bytes.
pub const COMPACT_WORLD: &str = "compact-plugin";

/// The world of a core module: a project may have a copy of an SDK that only supports plain calls.
fn world_of(module: &[u8]) -> &'static str {
    let compact = b"floodmark:engine/operator-compact@0.1.0#process";
    match memchr::memmem::find(module, compact) {
        Some(_) => COMPACT_WORLD,
        None => WORLD,
    }
}

/// Writes the files to a folder, which is created if it is missing.
pub(super) fn unpack(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// The world of an adapter: it may log, as if the plugin did.
const ADAPTER: (&str, &str) = ("adapter.wit", "world adapter { import log; }");

/// The parsed contract, and one of its worlds.
fn resolved(world: &str) -> (Resolve, WorldId) {
    let mut source = SourceMap::default();
    for (name, text) in FILES.iter().chain([&ADAPTER]) {
        source.push_str(name, *text);
    }
    let parsed = source.parse().map_err(|(_, error)| error);
    let parsed = parsed.expect("the bindings of the host were made of the same text");
    let mut resolve = Resolve::default();
    let package = resolve.push_group(parsed);
    let package = package.expect("the contract names nothing outside of it");
    let world = resolve.select_world(&[package], Some(world));
    (resolve, world.expect("the contract has this world"))
}

/// Marks a core module as an implementation of a world of the contract.
fn mark(module: &mut Vec<u8>, world: &str) -> Result<(), String> {
    let (resolve, world) = resolved(world);
    wit_component::embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
        .map_err(|error| format!("{error:#}"))
}

/// Wraps a core module, which implements the contract by the names of its imports and exports, as a component. An
/// adapter implements the module's imports of the same name; it may use the contract's `log`.
///
/// # Errors
/// When an import or export does not fit: which one.
pub(super) fn component_of(
    mut module: Vec<u8>,
    adapters: &[(&str, &[u8])],
) -> Result<Vec<u8>, String> {
    let world = world_of(&module);
    mark(&mut module, world)?;
    let shown = |error| format!("{error:#}");
    let encoder = wit_component::ComponentEncoder::default();
    let mut encoder = encoder.module(&module).map_err(shown)?.validate(true);
    for (name, adapter) in adapters {
        let mut adapter = adapter.to_vec();
        mark(&mut adapter, "adapter")?;
        encoder = encoder.adapter(name, &adapter).map_err(shown)?;
    }
    encoder.encode().map_err(shown)
}
