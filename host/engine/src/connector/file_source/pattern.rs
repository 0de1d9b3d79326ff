//! Patterns of paths, matched name by name.
//!
//! The crate `glob` walks folders itself, but panics at a name that is not UTF-8. So only its patterns of single names
//! are used, on text in which each byte that is not UTF-8 is a character of its own: `*` and `?` match such a byte.
//! Does not access the disk.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// The rules for one name: `*` matches no hidden file.
const NAME: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};
/// The character that stands for the byte 0 if it is not UTF-8; the others follow. It is for private use.
const BYTE_CHARACTERS: u32 = 0x10_FF00;

/// A configured path with `*`, `**`, `?` or `[…]`.
///
/// - The last part is never [`PatternPart::Folders`], and no two of these follow each other.
#[derive(Debug)]
pub(super) struct PathPattern {
    root: PathBuf,
    parts: Vec<PatternPart>,
}

/// What one name in a path has to be.
#[derive(Debug)]
pub(super) enum PatternPart {
    /// This name, or `..`.
    Name(OsString),
    /// A name that fits.
    Fitting(Pattern),
    /// `**`: any number of folders that are not hidden.
    Folders,
}

impl PathPattern {
    /// Whether a path has signs of a pattern in it.
    pub(super) fn is_in(path: &Path) -> bool {
        has_signs(path.as_os_str())
    }

    /// A pattern below `base`, which is no pattern itself whatever it is called.
    pub(super) fn parse(base: &Path, configured: &Path) -> Result<Self, String> {
        let mut root: PathBuf = base.components().collect();
        let mut parts: Vec<PatternPart> = Vec::new();
        for component in configured.components() {
            match component {
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => root = PathBuf::from("/"),
                name if parts.is_empty() && !has_signs(name.as_os_str()) => root.push(name),
                name => parts.push(PatternPart::parse(name.as_os_str())?),
            }
        }
        if matches!(parts.last(), Some(PatternPart::Folders)) {
            parts.push(PatternPart::parse(OsStr::new("*"))?);
        }
        parts.dedup_by(|next, part| {
            matches!((next, part), (PatternPart::Folders, PatternPart::Folders))
        });
        Ok(Self { root, parts })
    }

    /// The folder in front of the first sign.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn parts(&self) -> &[PatternPart] {
        &self.parts
    }

    /// Whether it matches a path.
    pub(super) fn matches(&self, path: &Path) -> bool {
        self.fit(&self.parts, path)
    }

    /// Whether it can match a file in the folder of this path.
    pub(super) fn matches_beside(&self, path: &Path) -> bool {
        let folders = self.parts.split_last().map_or(&[][..], |(_, rest)| rest);
        path.file_name().is_some()
            && path
                .parent()
                .is_some_and(|folder| self.fit(folders, folder))
    }

    fn fit(&self, parts: &[PatternPart], path: &Path) -> bool {
        let Ok(rest) = path.strip_prefix(&self.root) else {
            return false;
        };
        let names: Vec<&OsStr> = rest.components().map(Component::as_os_str).collect();
        fit_names(parts, &names)
    }
}

impl PatternPart {
    fn parse(name: &OsStr) -> Result<Self, String> {
        if name == "**" {
            return Ok(Self::Folders);
        }
        if !has_signs(name) {
            return Ok(Self::Name(name.to_owned()));
        }
        let pattern = Pattern::new(&text_of(name)).map_err(|error| error.to_string())?;
        Ok(Self::Fitting(pattern))
    }

    /// Whether it matches one name.
    pub(super) fn fits(&self, name: &OsStr) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Fitting(pattern) => name != ".." && pattern.matches_with(&text_of(name), NAME),
            Self::Folders => !is_hidden(name),
        }
    }
}

/// Whether a name is one that no listing has.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

fn has_signs(name: &OsStr) -> bool {
    name.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}

fn fit_names(parts: &[PatternPart], names: &[&OsStr]) -> bool {
    match (parts, names) {
        ([], []) => true,
        ([PatternPart::Folders, rest @ ..], _) => {
            fit_names(rest, names)
                || names
                    .split_first()
                    .is_some_and(|(name, more)| !is_hidden(name) && fit_names(parts, more))
        }
        ([part, rest @ ..], [name, more @ ..]) => part.fits(name) && fit_names(rest, more),
        _ => false,
    }
}

/// A name as text, in which no two names are the same unless one has characters of private use.
fn text_of(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        let bytes = chunk.invalid().iter();
        text.extend(bytes.filter_map(|&byte| char::from_u32(BYTE_CHARACTERS + u32::from(byte))));
    }
    text
}

#[cfg(test)]
mod tests {
    //! Catches names that a pattern matches and must not, such as hidden ones or ones outside of its folder, and names
    //! that are not UTF-8.

    use super::*;

    #[test]
    fn names_are_matched_one_by_one() {
        for (pattern, name, expected) in [
            ("in/*.log", "in/a.log", true),
            ("in/*.log", "in/b/a.log", false),
            ("in/*.log", "in/.a.log", false),
            ("in/.*", "in/.a", true),
            ("in/**/*.log", "in/a.log", true),
            ("in/**/*.log", "in/b/c/a.log", true),
            ("in/**/*.log", "in/.b/a.log", false),
            ("in/**/**/*", "in/a", true),
            ("in/**", "in/b/a", true),
            ("in/**", "other/a", false),
            ("*/f", "in/f", true),
            ("*/f", "../f", false),
            ("./in/[a-c]?", "in/cd", true),
            ("in/[!a]*", "in/ab", false),
            ("../in/*", "../in/f", true),
            ("/other/*", "/other/f", true),
            ("/other/*", "other/f", false),
        ] {
            let pattern = PathPattern::parse(Path::new("/base"), Path::new(pattern)).unwrap();
            let path = Path::new("/base").join(name);
            assert_eq!(pattern.matches(&path), expected, "{pattern:?} {name}");
        }
        assert!(PathPattern::parse(Path::new("/"), Path::new("in/a**")).is_err());
    }

    #[test]
    fn bytes_that_are_not_text_match_too() {
        let path = |bytes| Path::new("/base").join(OsStr::from_bytes(bytes));
        let pattern = |bytes| {
            let configured = Path::new(OsStr::from_bytes(bytes));
            PathPattern::parse(Path::new("/base"), configured).unwrap()
        };
        assert!(pattern(b"*.log").matches(&path(b"a\xff\xfe.log")));
        assert!(pattern(b"a?.log").matches(&path(b"a\xff.log")));
        assert!(!pattern(b"a?.log").matches(&path(b"a\xff\xfe.log")));
        assert!(pattern(b"a\xff*").matches(&path(b"a\xffb")));
        assert!(!pattern(b"a\xff*").matches(&path(b"a\xfeb")));
        assert!(pattern(b"\xff/*").matches(&path(b"\xff/\xfe")));
    }

    #[test]
    fn siblings_are_in_a_folder_of_the_pattern() {
        for (pattern, name, expected) in [
            ("in/*.log", "in/a.gz", true),
            ("in/*.log", "a.gz", false),
            ("in/*.log", "in/b/a.gz", false),
            ("in/*.log", "in/../in/a", false),
            ("in/*.log", "in/..", false),
            ("in/**/*.log", "in/b/a.gz", true),
            ("in/**/*.log", "in/../a.gz", false),
        ] {
            let pattern = PathPattern::parse(Path::new("/base"), Path::new(pattern)).unwrap();
            let path = Path::new("/base").join(name);
            assert_eq!(pattern.matches_beside(&path), expected, "{name}");
        }
    }
}
