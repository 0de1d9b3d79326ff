//! What can be found out about a pipeline before its plugins are built and compiled, which may take minutes: whether its inputs
//! are there, its outputs can be written, and its plugins exist.
//!
//! Nothing is built or changed here. What holds now may be different when the job begins, so each of these errors can come
//! later, too, from where it belongs.

use std::path::Path;
use std::sync::Arc;

use super::assemble::LoadedPipeline;
use super::{EngineError, StartFrom};
use crate::connector::{ConnectorError, NodeContext, Sink, Source};
use crate::edge::data_dir::DataDir;
use crate::pipeline::Spec;
use floodmark_plugin_build::Language;

/// Data folder id of a job that does not run.
pub const NO_DATA: &str = "";

/// Checks the connectors and the places of plugins. `data` is the id of the data folder. Inputs are listed only if the job
/// starts over, since a job that resumes may have read files that are gone by now.
pub fn check(pipeline: &LoadedPipeline, data: &str, starts_over: bool) -> Result<(), EngineError> {
    let spec = &pipeline.spec;
    for name in spec.operators.keys() {
        find_plugin(spec, name)?;
    }
    for (node, source) in sources(pipeline, data)? {
        if starts_over {
            source
                .splits(None, None)
                .map_err(|error| EngineError::from((node, error)))?;
        }
    }
    for (node, sink) in sinks(pipeline, data)? {
        sink.look()
            .map_err(|error| EngineError::from((node, error)))?;
    }
    Ok(())
}

/// Checks that the settings of connectors do not contradict each other, for all commands that read a pipeline. Looks at no
/// input and no output.
pub fn check_settings(pipeline: &LoadedPipeline) -> Result<(), EngineError> {
    sources(pipeline, NO_DATA)?;
    sinks(pipeline, NO_DATA)?;
    Ok(())
}

/// A connector with the name of its node.
type Named<'a, T> = (&'a str, Arc<T>);

fn sources<'a>(
    pipeline: &'a LoadedPipeline,
    data: &str,
) -> Result<Vec<Named<'a, dyn Source>>, EngineError> {
    let LoadedPipeline { spec, folder } = pipeline;
    let open = spec.sources.iter().map(|(node, source)| {
        let context = context(&spec.name, node, folder, data);
        let source = source.settings.open(&context);
        let source = source.map(|source| (node.as_str(), source));
        source.map_err(|error| invalid(spec, "source", node, &error))
    });
    open.collect()
}

fn sinks<'a>(
    pipeline: &'a LoadedPipeline,
    data: &str,
) -> Result<Vec<Named<'a, dyn Sink>>, EngineError> {
    let LoadedPipeline { spec, folder } = pipeline;
    let open = spec.sinks.iter().map(|(node, sink)| {
        let context = context(&spec.name, node, folder, data);
        let sink = sink.settings.open(&context);
        let sink = sink.map(|sink| (node.as_str(), sink));
        sink.map_err(|error| invalid(spec, "sink", node, &error))
    });
    open.collect()
}

/// Whether a job starts at the beginning of its input, as far as that shows without opening its storage. A data folder in
/// which a job has run has a note about its storage.
pub fn starts_over(from: &StartFrom, data_dir: &Path) -> bool {
    match from {
        StartFrom::Beginning => true,
        StartFrom::Newest => !matches!(DataDir::storage_of(data_dir), Ok(Some(_))),
        StartFrom::Checkpoint(_) | StartFrom::Savepoint { .. } => false,
    }
}

fn context<'a>(job: &'a str, node: &'a str, folder: &'a Path, data: &'a str) -> NodeContext<'a> {
    NodeContext {
        job,
        node,
        folder,
        data_folder: data,
    }
}

fn invalid(spec: &Spec, section: &str, node: &str, error: &ConnectorError) -> EngineError {
    let problem = spec.problem(&[section, node], error.to_string());
    EngineError::usage(problem.to_string())
}

/// Looks whether the plugin of an operator is a file, or a folder of a known language.
fn find_plugin(spec: &Spec, operator: &str) -> Result<(), EngineError> {
    let plugin = &spec.operators[operator].plugin;
    if plugin.is_dir() && Language::of(plugin).is_some() {
        return Ok(());
    }
    // Of anything but such a folder, this builds nothing.
    match floodmark_plugin_build::component(plugin, &mut |_| ()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let problem = spec.problem(&["operator", operator, "plugin"], error.to_string());
            Err(EngineError::plugin(problem.to_string()))
        }
    }
}
