//! Makes the system's allocator return large buffers to the system.
//!
//! When a large buffer is freed, glibc raises the size from which a buffer gets a memory mapping of its own, and takes
//! later ones from its heaps, of which there is one per thread. Workers allocate chunks of state and the writer frees
//! them, so the heaps fragment: with a state on disk, 250 MiB beyond the budget were measured. With a fixed size, each
//! chunk stays in a mapping of its own. Other allocators are left alone.

/// Buffers of this size or more get a mapping of their own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: i32 = 256 << 10;

/// Sets the size. Call it before threads start, for jobs that must stay within a memory budget.
pub fn return_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the system has no other way to say it")]
        // SAFETY: `mallopt` sets a number of the allocator; it takes any value and may be called at any time.
        let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES) };
    }
}
