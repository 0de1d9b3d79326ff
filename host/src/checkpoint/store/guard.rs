//! Keeps a panic of redb on a damaged file from taking the job with it.
//!
//! redb trusts the pages of a file that was closed by its own rules: it checks their checksums only when it repairs. A
//! flipped bit can thus trip one of its assertions, or an index out of bounds. Letting it verify all pages at each
//! opening would read the whole file, and refuse it for one bad byte, where an older checkpoint is still sound. So a
//! panic in here is an error, the handle is thrown away after it, and what was read counts only with our own
//! checksums. This needs `panic = "unwind"`. It does not help against a stack overflow or memory that is not there.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::error::StoreFault;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs calls into redb; a panic in them becomes [`StoreFault::Panicked`] and prints nothing.
///
/// The hook that prints is one for the whole process, so it is wrapped once, and asks this thread's flag.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
    static WRAPPED: Once = Once::new();
    WRAPPED.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                print(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    // What the call leaves behind half done is redb's handle, and that is dropped after this error.
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    QUIET.set(before);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let line = text.and_then(|text| text.lines().next());
        Err(StoreFault::Panicked(line.unwrap_or("a panic").to_owned()))
    })
}
