//! Compiled code on disk, by digest of the component.
//!
//! Compiling takes tens of milliseconds to seconds, loading compiled code far less. But what is loaded runs as machine code
//! outside of every sandbox, so an entry is loaded only if this user's own process wrote it, byte for byte, with this version
//! and these settings for this kind of processor. Each entry is signed (HMAC-SHA-256) with a key that lies beside the entries
//! in `key`: 32 random bytes that belong to this user and that nobody else may read. A checksum alone would tell damage, but
//! not whoever may write to the folder: anybody can compute a checksum anew.
//!
//! - An entry that is damaged, cut, forged, or another's under this name is compiled anew.
//! - A key that others own or may read, that has another name beside this one, or that is no plain file is worth nothing: it is
//!   replaced, and all entries are compiled anew. So it is when a data folder was copied by another user.
//! - Bytes are checked and loaded from memory. To map the file would save a copy, but who writes to it after the check would
//!   change code that already runs.
//!
//! It does not guard against who acts as this user, or as root: they could change the command as well.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::checkpoint::PluginDigest;

const SIGNATURE_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// Bytes that SHA-256 takes in at once.
const BLOCK_BYTES: usize = 64;

type Key = [u8; KEY_BYTES];

/// A folder of compiled components.
#[derive(Debug, Clone)]
pub(super) struct CompiledCache {
    dir: PathBuf,
    settings: u64,
}

impl CompiledCache {
    pub(super) fn new(dir: PathBuf, engine: &Engine) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self {
            dir,
            settings: hasher.finish(),
        }
    }

    fn path(&self, component: PluginDigest) -> PathBuf {
        self.dir
            .join(format!("{component}-{:016x}.compiled", self.settings))
    }

    /// Whether there is an entry, sound or not.
    pub(super) fn has(&self, component: PluginDigest) -> bool {
        self.path(component).exists()
    }

    fn key_path(&self) -> PathBuf {
        self.dir.join("key")
    }

    fn signature(&self, key: &Key, component: PluginDigest, code: &[u8]) -> [u8; SIGNATURE_BYTES] {
        // Of fixed length but for the last part, so that no two entries sign the same bytes.
        hmac(key, &[&component.0, &self.settings.to_le_bytes(), code])
    }

    /// The compiled component, if it is there and this user's own.
    pub(super) fn load(&self, engine: &Engine, component: PluginDigest) -> Option<Component> {
        let file = fs::read(self.path(component)).ok()?;
        let (signature, code) = file.split_at_checked(SIGNATURE_BYTES)?;
        let key = key_of(&self.key_path())?;
        let expected = self.signature(&key, component, code);
        // All bytes are looked at, so that how long it takes tells nothing about the right ones.
        let difference = |(one, other): (&u8, &u8)| one ^ other;
        let differences = signature.iter().zip(&expected).map(difference);
        if differences.fold(0, |all, one| all | one) != 0 {
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "loading machine code cannot be made safe; its signature was just compared"
        )]
        // SAFETY: the bytes are in memory of our own, and this user's process signed them when this version of wasmtime had
        // made them with these settings.
        let compiled = unsafe { Component::deserialize(engine, code) };
        compiled.ok()
    }

    /// Keeps a compiled component. A cache that cannot be written costs time, nothing else.
    pub(super) fn store(&self, compiled: &Component, component: PluginDigest) {
        if let Ok(code) = compiled.serialize() {
            // Nobody waits for it, and the next load compiles anew.
            let _ = self.write(component, &code);
        }
    }

    fn write(&self, component: PluginDigest, code: &[u8]) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let key_path = self.key_path();
        let key = match key_of(&key_path) {
            Some(key) => key,
            None => {
                let mut key = [0; KEY_BYTES];
                File::open("/dev/urandom")?.read_exact(&mut key)?;
                put(&key_path, &[&key])?;
                // Not on a file system that gives files to others.
                key_of(&key_path).ok_or(io::ErrorKind::PermissionDenied)?
            }
        };
        let signature = self.signature(&key, component, code);
        put(&self.path(component), &[&signature, code])
    }
}

/// HMAC-SHA-256 (RFC 2104) of bytes that stand one after the other.
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

/// The key, if nobody else can know it or have put it there.
fn key_of(path: &Path) -> Option<Key> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let known = file.metadata().ok()?;
    let is_ours = known.uid() == user() && known.nlink() == 1 && known.mode() & 0o077 == 0;
    if !known.is_file() || !is_ours || known.len() != KEY_BYTES as u64 {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    (&file).read_exact(&mut key).ok()?;
    Some(key)
}

/// Writes a file that only this user may read, whole or not at all.
fn put(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let unfinished = path.with_extension(std::process::id().to_string());
    // Of an earlier process of the same number, or a link that somebody has laid there.
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

/// As whom this process acts.
fn user() -> u32 {
    #[expect(unsafe_code, reason = "the standard library does not tell")]
    // SAFETY: the call takes nothing and cannot fail.
    unsafe {
        libc::geteuid()
    }
}

#[cfg(test)]
mod tests {
    //! Catches compiled code that runs although it was damaged or is not this user's own, or is never found again.

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const COMPONENT: PluginDigest = PluginDigest([7; 32]);

    /// A cache with an entry.
    fn cache() -> (tempfile::TempDir, Engine, CompiledCache) {
        let dir = tempfile::tempdir().expect("a folder");
        let engine = Engine::default();
        let cache = CompiledCache::new(dir.path().join("compiled"), &engine);
        assert!(cache.load(&engine, COMPONENT).is_none());
        cache.store(&empty(&engine), COMPONENT);
        assert!(cache.load(&engine, COMPONENT).is_some());
        (dir, engine, cache)
    }

    fn empty(engine: &Engine) -> Component {
        Component::from_binary(engine, &[0, b'a', b's', b'm', 0x0d, 0, 1, 0])
            .expect("an empty component")
    }

    #[test]
    fn a_damaged_entry_is_not_loaded() {
        let (_dir, engine, cache) = cache();
        let path = cache.path(COMPONENT);
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
        fs::write(cache.path(other), &sound).expect("writable");
        assert!(cache.load(&engine, other).is_none(), "another's code");
        fs::write(&path, &sound).expect("writable");
        assert!(cache.load(&engine, COMPONENT).is_some());
    }

    #[test]
    fn an_entry_that_was_changed_by_who_knows_the_format_is_not_loaded() {
        let (_dir, engine, cache) = cache();
        let path = cache.path(COMPONENT);
        let sound = fs::read(&path).expect("an entry");
        let mut code = sound[SIGNATURE_BYTES..].to_vec();
        *code.last_mut().expect("some code") ^= 1;
        // A plain checksum, one with a key that is no secret, and what an entry of the version before had.
        let mut checksum = Sha256::new();
        checksum.update(COMPONENT.0);
        checksum.update(cache.settings.to_le_bytes());
        checksum.update(&code);
        let forged = [
            Sha256::digest(&code).into(),
            checksum.finalize().into(),
            cache.signature(&[0; KEY_BYTES], COMPONENT, &code),
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
            cache.store(&empty(&engine), COMPONENT);
            assert!(cache.load(&engine, COMPONENT).is_some(), "{number}");
            let known = fs::symlink_metadata(cache.key_path()).expect("a key");
            assert_eq!((known.is_file(), known.mode() & 0o777), (true, 0o600));
        }
    }

    #[test]
    fn a_key_of_somebody_else_is_worth_nothing() {
        // Root's own, and a folder.
        for path in ["/dev/null", "/"] {
            assert_eq!(key_of(Path::new(path)), None);
        }
        let (_dir, engine, cache) = cache();
        let key = cache.key_path();
        // Only root may give files away; others cannot try it.
        if user() == 0 {
            std::os::unix::fs::chown(&key, Some(12_345), None).expect("root may");
            assert!(cache.load(&engine, COMPONENT).is_none());
        }
    }

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 4231, test case 1: a shorter key is one with zeros behind it.
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
