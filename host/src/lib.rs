//! The engine behind the `floodmark` command.
//!
//! ARCHITECTURE.md has the map. Dependencies point one way, and a test holds that line.

pub mod crash;
pub mod stream;

pub mod state;

pub mod checkpoint;

pub mod connector;
pub mod guest;

pub mod observe;

pub mod runtime;

pub mod job;

pub mod pipeline;

pub mod edge;

pub mod engine;

pub mod vectors;

pub mod cli;
