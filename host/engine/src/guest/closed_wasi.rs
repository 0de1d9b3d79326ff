//! Implements the closed WASI for plugins, which gives no access to the system.
//!
//! Language runtimes require some WASI imports. Here they all exist and give nothing: no environment, no arguments, no
//! folders, no network, no input, a fixed clock and random numbers from a fixed seed, so that the same batches always
//! give the same outputs. Standard output and standard error are kept for messages about crashes. All other functions,
//! such as those that wait for time to pass, trap with an explanation.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, Resource, ResourceType, Val};
use wasmtime::{Engine, Result, StoreContextMut, bail};

use super::guest_state::GuestState;

const PACKAGES: [&str; 6] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Number of bytes that a stream reports it can accept.
const WRITE_BYTES: u64 = 64 << 10;

/// Largest number of random bytes from one call.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// The host's value of every resource of the closed WASI.
struct Closed;

/// Whether an import is one that runtimes require.
pub(super) fn knows(import: &str) -> bool {
    PACKAGES.iter().any(|package| import.starts_with(package))
}

/// Defines everything that the component imports from WASI.
///
/// # Errors
/// When an import is neither a function nor a resource.
pub(super) fn add_to_linker(
    engine: &Engine,
    linker: &mut Linker<GuestState>,
    compiled: &Component,
) -> Result<()> {
    for (import, item) in compiled.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else {
            continue;
        };
        if !knows(import) {
            continue;
        }
        let mut instance = linker.instance(import)?;
        let interface_name = import.split('@').next().unwrap_or(import).to_owned();
        for (name, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let (interface, function) = (interface_name.clone(), name.to_owned());
                    instance.func_new(name, move |mut store, _, params, results| {
                        call(&mut store, &interface, &function, params, results)?;
                        give_back(&mut store, params)
                    })?;
                }
                ComponentItem::Resource(_) => {
                    instance.resource(name, ResourceType::host::<Closed>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn call(
    store: &mut StoreContextMut<'_, GuestState>,
    interface: &str,
    function: &str,
    params: &[Val],
    results: &mut [Val],
) -> Result<()> {
    let answer = match (interface, function) {
        ("wasi:cli/environment", "get-environment" | "get-arguments") => Val::List(Vec::new()),
        ("wasi:filesystem/preopens", "get-directories") => Val::List(Vec::new()),
        ("wasi:cli/environment", "initial-cwd") => Val::Option(None),
        (
            "wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr",
            _,
        ) => Val::Option(None),
        ("wasi:cli/stdin" | "wasi:cli/stdout" | "wasi:cli/stderr", _)
        | ("wasi:io/streams", "[method]output-stream.subscribe") => {
            let closed = Resource::<Closed>::new_own(1).try_into_resource_any(&mut *store)?;
            Val::Resource(closed)
        }
        // Only streams return pollables, and they are always ready: wasi-libc polls before each write.
        ("wasi:io/poll", "[method]pollable.block") => return Ok(()),
        ("wasi:io/poll", "[method]pollable.ready") => Val::Bool(true),
        ("wasi:io/streams", "[method]output-stream.check-write") => ok(Some(Val::U64(WRITE_BYTES))),
        (
            "wasi:io/streams",
            "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush",
        ) => {
            if let Some(Val::List(bytes)) = params.get(1) {
                let bytes = bytes.iter().filter_map(|byte| match byte {
                    Val::U8(byte) => Some(*byte),
                    _ => None,
                });
                store.data_mut().write_stderr(bytes);
            }
            ok(None)
        }
        (
            "wasi:io/streams",
            "[method]output-stream.flush" | "[method]output-stream.blocking-flush",
        ) => ok(None),
        ("wasi:clocks/monotonic-clock", "now") => Val::U64(0),
        ("wasi:clocks/monotonic-clock" | "wasi:clocks/wall-clock", "resolution")
        | ("wasi:clocks/wall-clock", "now") => {
            return clock(interface, function, results);
        }
        ("wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed", _) => {
            random(store.data_mut(), interface, function, params)?
        }
        ("wasi:cli/exit", _) => bail!("the plugin asked to exit"),
        // Input is always at its end.
        ("wasi:io/streams", "[method]input-stream.read" | "[method]input-stream.blocking-read") => {
            Val::Result(Err(Some(Box::new(Val::Variant("closed".to_owned(), None)))))
        }
        _ => bail!(
            "`{interface}#{function}` is closed to plugins, which have no files, network or clock"
        ),
    };
    if let Some(result) = results.first_mut() {
        *result = answer;
    }
    Ok(())
}

/// Numbers that are random for no attacker, and the same in each run.
fn random(state: &mut GuestState, interface: &str, function: &str, params: &[Val]) -> Result<Val> {
    Ok(match function {
        "get-random-u64" | "get-insecure-random-u64" => Val::U64(state.random()),
        "get-random-bytes" | "get-insecure-random-bytes" => random_bytes(state, params)?,
        _ if interface == "wasi:random/insecure-seed" => {
            Val::Tuple(vec![Val::U64(state.random()), Val::U64(state.random())])
        }
        _ => bail!("`{interface}#{function}` is closed to plugins"),
    })
}

/// Ends what the guest has lent for the call: the call traps otherwise.
fn give_back(store: &mut StoreContextMut<'_, GuestState>, params: &[Val]) -> Result<()> {
    for param in params {
        if let Val::Resource(lent) = param {
            lent.resource_drop(&mut *store)?;
        }
    }
    Ok(())
}

fn ok(value: Option<Val>) -> Val {
    Val::Result(Ok(value.map(Box::new)))
}

/// All clocks are fixed at zero.
fn clock(interface: &str, function: &str, results: &mut [Val]) -> Result<()> {
    let Some(result) = results.first_mut() else {
        return Ok(());
    };
    let tick = u64::from(function == "resolution");
    *result = match interface {
        "wasi:clocks/monotonic-clock" => Val::U64(tick),
        _ => Val::Record(vec![
            ("seconds".to_owned(), Val::U64(0)),
            ("nanoseconds".to_owned(), Val::U32(u32::from(tick == 1))),
        ]),
    };
    Ok(())
}

fn random_bytes(state: &mut GuestState, params: &[Val]) -> Result<Val> {
    let Some(Val::U64(len)) = params.first() else {
        bail!("random bytes were asked for without a length");
    };
    if *len > RANDOM_BYTES_MAX {
        bail!(
            "{len} random bytes were asked for at once, but at most {RANDOM_BYTES_MAX} are allowed"
        );
    }
    let bytes = (0..*len).map(|_| Val::U8(state.random() as u8)).collect();
    Ok(Val::List(bytes))
}
