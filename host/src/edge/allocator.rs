//! Has the system's allocator give large buffers back.
//!
//! glibc raises the size from which it maps memory of its own for a buffer as soon as such a buffer is freed, and takes later ones
//! from its heaps, of which there is one a thread. Chunks of state are made by workers and freed by the writer, so the
//! heaps fill with holes: with a state on disk that was measured as 250 MiB beyond the budget. A fixed size keeps each
//! chunk in a mapping of its own. Other allocators are left alone.

/// From this size on a buffer is mapped on its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: i32 = 256 << 10;

/// To be called before threads start; for jobs that promise to stay within a budget.
pub fn return_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the system has no other way to say it")]
        // SAFETY: `mallopt` sets a number of the allocator; it takes any value and may be called at any time.
        let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES) };
    }
}
