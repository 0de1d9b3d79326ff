//! The engine as its users have it: the built command, real plugins, real files, real signals.
//!
//! What is inside the engine is tested beside the code. Each module here says which mistake it catches; `kill` takes
//! `FLOODMARK_HEAVY=1` for the full measure.
#![expect(
    clippy::disallowed_methods,
    reason = "tests watch real processes, in real time"
)]
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and functions around tests are tests too"
)]

mod word_boundaries;

mod kill;
mod stop;
mod swap;

mod bad_content;
mod bad_input;
mod bounded_files;
mod builds;
mod checkpoints;
mod compressed;
mod contract;
mod control;
mod costs;
mod crash_test;
mod damage;
mod docs;
mod embed;
mod faults;
mod first_start;
mod foreign_savepoints;
mod formats;
mod full_disk;
mod go_runtime;
mod hands;
mod hanging;
mod hostile;
mod hostile_memory;
mod languages;
mod letters;
mod migrate_now;
mod migration;
mod misbehaving;
mod operator;
mod private_files;
mod profile;
mod refusals;
mod replay;
mod rescale;
mod restart;
mod rollback;
mod rotation;
mod s3;
mod savepoint_output;
mod savepoints;
mod sink_files;
mod source_faults;
mod state_rows;
mod states;
mod status;
mod stdin;
mod swap_careful;
mod terminal_safety;
mod tools;
mod vectors;

mod tidy;

mod engines;
mod items;
mod job;
mod output;
mod plugins;
mod text;
