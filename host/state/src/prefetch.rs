//! Prefetches memory into the processor's caches. It is only a hint: without it everything works the same, only slower.

/// Prefetches the item at `index`, if there is one.
#[inline(always)]
pub fn prefetch<T>(items: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(item) = items.get(index) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(
            unsafe_code,
            reason = "the intrinsic takes a pointer; a prefetch never faults and changes nothing"
        )]
        // SAFETY: prefetching only affects caches, and the pointer comes from a reference.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, index);
}
