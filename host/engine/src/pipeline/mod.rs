//! Reads the pipeline file, and builds a checked graph from it.
//!
//! ```text
//! text ── tree ──> spec (what was typed, names and references checked) ──> plan (ports matched, edges decided)
//!           ^ --set                                                         ^ what the plugins say of themselves
//! ```
//!
//! All of it is pure: `edge` reads the file and builds plugins. Each problem is reported with its line, or with the
//! `--set` that caused it, and as many as possible at once. Nothing here loads a plugin or opens a file.

pub mod config;
pub mod connectors;
pub mod duration;
pub mod identity;
pub mod limits;
pub mod plan;
pub mod problem;
pub mod restart;
pub mod settings;
pub mod size;
pub mod spec;
pub mod takeover;
pub mod toml_file;

mod flink;
mod from;
mod parse;
mod reader;
mod resolve;
pub mod suggestions;
mod tree;
mod wiring;

#[cfg(test)]
mod tests;

pub use connectors::Connectors;
pub use from::{From, Reference};
pub use identity::difference;
pub use parse::{PipelineText, parse};
pub use plan::{
    GraphEdge, GraphExchange, GraphNode, NodeId, NodeKind, PipelineGraph, PluginInterface,
};
pub use problem::{Problem, Problems};
pub use spec::Spec;
pub use takeover::takeover;
