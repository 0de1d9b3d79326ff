//! Raises the number of files that the process may have open.
//!
//! Many systems set a soft limit of 1024 for programs that use `select`, and a far higher hard limit, up to which each
//! process may raise it. A job with many input files, workers and connections needs more than 1024. Programs that it
//! starts, such as hooks and builds of plugins, inherit the higher limit.

use std::io;

/// Raises the soft limit of open files to the hard limit.
///
/// # Errors
/// When the system refuses: the limit is as it was.
pub fn raise_limit() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    #[expect(unsafe_code, reason = "the standard library has no limits")]
    // SAFETY: the pointer is to a live value of the type that the call fills.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur == limit.rlim_max {
        return Ok(());
    }
    limit.rlim_cur = limit.rlim_max;
    #[expect(unsafe_code, reason = "the standard library has no limits")]
    // SAFETY: the pointer is to a live value of the type that the call reads.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
