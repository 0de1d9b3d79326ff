//! Reads the pipeline file that a command names.

use super::{CommandError, PipelineArguments};
use floodmark_engine::edge::pipeline_file;
use floodmark_engine::pipeline::Connectors;
use floodmark_engine::session::assemble::LoadedPipeline;

/// Reads the pipeline file.
pub(super) fn read(arguments: &PipelineArguments) -> Result<LoadedPipeline, CommandError> {
    let connectors = Connectors::built_in();
    let file = pipeline_file::load(&arguments.pipeline, &arguments.overrides(), &connectors)?;
    Ok(LoadedPipeline {
        spec: file.spec,
        folder: file.folder,
    })
}
