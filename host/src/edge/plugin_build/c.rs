//! C.

use std::path::Path;

use super::{PluginBuildError, Project, Tools};

pub(super) fn project(folder: &Path) -> Result<Project, PluginBuildError> {
    unknown(folder)
}

pub(super) fn tools(folder: &Path) -> Result<Tools, PluginBuildError> {
    unknown(folder)
}

pub(super) fn build(project: &Project, _: &Tools, _: &Path) -> Result<(), PluginBuildError> {
    unknown(&project.folder)
}

fn unknown<T>(folder: &Path) -> Result<T, PluginBuildError> {
    Err(PluginBuildError::UnknownLanguage {
        path: folder.to_path_buf(),
    })
}
