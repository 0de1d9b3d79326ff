//! The engine's access to the machine: clock, threads, signals, its own files, and processes.
//!
//! All other modules get what they need from here, as values. Connectors open their own files. Decisions are made in
//! other modules.

pub mod drive;
pub mod failures;
mod folder_events;
mod loader;
mod read_ahead;

mod threads;

pub mod allocator;
pub mod cache_folder;
pub mod clock;
pub mod compile_child;
pub mod compile_program;
pub mod data_dir;
mod descendants;
pub mod failed_end;
pub mod later_output;
pub mod limits;
pub mod machine;
pub mod open_files;
pub mod optimiser;
pub mod pipeline_file;
pub(crate) mod private;
pub mod regular_file;
pub mod replay_folder;
pub mod rollback;
pub mod rolled_back;
pub mod scratch;
pub mod signals;
pub mod swap;
pub mod ticker;
pub mod whole_file;
