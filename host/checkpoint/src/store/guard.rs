//! Turns a panic of redb on a damaged file into an error.
//!
//! After a clean close, redb trusts the pages of a file: it checks their checksums only when it repairs. A flipped bit
//! can thus trip one of its assertions, or an index out of bounds. Verifying all pages at each opening would read the
//! whole file, and refuse it for one bad byte although an older checkpoint is sound. So a panic in a call becomes an
//! error, the handle is dropped after it, and data counts only with this module's own checksums. This requires `panic =
//! "unwind"`. It does not help against a stack overflow or a failed allocation.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::error::StoreFault;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs calls into redb; a panic in them becomes [`StoreFault::Panicked`] and prints nothing.
///
/// There is one printing hook per process, so it is wrapped once, and checks a flag of this thread.
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
    // The call may leave redb's handle half changed, and it is dropped after this error.
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    QUIET.set(before);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let line = text.and_then(|text| text.lines().next());
        Err(StoreFault::Panicked(line.unwrap_or("a panic").to_owned()))
    })
}
