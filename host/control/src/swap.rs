//! The routes that swap plugins of the running job.
//!
//! ```text
//! POST /v1/swap  {"operators":[{"operator":"count","file":"/a/new.wasm","config":{"k":"v"}}],
//!                 "shadow":0, "dry-run":false, "trial-ms":30000, "allow-dropped-state":false,
//!                 "rehearse":"sample"}
//! GET  /v1/swap         what the swap under way does: {"step":"it begins","seconds":3}, or null
//! POST /v1/swap/cancel  {"cancelled":true,"step":"it begins"}; step is null if there is none
//! ```
//!
//! A call names the file of a component, and the job reads it, so that a call need not be as large as a component.
//! Clients of the socket may give any path: they can already read files as the job's user. Clients of TCP name a file
//! in the folder `plugins` of the data folder. Without a file the operator keeps its plugin and gets another
//! configuration. The answer is [`floodmark_engine::edge::swap::Findings`] as JSON.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::routes::{HandlerPace, HttpRefusal, HttpReply, HttpRequest, Method, Route, Routes};
use floodmark_engine::edge::regular_file;
use floodmark_engine::edge::swap::{NewPlugin, RehearsalExtent, SwapRefusal, Swapper, Wish};

/// The path of the route.
pub const PATH: &str = "/v1/swap";
/// The path of the route that cancels a swap.
pub const CANCEL: &str = "/v1/swap/cancel";
/// The error code for a swap that a client has cancelled.
pub const CANCELLED: &str = "swap-cancelled";
/// The error code for a plugin that does not fit.
pub const UNFIT: &str = "plugin-unfit";
/// The folder in a data folder for components that are given by name instead of path.
pub const PLUGINS: &str = "plugins";
/// Largest component, in bytes.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;
/// Largest number of operators in one call.
const OPERATORS_MAX: usize = 64;
/// Longest file name, in characters.
const NAME_MAX: usize = 128;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Wished {
    operators: Vec<WishedPlugin>,
    #[serde(default)]
    shadow: u64,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    trial_ms: Option<u64>,
    #[serde(default)]
    allow_dropped_state: bool,
    #[serde(default)]
    rehearse: RehearsalExtent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WishedPlugin {
    operator: String,
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    without: Vec<String>,
}

/// Adds the routes. `folder` is the data folder.
#[must_use]
pub fn with_swap(routes: Routes, swapper: Swapper, folder: PathBuf) -> Routes {
    let (looking, cancelling, left) = (swapper.clone(), swapper.clone(), swapper.clone());
    routes
        .with(Route {
            method: Method::Post,
            path: PATH,
            about: "replaces plugins: `operators` with `operator`, `file`, `config` and `without`; `shadow`, `dry-run`, `trial-ms`, `allow-dropped-state`, `rehearse`",
            pace: HandlerPace::Waits,
            gone: Some(Arc::new(move |client| {
                // If the job has ended, nothing is left to cancel.
                let _ = left.cancel_of(client);
            })),
            handler: Arc::new(move |call| swap(&swapper, &folder, call).map(HttpReply::Json)),
        })
        .with_json(
            (Method::Get, PATH),
            "what the swap under way does, and since when",
            HandlerPace::AtOnce,
            move |_| {
                let found = looking.desk.look(looking.clock.now());
                Ok(found.map_or(Value::Null, |(step, since)| {
                    json!({ "step": step.to_string(), "seconds": since.as_secs() })
                }))
            },
        )
        .with_json(
            (Method::Post, CANCEL),
            "cancels the swap under way, unless its checkpoint has begun",
            HandlerPace::WaitsAlways,
            move |_| {
                let found = cancelling.cancel()?;
                let (step, is_cancelled) = found.unzip();
                Ok(json!({
                    "cancelled": is_cancelled.unwrap_or(false),
                    "step": step.map(|step| step.to_string()),
                }))
            },
        )
}

fn swap(swapper: &Swapper, folder: &Path, call: &HttpRequest) -> Result<Value, HttpRefusal> {
    let wished: Wished = call.json()?;
    if wished.operators.len() > OPERATORS_MAX {
        let message = format!("at most {OPERATORS_MAX} operators are replaced at once");
        return Err(HttpRefusal::bad_request(message));
    }
    let mut plugins = Vec::new();
    for wished in wished.operators {
        let component = match &wished.file {
            Some(file) => component(&path(call, folder, file)?)?,
            None => Vec::new(),
        };
        plugins.push(NewPlugin {
            operator: wished.operator,
            component,
            config: wished.config.into_iter().collect(),
            without: wished.without,
        });
    }
    let found = swapper.swap(&Wish {
        plugins,
        shadow: wished.shadow,
        dry_run: wished.dry_run,
        trial: wished.trial_ms.map(Duration::from_millis),
        allow_dropped_state: wished.allow_dropped_state,
        rehearse: wished.rehearse,
        client: Some(call.number),
    })?;
    Ok(json!(found))
}

impl From<SwapRefusal> for HttpRefusal {
    fn from(refusal: SwapRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            refusal if refusal.is_of_plugin() => Self::new(422, UNFIT, message),
            refusal if refusal.is_of_request() => Self::bad_request(message),
            refusal if refusal.is_cancelled() => Self::new(409, CANCELLED, message),
            _ => Self::conflict(message),
        }
    }
}

/// The path of a component. Only a local client may give an absolute path; any may name a file in [`PLUGINS`].
fn path(call: &HttpRequest, folder: &Path, file: &str) -> Result<PathBuf, HttpRefusal> {
    let path = Path::new(file);
    if call.is_local && path.is_absolute() {
        return Ok(path.to_path_buf());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = (1..=NAME_MAX).contains(&file.len())
        && file.bytes().all(is_plain)
        && !file.starts_with('.');
    match is_name {
        true => Ok(folder.join(PLUGINS).join(file)),
        false => Err(HttpRefusal::bad_request(
            "`file` is the name of a file in `plugins` of the data folder, of letters, digits, `.`, `_` and `-`; by the socket it may be an absolute path",
        )),
    }
}

fn component(path: &Path) -> Result<Vec<u8>, HttpRefusal> {
    let unreadable = |reason: String| {
        let message = format!("cannot read the plugin `{}`: {reason}", path.display());
        HttpRefusal::new(422, UNFIT, message)
    };
    // Opening a pipe would wait, and the end of the job waits for this call.
    let opened = regular_file::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = opened.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > COMPONENT_BYTES_MAX {
        let most = COMPONENT_BYTES_MAX >> 20;
        return Err(unreadable(format!("it has more than {most} MiB")));
    }
    if bytes.is_empty() {
        return Err(unreadable("it is empty".to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    //! Catches a call that waits for a pipe, and with it the end of the job.

    use std::process::Command;

    use super::*;

    #[test]
    fn a_pipe_is_no_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let refused = component(&path).unwrap_err();
        let message = refused.message;
        assert!(message.contains("it is not a regular file"), "{message}");
    }
}
