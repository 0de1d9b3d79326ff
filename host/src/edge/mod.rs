//! Where the engine touches the machine: files of its own, and processes.
//!
//! Everything else gets from here what it needs, as values. Connectors open their own files.

pub mod data_dir;
pub mod pipeline_file;
pub mod plugin_build;
