//! Reads `plugin.toml`: the name, version and sources of a plugin.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::PluginBuildError;

const FILE: &str = "plugin.toml";
const NAME_BYTES_MAX: usize = 64;

/// The language of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    C,
    Cpp,
    Zig,
}

impl Dialect {
    fn of(source: &Path) -> Option<Self> {
        match source.extension()?.to_str()? {
            "c" => Some(Self::C),
            "cc" | "cpp" | "cxx" => Some(Self::Cpp),
            "zig" => Some(Self::Zig),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) dialect: Dialect,
}

/// A checked manifest: all files that it names exist. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckedManifest {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) sources: Vec<SourceFile>,
    pub(super) include: Vec<PathBuf>,
    pub(super) sdk: PathBuf,
    pub(super) sdk_sources: Vec<PathBuf>,
    pub(super) flags: Vec<String>,
    unread: Vec<UnreadColumn>,
}

/// A part of records that the plugin does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnreadColumn {
    Values,
    Timestamps,
}

/// The manifest as typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    plugin: Typed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    name: String,
    version: String,
    sources: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
    sdk: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    unread: Vec<UnreadColumn>,
}

impl CheckedManifest {
    pub(super) fn read(folder: &Path) -> Result<Self, PluginBuildError> {
        let path = folder.join(FILE);
        read(folder, &path).map_err(|reason| PluginBuildError::Manifest { path, reason })
    }

    /// Definitions for the compiler: name and version, which `describe` returns by default, and the columns that are
    /// not read: a record then has no such fields.
    pub(super) fn defines(&self) -> Vec<String> {
        let names = [
            format!("-DFM_PLUGIN_NAME=\"{}\"", self.name),
            format!("-DFM_PLUGIN_VERSION=\"{}\"", self.version),
        ];
        let unread = self.unread.iter().map(|column| match column {
            UnreadColumn::Values => "-DFM_UNREAD_VALUES".to_owned(),
            UnreadColumn::Timestamps => "-DFM_UNREAD_TIMESTAMPS".to_owned(),
        });
        names.into_iter().chain(unread).collect()
    }

    /// Folders outside of the plugin's that it is built from.
    pub(super) fn elsewhere(&self, folder: &Path) -> Vec<PathBuf> {
        let folder = folder
            .canonicalize()
            .unwrap_or_else(|_| folder.to_path_buf());
        let parents = self
            .sources
            .iter()
            .filter_map(|source| source.path.parent());
        let mut elsewhere: Vec<PathBuf> = parents
            .map(Path::to_path_buf)
            .chain(self.include.iter().cloned())
            .chain(["include", "src"].map(|part| self.sdk.join(part)))
            .filter(|path| !path.starts_with(&folder))
            .collect();
        elsewhere.sort();
        elsewhere.dedup();
        elsewhere
    }
}

fn read(folder: &Path, path: &Path) -> Result<CheckedManifest, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let typed: ManifestFile =
        toml::from_str(&text).map_err(|error| format!("is wrong: {error}"))?;
    let typed = typed.plugin;
    let folder = folder.canonicalize();
    let folder = folder.map_err(|error| format!("has no folder: {error}"))?;
    if !is_name(&typed.name) {
        return Err(format!(
            "names the plugin `{}`; a name is 1 to {NAME_BYTES_MAX} characters of `a-z`, `0-9` and `-`",
            typed.name
        ));
    }
    if !is_version(&typed.version) {
        return Err(format!(
            "gives the plugin the invalid version `{}`; write one such as `0.1.0`",
            typed.version
        ));
    }
    let sdk = there(&folder, "sdk", &typed.sdk)?;
    if !sdk.join("include/floodmark.h").is_file() {
        return Err(format!(
            "says that the SDK is in `{}`, which has no `include/floodmark.h`; name the folder `guest-sdk/c` of Floodmark, or \
             a copy of it",
            typed.sdk
        ));
    }
    let include = typed.include.iter();
    let include = include.map(|path| there(&folder, "include", path));
    Ok(CheckedManifest {
        sources: sources(&folder, &typed.sources)?,
        include: include.collect::<Result<_, _>>()?,
        sdk_sources: matching(&sdk, "src/*.c")?,
        sdk,
        name: typed.name,
        version: typed.version,
        flags: typed.flags,
        unread: typed.unread,
    })
}

fn there(folder: &Path, field: &str, path: &str) -> Result<PathBuf, String> {
    let full = folder.join(path).canonicalize();
    full.map_err(|error| format!("names `{path}` in `{field}`, which cannot be used: {error}"))
}

fn sources(folder: &Path, patterns: &[String]) -> Result<Vec<SourceFile>, String> {
    let mut sources = Vec::new();
    for pattern in patterns {
        let found = matching(folder, pattern)?;
        if found.is_empty() {
            return Err(format!(
                "names `{pattern}` in `sources`; there is no such file"
            ));
        }
        for path in found {
            let Some(dialect) = Dialect::of(&path) else {
                return Err(format!(
                    "names `{pattern}` in `sources`, which is neither C (`.c`), C++ (`.cpp`, `.cc`, `.cxx`) nor Zig (`.zig`)"
                ));
            };
            sources.push(SourceFile { path, dialect });
        }
    }
    if sources.is_empty() {
        return Err("names no file in `sources`; write `sources = [\"src/*.c\"]`".to_owned());
    }
    Ok(sources)
}

/// The files that match a pattern, in order.
fn matching(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let wrong =
        |error: &dyn std::fmt::Display| format!("has an invalid pattern `{pattern}`: {error}");
    let prefix = glob::Pattern::escape(&folder.to_string_lossy());
    let full = format!("{prefix}/{pattern}");
    let mut found = Vec::new();
    for path in glob::glob(&full).map_err(|error| wrong(&error))? {
        let path = path.map_err(|error| wrong(&error))?;
        if path.is_file() {
            found.push(path.canonicalize().map_err(|error| wrong(&error))?);
        }
    }
    Ok(found)
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_allowed)
}

/// Whether the version is safe in a C string.
fn is_version(version: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte);
    !version.is_empty() && version.len() <= NAME_BYTES_MAX && version.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    //! Catches a misspelt field that is ignored, and a mistake in the manifest that only the compiler finds.

    use super::*;

    fn check(manifest: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("sdk/include")).unwrap();
        fs::write(folder.path().join("sdk/include/floodmark.h"), "").unwrap();
        for name in ["a.c", "b.cpp", "c.zig", "d.rs"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::write(folder.path().join(FILE), manifest).unwrap();
        let read = match CheckedManifest::read(folder.path()) {
            Ok(plugin) => format!(
                "{:?}",
                plugin.sources.iter().map(|s| s.dialect).collect::<Vec<_>>()
            ),
            Err(error) => error.to_string(),
        };
        assert!(read.contains(expected), "{read}");
    }

    fn with(fields: &str) -> String {
        format!("[plugin]\nversion = \"0.1.0\"\n{fields}\n")
    }

    #[test]
    fn a_manifest_is_read_or_refused_with_what_to_write() {
        let good = "name = \"demo\"\nsdk = \"sdk\"\n";
        check(
            &with(&format!("{good}sources = [\"a.c\", \"*.cpp\", \"c.zig\"]")),
            "[C, Cpp, Zig]",
        );
        check(
            &with(&format!("{good}sources = [\"e.c\"]")),
            "there is no such file",
        );
        check(
            &with(&format!("{good}sources = [\"d.rs\"]")),
            "neither C (`.c`), C++",
        );
        check(
            &with(&format!("{good}sources = []")),
            "names no file in `sources`",
        );
        check(
            &with(&format!("{good}source = \"a.c\"")),
            "unknown field `source`",
        );
        check(
            &with(&format!("{good}sources = [\"a.c\"]\ninclude = [\"inc\"]")),
            "names `inc` in `include`",
        );
        check(
            &with("name = \"Demo\"\nsdk = \"sdk\"\nsources = [\"a.c\"]"),
            "names the plugin `Demo`",
        );
        check(
            &with("name = \"demo\"\nsdk = \".\"\nsources = [\"a.c\"]"),
            "has no `include/floodmark.h`",
        );
        check(
            "[plugin]\nname = \"a\"\nversion = \"1\\\"\"\nsdk = \"sdk\"\nsources = [\"a.c\"]",
            "gives the plugin the invalid version",
        );
        check(
            &with(&format!("{good}sources = [\"a.c\"]\nunread = [\"keys\"]")),
            "unknown variant `keys`, expected `values` or `timestamps`",
        );
        check("", "missing field `plugin`");
    }

    #[test]
    fn what_is_elsewhere_is_looked_at_for_changes() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let folder = root.join("plugin");
        for path in ["plugin/src", "shared", "sdk/include", "sdk/src"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(root.join("sdk/include/floodmark.h"), "").unwrap();
        fs::write(folder.join("src/a.c"), "").unwrap();
        let text =
            "name = \"demo\"\nsources = [\"src/*.c\"]\nsdk = \"../sdk\"\ninclude = [\"../shared\"]";
        fs::write(folder.join(FILE), with(text)).unwrap();
        let elsewhere = CheckedManifest::read(&folder).unwrap().elsewhere(&folder);
        assert_eq!(
            elsewhere,
            ["sdk/include", "sdk/src", "shared"].map(|path| root.join(path))
        );
    }
}
