//! Files that no other process sees, for state that does not fit into memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes an empty file in a folder and takes its name away, so that it goes with the process however that ends.
///
/// # Errors
/// When the system refuses.
pub fn file_in(folder: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("scratch-{}-{number}", process::id()));
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        match opened {
            // Left by a process that died between its two steps, and whose number came again.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                fs::remove_file(&path)?;
                return Ok(file);
            }
        }
    }
}
