//! Reads the pipeline file that a command names.

use super::{CommandError, PipelineArguments};
use floodmark_engine::edge::pipeline_file;
use floodmark_engine::pipeline::Connectors;
use floodmark_engine::session::assemble::LoadedPipeline;
use floodmark_engine::session::preflight;

/// Reads the pipeline file, and refuses settings with which a job cannot run.
pub(super) fn read(arguments: &PipelineArguments) -> Result<LoadedPipeline, CommandError> {
    let connectors = Connectors::built_in();
    let file = pipeline_file::load(&arguments.pipeline, &arguments.overrides(), &connectors)?;
    let pipeline = LoadedPipeline {
        spec: file.spec,
        folder: file.folder,
    };
    preflight::check_settings(&pipeline)?;
    Ok(pipeline)
}
