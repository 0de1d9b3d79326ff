//! Decides which file is the one that was read before: takes what is remembered of it and what is seen now.
//!
//! A name says little about a log, since rotation gives it to another file. An inode says more, but is given again once a
//! file is deleted, and a copy has another one. The bytes before the position prove that what was read is still there.
//! Does not access the disk: the caller reads bytes when a decision needs them.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The largest number of bytes in a fingerprint.
pub(super) const PRINT_BYTES: usize = 4 << 10;

/// Looks at the files for one decision: they may get other names while they are looked at.
pub(super) const LOOKS_MAX: usize = 8;

/// The file system's name of a file, which renaming does not change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FileKey {
    /// The device. It may be another one after the file system was mounted again.
    pub(super) device: u64,
    /// The inode, which another file may get once this one is deleted.
    pub(super) inode: u64,
    /// When the file was created, in nanoseconds since 1970; 0 if the file system does not say.
    pub(super) born: u64,
}

/// A digest of the last bytes before a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    bytes: u32,
    digest: u64,
}

/// What the system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileFacts {
    pub(super) key: FileKey,
    pub(super) len: u64,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, i64),
}

/// What is remembered of a file that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remembered<'a> {
    /// Its last known name.
    pub(super) path: &'a Path,
    /// `None` if an earlier version saved the position.
    pub(super) key: Option<FileKey>,
    /// The furthest position.
    pub(super) position: u64,
    /// The length that it has at least: that position, unless it is compressed.
    pub(super) least_len: u64,
    /// Whether there are fingerprints to prove it.
    pub(super) has_print: bool,
}

/// The files that are seen now.
#[derive(Debug, Default)]
pub(super) struct Sighting {
    listed: BTreeMap<PathBuf, FileFacts>,
    beside: BTreeMap<PathBuf, FileFacts>,
    /// The paths by inode, listed ones first.
    by_inode: BTreeMap<u64, Vec<PathBuf>>,
}

/// Whether a file has the bytes before the position of a remembered one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
    /// It is being compressed, and the position is not reached.
    NotYet,
}

/// Where a remembered file is now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whereabouts<'a> {
    /// At this path: continue at the position.
    There(&'a Path),
    /// At this path, but the bytes before the position are gone: it was truncated. Its earlier bytes may have a copy.
    Truncated {
        /// The path.
        path: &'a Path,
        /// The copy.
        copy: Option<&'a Path>,
    },
    /// This file may be a copy that is still being compressed: too little of it is there to tell.
    Unclear(&'a Path),
    /// Nowhere, and another file has its name.
    Replaced,
    /// Nowhere.
    Gone,
}

impl Fingerprint {
    /// The fingerprint of the end of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let end = &bytes[bytes.len().saturating_sub(PRINT_BYTES)..];
        Self {
            bytes: end.len() as u32,
            digest: xxh3_64(end),
        }
    }

    /// The number of bytes that it is of.
    pub(super) fn bytes_len(self) -> usize {
        self.bytes as usize
    }

    /// Whether it can be of the bytes before a position.
    pub(super) fn is_possible_at(self, position: u64) -> bool {
        self.bytes_len() <= PRINT_BYTES && u64::from(self.bytes) <= position
    }

    /// Whether it is of these bytes.
    pub(super) fn fits(self, bytes: &[u8]) -> bool {
        bytes.len() == self.bytes_len() && xxh3_64(bytes) == self.digest
    }
}

impl Sighting {
    /// The files of a listing.
    pub(super) fn new(listed: BTreeMap<PathBuf, FileFacts>) -> Self {
        let mut by_inode: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
        for (path, facts) in &listed {
            by_inode
                .entry(facts.key.inode)
                .or_default()
                .push(path.clone());
        }
        Self {
            listed,
            beside: BTreeMap::new(),
            by_inode,
        }
    }

    /// Adds files that the listing does not have.
    pub(super) fn add_beside(&mut self, files: BTreeMap<PathBuf, FileFacts>) {
        for (path, facts) in files {
            if self.facts(&path).is_none() {
                let paths = self.by_inode.entry(facts.key.inode).or_default();
                paths.push(path.clone());
                self.beside.insert(path, facts);
            }
        }
    }

    /// The files of the listing.
    pub(super) fn listed(&self) -> &BTreeMap<PathBuf, FileFacts> {
        &self.listed
    }

    /// The facts of a file.
    pub(super) fn facts(&self, path: &Path) -> Option<&FileFacts> {
        self.listed.get(path).or_else(|| self.beside.get(path))
    }

    /// A path of a file: this one if it is one, else any.
    pub(super) fn find(&self, key: FileKey, path: &Path) -> Option<(&Path, &FileFacts)> {
        let mut found = self.with_inode(key.inode).filter(|(_, it)| it.key == key);
        let first = found.next()?;
        let at_path = [first].into_iter().chain(found).find(|it| it.0 == path);
        Some(at_path.unwrap_or(first))
    }

    /// Where a file is that neither is there nor has a copy.
    pub(super) fn lost(&self, path: &Path) -> Whereabouts<'static> {
        match self.listed.contains_key(path) {
            true => Whereabouts::Replaced,
            false => Whereabouts::Gone,
        }
    }

    fn with_inode(&self, inode: u64) -> impl Iterator<Item = (&Path, &FileFacts)> {
        let paths = self.by_inode.get(&inode).into_iter().flatten();
        paths.filter_map(|path| Some((path.as_path(), self.facts(path)?)))
    }
}

/// Finds a file. `is_unread` says whether nothing of a file has been read, `fits` whether the bytes before the position
/// are the remembered ones in the file at a path.
pub(super) fn find<'a, E>(
    file: &Remembered<'_>,
    seen: &'a Sighting,
    is_unread: &dyn Fn(FileKey) -> bool,
    fits: &mut dyn FnMut(&Path) -> Result<Fit, E>,
) -> Result<Whereabouts<'a>, E> {
    if let Some(key) = file.key {
        if let Some((path, facts)) = seen.find(key, file.path) {
            if facts.len >= file.least_len && fits(path)? == Fit::Yes {
                return Ok(Whereabouts::There(path));
            }
            let copy = copy_of(file, seen, is_unread, fits)?;
            let copy = copy.filter(|(_, fit)| *fit == Fit::Yes).map(|it| it.0);
            return Ok(Whereabouts::Truncated { path, copy });
        }
        for (path, facts) in seen.with_inode(key.inode) {
            // The device is another one, or it is another file: only the bytes can tell.
            let may_be = facts.key.born == key.born && file.has_print;
            if may_be && facts.len >= file.least_len && fits(path)? == Fit::Yes {
                return Ok(Whereabouts::There(path));
            }
        }
    }
    if let Some((path, facts)) = seen.listed.get_key_value(file.path) {
        let path = path.as_path();
        let may_be = file.key.is_none() || is_unread(facts.key);
        if may_be && facts.len >= file.least_len && fits(path)? == Fit::Yes {
            return Ok(Whereabouts::There(path));
        }
        if file.key.is_none() && facts.len < file.least_len {
            return Ok(Whereabouts::Truncated { path, copy: None });
        }
    }
    Ok(match copy_of(file, seen, is_unread, fits)? {
        Some((path, Fit::NotYet)) => Whereabouts::Unclear(path),
        Some((path, _)) => Whereabouts::There(path),
        None => seen.lost(file.path),
    })
}

/// An unread file with the bytes before the position of one that no longer has them, or one that may turn out to be it. A
/// copy may be compressed, so its length says nothing.
fn copy_of<'a, E>(
    file: &Remembered<'_>,
    seen: &'a Sighting,
    is_unread: &dyn Fn(FileKey) -> bool,
    fits: &mut dyn FnMut(&Path) -> Result<Fit, E>,
) -> Result<Option<(&'a Path, Fit)>, E> {
    if !file.has_print || file.position == 0 {
        return Ok(None);
    }
    let unread = seen
        .listed
        .iter()
        .filter(|(_, facts)| Some(facts.key) != file.key && facts.len > 0 && is_unread(facts.key));
    let mut unread: Vec<&Path> = unread.map(|(path, _)| path.as_path()).collect();
    unread.sort_by_cached_key(|path| unlikeness(path, file.path));
    let mut unclear = None;
    for path in unread {
        match fits(path)? {
            Fit::Yes => return Ok(Some((path, Fit::Yes))),
            Fit::No => {}
            Fit::NotYet => unclear = unclear.or(Some((path, Fit::NotYet))),
        }
    }
    Ok(unclear)
}

/// How little the name of a copy has of the name of its original: the likeliest copies are tried first.
fn unlikeness(copy: &Path, original: &Path) -> u8 {
    let (copy, original) = (copy.as_os_str().as_bytes(), original.as_os_str().as_bytes());
    match copy.strip_prefix(original) {
        Some(b".gz" | b".zst") => 0,
        Some(_) => 1,
        None => 2,
    }
}

#[cfg(test)]
mod tests {
    //! Catches a file that is taken for another one, which loses or doubles lines, and one that is not recognised under
    //! another name, inode or device.

    use std::convert::Infallible;

    use super::*;

    fn key(text: &str) -> FileKey {
        let mut numbers = text.split('.').map(|number| number.parse().unwrap());
        FileKey {
            device: numbers.next().unwrap(),
            inode: numbers.next().unwrap(),
            born: numbers.next().unwrap(),
        }
    }

    fn files(text: &str) -> BTreeMap<PathBuf, FileFacts> {
        let file = |text: &str| {
            let [path, id, len] = text.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{text}");
            };
            let facts = FileFacts {
                key: key(id),
                len: len.parse().unwrap(),
                modified: (0, 0),
            };
            (PathBuf::from(path), facts)
        };
        text.split(", ")
            .filter(|text| !text.is_empty())
            .map(file)
            .collect()
    }

    /// `listed` and `beside` are `path device.inode.born length, …`; the file was `log`, 1.5.7, read to byte 100.
    fn check(listed: &str, beside: &str, fitting: &str, read: &str, expected: &str) -> Vec<String> {
        let mut seen = Sighting::new(files(listed));
        seen.add_beside(files(beside));
        let file = Remembered {
            path: Path::new("log"),
            key: Some(key("1.5.7")),
            position: 100,
            least_len: 100,
            has_print: true,
        };
        let is_unread = |key: FileKey| !read.split(' ').any(|it| it == key.inode.to_string());
        let mut tried = Vec::new();
        let mut fits = |path: &Path| {
            tried.push(path.display().to_string());
            let names = |it: &str| Path::new(it) == path;
            Ok::<_, Infallible>(
                match fitting
                    .split(' ')
                    .find(|it| names(it.trim_end_matches('?')))
                {
                    None => Fit::No,
                    Some(it) if it.ends_with('?') => Fit::NotYet,
                    Some(_) => Fit::Yes,
                },
            )
        };
        let Ok(found) = find(&file, &seen, &is_unread, &mut fits);
        let found = match found {
            Whereabouts::There(path) => path.display().to_string(),
            Whereabouts::Truncated { path, copy: None } => format!("cut {}", path.display()),
            Whereabouts::Truncated {
                path,
                copy: Some(copy),
            } => format!("cut {}, copy {}", path.display(), copy.display()),
            Whereabouts::Unclear(path) => format!("unclear {}", path.display()),
            Whereabouts::Replaced => "replaced".to_owned(),
            Whereabouts::Gone => "gone".to_owned(),
        };
        assert_eq!(found, expected, "{listed} | {beside} | {fitting}");
        tried
    }

    #[test]
    fn a_file_is_found_by_what_it_is() {
        // The same file, grown or not.
        check("log 1.5.7 100", "", "log", "", "log");
        // Renamed, within the listing and out of it, while a new file has its name.
        check("log 1.6.9 500, log.1 1.5.7 120", "", "log.1", "", "log.1");
        check("log 1.6.9 500", "old 1.5.7 120", "old", "", "old");
        // Two names of one file.
        check("a 1.5.7 100, log 1.5.7 100", "", "a log", "", "log");
        // Mounted with another device number.
        check("log 2.5.7 100", "", "log", "", "log");
        check("log.1 2.5.7 100", "", "log.1", "5", "log.1");
        // Copied to another machine, or replaced by an editor that kept its beginning.
        check("log 3.8.9 150", "", "log", "", "log");
        // Truncated: shorter, or written beyond the position since.
        check("log 1.5.7 40", "", "", "", "cut log");
        check("log 1.5.7 400", "", "", "", "cut log");
        // Its copy is read from the position, unless that file is known as one of its own.
        check(
            "log 1.5.7 40, log.1 1.6.8 120",
            "",
            "log.1",
            "",
            "cut log, copy log.1",
        );
        check("log 1.5.7 40, log.1 1.6.8 120", "", "log.1", "6", "cut log");
        check("log 1.5.7 100, log.1 1.6.8 120", "", "log log.1", "", "log");
        // Moved to another file system: a copy, and no original.
        check("log.1 2.9.8 120", "", "log.1", "", "log.1");
        check("log 1.6.8 20, log.1 2.9.8 120", "", "log.1", "", "log.1");
        // Another file, whatever its length.
        check("log 1.6.9 20", "", "", "", "replaced");
        check("log 1.6.9 200", "", "", "", "replaced");
        // A file that is read as one of its own is not this one, even if it begins like it.
        check("log 1.6.9 200", "", "log", "6", "replaced");
        // The inode was given to another file.
        check("log 1.5.8 200", "", "", "", "replaced");
        check("new 1.5.8 200", "", "", "", "gone");
        check("", "", "", "", "gone");
        // A file beside the listing is never adopted by its name.
        check("", "log 1.6.7 200", "log", "", "gone");
    }

    #[test]
    fn a_file_is_found_when_it_is_compressed() {
        // It may be much shorter, while a new file has the name.
        let listed = "log 1.6.9 20, log.1.gz 1.7.9 30";
        check(listed, "", "log.1.gz", "", "log.1.gz");
        check(
            "log 1.5.7 40, b.gz 1.7.9 9",
            "",
            "b.gz",
            "",
            "cut log, copy b.gz",
        );
        // Too little of it may be there to tell, which another file may decide.
        check("log.gz 1.7.9 9", "", "log.gz?", "", "unclear log.gz");
        check(
            "b.gz 1.6.9 9, log.gz 1.7.9 9",
            "",
            "b.gz log.gz?",
            "",
            "b.gz",
        );
        check("log 1.5.7 40, log.gz 1.7.9 9", "", "log.gz?", "", "cut log");
        // Those with likely names are decompressed first, and empty ones not at all.
        let listed = "b.gz 1.8.9 9, log.1.gz 1.7.9 9, log.2.gz 1.6.9 0, log.gz 1.9.9 9";
        let tried = check(listed, "", "", "", "gone");
        assert_eq!(tried, ["log.gz", "log.1.gz", "b.gz"]);
    }

    #[test]
    fn positions_of_earlier_versions_are_known_by_name_and_length() {
        let file = Remembered {
            path: Path::new("log"),
            key: None,
            position: 100,
            least_len: 100,
            has_print: false,
        };
        for (listed, expected) in [
            ("log 1.5.7 100", Whereabouts::There(Path::new("log"))),
            (
                "log 1.5.7 99",
                Whereabouts::Truncated {
                    path: Path::new("log"),
                    copy: None,
                },
            ),
            ("log.1 1.5.7 100", Whereabouts::Gone),
        ] {
            let seen = Sighting::new(files(listed));
            let mut fits = |_: &Path| Ok::<_, Infallible>(Fit::Yes);
            let Ok(found) = find(&file, &seen, &|_| true, &mut fits);
            assert_eq!(found, expected, "{listed}");
        }
    }

    #[test]
    fn fingerprints_are_of_the_end() {
        let bytes: Vec<u8> = (0..9000_u32).map(|n| (n % 251) as u8).collect();
        let print = Fingerprint::of(&bytes);
        assert_eq!(print.bytes_len(), PRINT_BYTES);
        assert!(print.fits(&bytes[9000 - PRINT_BYTES..]));
        assert!(!print.fits(&bytes[..PRINT_BYTES]));
        assert!(!print.is_possible_at(PRINT_BYTES as u64 - 1));
        let short = Fingerprint::of(b"abc");
        assert!(short.fits(b"abc") && !short.fits(b"bc") && !short.fits(b"abd"));
        assert!(short.is_possible_at(3) && !short.is_possible_at(2));
    }
}
