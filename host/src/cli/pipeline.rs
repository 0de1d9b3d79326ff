//! Reads the pipeline file that a command names.

use super::{Failure, PipelineArguments};
use crate::edge::pipeline_file;
use crate::engine::assemble::Pipeline;
use crate::pipeline::Connectors;

/// Reads the pipeline file.
pub(super) fn read(arguments: &PipelineArguments) -> Result<Pipeline, Failure> {
    let connectors = Connectors::built_in();
    let file = pipeline_file::load(&arguments.pipeline, &arguments.overrides(), &connectors)?;
    Ok(Pipeline {
        spec: file.spec,
        folder: file.folder,
    })
}
