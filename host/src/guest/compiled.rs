//! Compiled code on disk, by digest of the component.
//!
//! Compiling takes tens of milliseconds to seconds, loading compiled code far less. Running a file as machine code asks for
//! care: an entry is loaded only if it was made by this version with these settings on this kind of processor, and if its
//! bytes have the checksum that was written with them. A damaged or foreign entry is compiled anew. That guards against
//! accidents; who can write to the data folder could change the job's results anyway.

use std::fs;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::checkpoint::PluginDigest;

const CHECKSUM_BYTES: usize = 32;

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

    fn checksum(&self, component: PluginDigest, code: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut hasher = Sha256::new();
        hasher.update(component.0);
        hasher.update(self.settings.to_le_bytes());
        hasher.update(code);
        hasher.finalize().into()
    }

    /// The compiled component, if it is there and sound.
    pub(super) fn load(&self, engine: &Engine, component: PluginDigest) -> Option<Component> {
        let file = fs::read(self.path(component)).ok()?;
        let (checksum, code) = file.split_at_checked(CHECKSUM_BYTES)?;
        if checksum != self.checksum(component, code) {
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "loading machine code cannot be made safe; its checksum was just compared"
        )]
        // SAFETY: the bytes are those that this version of wasmtime made with these settings: checksum and name say so.
        let compiled = unsafe { Component::deserialize(engine, code) };
        compiled.ok()
    }

    /// Keeps a compiled component. A cache that cannot be written costs time, nothing else.
    pub(super) fn store(&self, compiled: &Component, component: PluginDigest) {
        let Ok(code) = compiled.serialize() else {
            return;
        };
        let mut file = self.checksum(component, &code).to_vec();
        file.extend_from_slice(&code);
        let path = self.path(component);
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        let written = fs::create_dir_all(&self.dir)
            .and_then(|()| fs::write(&unfinished, &file))
            .and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches compiled code that runs although it was damaged, or is never found again.

    use super::*;

    #[test]
    fn a_damaged_entry_is_not_loaded() {
        let dir = tempfile::tempdir().expect("a folder");
        let engine = Engine::default();
        let cache = CompiledCache::new(dir.path().join("compiled"), &engine);
        let digest = PluginDigest([7; 32]);
        assert!(cache.load(&engine, digest).is_none());
        let empty = Component::from_binary(&engine, &[0, b'a', b's', b'm', 0x0d, 0, 1, 0])
            .expect("an empty component");
        cache.store(&empty, digest);
        assert!(cache.load(&engine, digest).is_some());
        let path = cache.path(digest);
        let sound = fs::read(&path).expect("an entry");
        for at in (0..sound.len()).step_by(sound.len() / 50) {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("writable");
            assert!(cache.load(&engine, digest).is_none(), "byte {at}");
        }
        fs::write(&path, &sound[..20]).expect("writable");
        assert!(cache.load(&engine, digest).is_none(), "cut");
        fs::write(cache.path(PluginDigest([8; 32])), &sound).expect("writable");
        assert!(
            cache.load(&engine, PluginDigest([8; 32])).is_none(),
            "another's code"
        );
    }
}
