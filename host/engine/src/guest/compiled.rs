//! Stores compiled code on disk, by digest of the component.
//!
//! Compiling takes tens of milliseconds to seconds, loading compiled code far less. But loaded code runs as machine
//! code outside of every sandbox, so an entry is loaded only if this user's own process wrote it, byte for byte, with
//! this version and these settings for this kind of processor. Each entry is signed (HMAC-SHA-256) with the key in the
//! file `key` in the same folder: 32 random bytes in a file that this user owns and no other user may read. A checksum
//! alone would detect damage, but not forgery: every process that can write to the folder can compute the checksum of
//! what it wrote.
//!
//! - An entry that is damaged, cut, forged, or of another component is compiled again.
//! - A key that another user owns or may read, that has a second hard link, or that is not a plain file is not trusted:
//!   it is replaced, and all entries are compiled again. This also happens after another user copied a data folder.
//! - A folder that another user owns or may write to, or that is a symbolic link, is not used at all; nor is an entry of
//!   that kind.
//! - The folder is opened once for each call, checked by its descriptor, and its files are opened through that descriptor:
//!   another folder that is renamed to its place after the check is not read.
//! - Bytes are checked and loaded from memory. Mapping the file would save a copy, but a process that writes to it
//!   after the check would change code that already runs.
//! - All entries together have at most [`CACHE_BYTES_MAX`]: the least recently used are removed first. Only entries are
//!   ever removed, even if a user names a folder with other files in it.
//! - Several processes may use a folder. Entries are added and removed atomically.
//!
//! It does not protect against processes of this user or of root: they could change the command as well.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::compiler::Compiler;
use floodmark_checkpoint::PluginDigest;

/// Largest size of all entries of a folder, in bytes.
const CACHE_BYTES_MAX: u64 = 1 << 30;
const SIGNATURE_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// Block size of SHA-256, in bytes.
const BLOCK_BYTES: usize = 64;
/// The name of the file with the key.
const KEY: &str = "key";
/// The file extension of an entry.
const ENDING: &str = "compiled";
/// The file extension of an entry that is being written.
const UNFINISHED: &str = "unfinished";

type Key = [u8; KEY_BYTES];

/// A folder of compiled components.
#[derive(Debug, Clone)]
pub(super) struct CompiledCache {
    dir: PathBuf,
    bytes_max: u64,
}

/// Prepares a folder for compiled code.
///
/// # Errors
/// When it cannot be written to, or another user owns it or may write to it: nothing may be stored there.
pub fn prepare_cache(dir: &Path) -> io::Result<()> {
    CompiledCache::new(dir.to_path_buf()).prepare().map(drop)
}

impl CompiledCache {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            bytes_max: CACHE_BYTES_MAX,
        }
    }

    /// The compiled component, if it is stored and signed by this user.
    pub(super) fn load(&self, compiler: &Compiler, component: PluginDigest) -> Option<Component> {
        let folder = CheckedFolder::open(&self.dir).ok()?;
        let mut file = open(&folder.join(&entry_name(compiler, component))).ok()?;
        if !is_entry_of_user(&file.metadata().ok()?) {
            return None;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let (signature, code) = bytes.split_at_checked(SIGNATURE_BYTES)?;
        let key = key_of(&folder.join(KEY))?;
        let expected = sign(&key, compiler, component, code);
        // All bytes are compared, so that the time does not depend on how many match.
        let difference = |(one, other): (&u8, &u8)| one ^ other;
        let differences = signature.iter().zip(&expected).map(difference);
        if differences.fold(0, |all, one| all | one) != 0 {
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "loading machine code cannot be made safe; its signature was just compared"
        )]
        // SAFETY: the bytes are in this process's memory, and this user's process signed them after this version of
        // wasmtime had created them with these settings.
        let compiled = unsafe { Component::deserialize(compiler.wasmtime(), code) };
        let compiled = compiled.ok()?;
        note_use(&file);
        Some(compiled)
    }

    /// Stores a compiled component. If the cache cannot be written, this only costs time later.
    pub(super) fn store(&self, compiler: &Compiler, component: PluginDigest, compiled: &Component) {
        if let Ok(code) = compiled.serialize() {
            // A failure has no effect on the caller: the next load compiles again.
            let _ = self.write(compiler, component, &code);
        }
    }

    /// Removes an entry that is no longer needed.
    pub(super) fn forget(&self, compiler: &Compiler, component: PluginDigest) {
        // The entry may not exist.
        if let Ok(folder) = CheckedFolder::open(&self.dir) {
            let _ = fs::remove_file(folder.join(&entry_name(compiler, component)));
        }
    }

    fn write(&self, compiler: &Compiler, component: PluginDigest, code: &[u8]) -> io::Result<()> {
        let (folder, key) = self.prepare()?;
        let signature = sign(&key, compiler, component, code);
        self.make_room(&folder, (SIGNATURE_BYTES + code.len()) as u64)?;
        let path = folder.join(&entry_name(compiler, component));
        put(&path, &[&signature, code])
    }

    /// Creates the folder and its key, if they do not exist.
    fn prepare(&self) -> io::Result<(CheckedFolder, Key)> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let folder = CheckedFolder::open(&self.dir)?;
        let key_path = folder.join(KEY);
        if let Some(key) = key_of(&key_path) {
            return Ok((folder, key));
        }
        let mut key = [0; KEY_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        put(&key_path, &[&key])?;
        // For example on a file system that assigns files to another owner.
        match key_of(&key_path) {
            Some(key) => Ok((folder, key)),
            None => Err(refused("files in it do not belong to this user alone")),
        }
    }

    /// Removes the least recently used entries until one of this size fits.
    fn make_room(&self, folder: &CheckedFolder, bytes: u64) -> io::Result<()> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&folder.path)? {
            let path = file?.path();
            // Another process may have just removed it.
            if let (true, Ok(known)) = (is_entry(&path), fs::symlink_metadata(&path)) {
                entries.push((known.mtime(), known.mtime_nsec(), known.len(), path));
            }
        }
        entries.sort();
        let mut sum: u64 = entries.iter().map(|(_, _, bytes, _)| bytes).sum();
        for (_, _, has, path) in entries {
            if sum.saturating_add(bytes) <= self.bytes_max {
                break;
            }
            let _ = fs::remove_file(&path);
            sum -= has;
        }
        Ok(())
    }
}

/// Whether a file is an entry, or an unfinished one.
fn is_entry(path: &Path) -> bool {
    let ending = path
        .extension()
        .is_some_and(|ending| ending == ENDING || ending == UNFINISHED);
    let name = path.file_name().and_then(|name| name.to_str());
    let digest = name.and_then(|name| name.split_once('-'));
    let is_digest =
        |digest: &str| digest.len() == 64 && digest.bytes().all(|digit| digit.is_ascii_hexdigit());
    ending && digest.is_some_and(|(digest, _)| is_digest(digest))
}

/// An open folder that this user owns, and in which no other user may create files.
///
/// Its files are reached through its descriptor, so they are in the folder that was checked.
struct CheckedFolder {
    /// The path of the descriptor.
    path: PathBuf,
    /// Keeps the descriptor open.
    _folder: File,
}

impl CheckedFolder {
    fn open(dir: &Path) -> io::Result<Self> {
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY)
            .open(dir)
            .map_err(|error| match dir.is_symlink() {
                true => refused("it is a symbolic link"),
                false => error,
            })?;
        let known = folder.metadata()?;
        if known.uid() != user() {
            return Err(refused("it belongs to another user"));
        }
        if known.mode() & 0o022 != 0 {
            return Err(refused("other users may write to it"));
        }
        Ok(Self {
            path: format!("/proc/self/fd/{}", folder.as_raw_fd()).into(),
            _folder: folder,
        })
    }

    fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn entry_name(compiler: &Compiler, component: PluginDigest) -> String {
    let settings = compiler.settings();
    format!("{component}-{settings:016x}.{ENDING}")
}

/// Whether this user wrote an entry, and no other may change it.
fn is_entry_of_user(known: &fs::Metadata) -> bool {
    known.uid() == user() && known.mode() & 0o022 == 0
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

/// Notes that an entry was used now.
fn note_use(file: &File) {
    #[expect(
        unsafe_code,
        reason = "the standard library sets a time, and the system alone knows which it is"
    )]
    // SAFETY: the descriptor is open, and no times are passed, so the system uses the current time. If it refuses, the
    // entry appears older than it is.
    unsafe {
        libc::futimens(file.as_raw_fd(), std::ptr::null());
    }
}

fn sign(
    key: &Key,
    compiler: &Compiler,
    component: PluginDigest,
    code: &[u8],
) -> [u8; SIGNATURE_BYTES] {
    let settings = compiler.settings().to_le_bytes();
    // All parts but the last have a fixed length, so no two entries sign the same bytes.
    hmac(key, &[&component.0, &settings, code])
}

/// HMAC-SHA-256 (RFC 2104) of concatenated parts.
fn hmac(key: &Key, parts: &[&[u8]]) -> [u8; SIGNATURE_BYTES] {
    let padded = |pad: u8| {
        let mut block = [pad; BLOCK_BYTES];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let mut inner = Sha256::new_with_prefix(padded(0x36));
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new_with_prefix(padded(0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

/// The key, if no other user can have read or created it.
fn key_of(path: &Path) -> Option<Key> {
    let file = open(path).ok()?;
    let known = file.metadata().ok()?;
    let is_ours = known.uid() == user() && known.nlink() == 1 && known.mode() & 0o077 == 0;
    if !is_ours || known.len() != KEY_BYTES as u64 {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    (&file).read_exact(&mut key).ok()?;
    Some(key)
}

/// Opens a plain file: no link, and nothing that can block a reader.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused("it is not a regular file")),
    }
}

/// Writes a file that only this user may read, atomically.
fn put(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    // Threads of one process may write the same entry.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let unfinished = path.with_extension(format!("{process}-{number}.{UNFINISHED}"));
    // Left by an earlier process with the same id, or a link that another process has created.
    let _ = fs::remove_file(&unfinished);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| parts.iter().try_for_each(|part| file.write_all(part)))
        .and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// The user id of this process.
fn user() -> u32 {
    #[expect(unsafe_code, reason = "the standard library does not tell")]
    // SAFETY: the call takes nothing and cannot fail.
    unsafe {
        libc::geteuid()
    }
}

#[cfg(test)]
mod tests {
    //! Catches compiled code that runs although it was damaged or written by another user, or that is never found
    //! again.

    use std::os::unix::fs::PermissionsExt;

    use wasmtime::Engine;

    use super::*;
    use crate::guest::Limits;
    use crate::guest::compiler::Tier;

    const COMPONENT: PluginDigest = PluginDigest([7; 32]);

    impl CompiledCache {
        fn path(&self, compiler: &Compiler, component: PluginDigest) -> PathBuf {
            self.dir.join(entry_name(compiler, component))
        }

        fn key_path(&self) -> PathBuf {
            self.dir.join(KEY)
        }
    }

    /// A cache with an entry.
    fn cache() -> (tempfile::TempDir, Compiler, CompiledCache) {
        let dir = tempfile::tempdir().expect("a folder");
        let engine = Compiler::of(Engine::default(), Tier::Optimising);
        let cache = CompiledCache::new(dir.path().join("compiled"));
        assert!(cache.load(&engine, COMPONENT).is_none());
        cache.store(&engine, COMPONENT, &empty(&engine));
        assert!(cache.load(&engine, COMPONENT).is_some());
        (dir, engine, cache)
    }

    fn empty(engine: &Compiler) -> Component {
        let bytes = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        engine
            .compile("empty", &bytes, &Limits::default(), None)
            .expect("an empty component")
    }

    #[test]
    fn a_damaged_entry_is_not_loaded() {
        let (_dir, engine, cache) = cache();
        let path = cache.path(&engine, COMPONENT);
        let sound = fs::read(&path).expect("an entry");
        for at in (0..sound.len()).step_by(sound.len() / 50) {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("writable");
            assert!(cache.load(&engine, COMPONENT).is_none(), "byte {at}");
        }
        for cut in [&sound[..20], &sound[..sound.len() - 1], &[]] {
            fs::write(&path, cut).expect("writable");
            assert!(cache.load(&engine, COMPONENT).is_none(), "cut");
        }
        let longer = [&sound[..], &[0]].concat();
        fs::write(&path, longer).expect("writable");
        assert!(cache.load(&engine, COMPONENT).is_none(), "more behind it");
        let other = PluginDigest([8; 32]);
        fs::write(cache.path(&engine, other), &sound).expect("writable");
        assert!(cache.load(&engine, other).is_none(), "another's code");
        fs::write(&path, &sound).expect("writable");
        assert!(cache.load(&engine, COMPONENT).is_some());
    }

    #[test]
    fn an_entry_that_was_changed_by_who_knows_the_format_is_not_loaded() {
        let (_dir, engine, cache) = cache();
        let path = cache.path(&engine, COMPONENT);
        let sound = fs::read(&path).expect("an entry");
        let mut code = sound[SIGNATURE_BYTES..].to_vec();
        *code.last_mut().expect("some code") ^= 1;
        // A plain checksum, one with a public key, and the format of the version before.
        let mut checksum = Sha256::new();
        checksum.update(COMPONENT.0);
        checksum.update(engine.settings().to_le_bytes());
        checksum.update(&code);
        let forged = [
            Sha256::digest(&code).into(),
            checksum.finalize().into(),
            sign(&[0; KEY_BYTES], &engine, COMPONENT, &code),
        ];
        for signature in forged {
            fs::write(&path, [&signature[..], &code].concat()).expect("writable");
            assert!(cache.load(&engine, COMPONENT).is_none());
        }
    }

    #[test]
    fn a_key_that_others_may_know_is_replaced() {
        let spoil: [fn(&Path); 6] = [
            |key| fs::set_permissions(key, PermissionsExt::from_mode(0o640)).expect("ours"),
            |key| fs::set_permissions(key, PermissionsExt::from_mode(0o602)).expect("ours"),
            |key| fs::hard_link(key, key.with_extension("more")).expect("a link"),
            |key| {
                let elsewhere = key.with_extension("elsewhere");
                fs::rename(key, &elsewhere).expect("ours");
                std::os::unix::fs::symlink(elsewhere, key).expect("a link");
            },
            |key| fs::write(key, "short").expect("ours"),
            |key| fs::remove_file(key).expect("ours"),
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let (_dir, engine, cache) = cache();
            spoil(&cache.key_path());
            assert!(cache.load(&engine, COMPONENT).is_none(), "{number}");
            cache.store(&engine, COMPONENT, &empty(&engine));
            assert!(cache.load(&engine, COMPONENT).is_some(), "{number}");
            let known = fs::symlink_metadata(cache.key_path()).expect("a key");
            assert_eq!((known.is_file(), known.mode() & 0o777), (true, 0o600));
        }
    }

    #[test]
    fn a_key_of_somebody_else_is_worth_nothing() {
        // Files of root, and a folder.
        for path in ["/dev/null", "/"] {
            assert_eq!(key_of(Path::new(path)), None);
        }
        let (_dir, engine, cache) = cache();
        let key = cache.key_path();
        // Only root can change the owner of a file.
        if user() == 0 {
            std::os::unix::fs::chown(&key, Some(12_345), None).expect("root may");
            assert!(cache.load(&engine, COMPONENT).is_none());
        }
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let (_dir, engine, cache) = cache();
        let allow = |mode| {
            let permissions = PermissionsExt::from_mode(mode);
            fs::set_permissions(&cache.dir, permissions).expect("ours");
        };
        for mode in [0o770, 0o702] {
            allow(mode);
            assert!(cache.load(&engine, COMPONENT).is_none(), "{mode:o}");
            let other = PluginDigest([8; 32]);
            cache.store(&engine, other, &empty(&engine));
            assert!(!cache.path(&engine, other).exists(), "{mode:o}");
            let refused = prepare_cache(&cache.dir).expect_err("others may write");
            assert_eq!(refused.to_string(), "other users may write to it");
        }
        allow(0o755);
        assert!(cache.load(&engine, COMPONENT).is_some());
        if user() == 0 {
            std::os::unix::fs::chown(&cache.dir, Some(12_345), None).expect("root may");
            assert!(cache.load(&engine, COMPONENT).is_none());
        }
    }

    #[test]
    fn an_entry_that_others_may_change_and_a_link_are_not_loaded() {
        let (dir, engine, cache) = cache();
        let path = cache.path(&engine, COMPONENT);
        for (mode, is_loaded) in [(0o620, false), (0o602, false), (0o644, true)] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("ours");
            let loaded = cache.load(&engine, COMPONENT).is_some();
            assert_eq!(loaded, is_loaded, "{mode:o}");
        }
        let aside = dir.path().join("aside");
        fs::rename(&path, &aside).expect("ours");
        std::os::unix::fs::symlink(&aside, &path).expect("a link");
        assert!(cache.load(&engine, COMPONENT).is_none(), "a linked entry");
        fs::rename(&aside, &path).expect("ours");
        assert!(cache.load(&engine, COMPONENT).is_some());

        let folder = dir.path().join("folder");
        fs::rename(&cache.dir, &folder).expect("ours");
        std::os::unix::fs::symlink(&folder, &cache.dir).expect("a link");
        assert!(cache.load(&engine, COMPONENT).is_none(), "a linked folder");
        assert!(prepare_cache(&cache.dir).is_err());
    }

    #[test]
    fn a_folder_that_takes_the_name_after_the_check_is_not_read() {
        let (dir, _engine, cache) = cache();
        let folder = CheckedFolder::open(&cache.dir).expect("ours");
        let key = key_of(&folder.join(KEY));
        assert!(key.is_some());
        fs::rename(&cache.dir, dir.path().join("aside")).expect("ours");
        fs::create_dir(&cache.dir).expect("ours");
        put(&cache.key_path(), &[&[0; KEY_BYTES]]).expect("ours");
        assert_eq!(key_of(&folder.join(KEY)), key);
    }

    #[test]
    fn entries_that_were_not_used_for_longest_make_room() {
        let (_dir, engine, mut cache) = cache();
        let bytes = fs::metadata(cache.path(&engine, COMPONENT))
            .expect("an entry")
            .len();
        cache.bytes_max = 3 * bytes;
        let digest = |number| PluginDigest([number; 32]);
        let put_aside = cache.dir.join("notes.compiled");
        fs::write(&put_aside, vec![0; 3 * bytes as usize]).expect("writable");
        let left_behind = cache
            .path(&engine, digest(9))
            .with_extension("1-2.unfinished");
        fs::write(&left_behind, vec![0; bytes as usize]).expect("writable");
        let hours_ago = |path: &Path, hours: i64| {
            let file = File::options().write(true).open(path).expect("an entry");
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(10_000_000);
            let time = time - std::time::Duration::from_secs(3600 * hours as u64);
            file.set_modified(time).expect("ours");
        };
        hours_ago(&left_behind, 9);
        cache.store(&engine, digest(1), &empty(&engine));
        cache.store(&engine, digest(2), &empty(&engine));
        assert!(!left_behind.exists(), "it is the oldest");
        hours_ago(&cache.path(&engine, COMPONENT), 8);
        hours_ago(&cache.path(&engine, digest(1)), 7);
        hours_ago(&cache.path(&engine, digest(2)), 6);
        assert!(cache.load(&engine, COMPONENT).is_some(), "used now");
        cache.store(&engine, digest(3), &empty(&engine));
        let has = |number| cache.path(&engine, digest(number)).exists();
        assert_eq!([7, 1, 2, 3].map(has), [true, false, true, true]);
        assert!(put_aside.exists(), "it is not an entry");
    }

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 4231, test case 1: a shorter key is padded with zeros.
        let mut key = [0; KEY_BYTES];
        key[..20].fill(0x0b);
        let signature: String = hmac(&key, &[b"Hi ", b"There"])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            signature,
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }
}
