//! The process that compiles one component: `floodmark compile-plugin`, which only this program starts.
//!
//! It bounds itself before it reads the component: seconds of the processor, bytes of data, and an end with the thread
//! that started it. So its parent need not run code between fork and exec, and can start it without copying the page
//! tables of a large job. Data is bounded and not the address space, of which the pool of an engine reserves much without
//! using it. It reads the component from standard input and writes code to standard output, or the compiler's reason
//! why there is none.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::guest::{CodeSettings, CompileLimits, compile_to_code};

/// The name of the command.
pub const COMMAND: &str = "compile-plugin";
/// The exit code if the compiler refuses the component. The output is the reason.
pub(super) const EXIT_REFUSED: u8 = 10;
/// The exit code if there was not enough memory.
pub(super) const EXIT_MEMORY: u8 = 11;
/// The exit code if it was called otherwise than by its parent, or its limits or its output failed.
const EXIT_BROKEN: u8 = 12;
/// Seconds after the limit on time at which the system ends the process in any case.
const GRACE_SECONDS: u64 = 5;
/// Parts of messages of the compiler and of the system when memory is short.
const MEMORY_WORDS: [&str; 3] = [
    "out of memory",
    "memory allocation of",
    "Cannot allocate memory",
];

/// What the process is told by its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CompileOrder {
    pub(super) settings: CodeSettings,
    pub(super) limits: CompileLimits,
    /// The id of the process that waits for the code.
    pub(super) parent: u32,
}

impl CompileOrder {
    /// As arguments.
    pub(super) fn words(&self) -> Vec<String> {
        let CodeSettings {
            is_quick,
            has_fuel,
            is_sampled,
        } = self.settings;
        let flags = [is_quick, has_fuel, is_sampled].map(u64::from);
        let numbers = [
            self.limits.time.as_secs(),
            self.limits.memory_bytes,
            self.parent.into(),
        ];
        let words = flags.iter().chain(&numbers);
        words.map(u64::to_string).collect()
    }

    fn of_words(words: &[String]) -> Option<Self> {
        let numbers = words.iter().map(|word| word.parse::<u64>().ok());
        let numbers = numbers.collect::<Option<Vec<_>>>()?;
        let &[quick, fuel, sampled, seconds, memory_bytes, parent] = numbers.as_slice() else {
            return None;
        };
        Some(Self {
            settings: CodeSettings {
                is_quick: quick != 0,
                has_fuel: fuel != 0,
                is_sampled: sampled != 0,
            },
            limits: CompileLimits {
                time: Duration::from_secs(seconds),
                memory_bytes,
            },
            parent: u32::try_from(parent).ok()?,
        })
    }
}

/// Whether a message says that there was not enough memory.
pub(super) fn is_of_memory(message: &str) -> bool {
    MEMORY_WORDS.iter().any(|words| message.contains(words))
}

/// Compiles the component on standard input, as these arguments say. Returns the exit code.
#[must_use]
pub fn serve(words: &[String]) -> u8 {
    let Some(order) = CompileOrder::of_words(words) else {
        return EXIT_BROKEN;
    };
    if !ends_with_parent(order.parent) || bound(order.limits).is_err() {
        return EXIT_BROKEN;
    }
    let mut component = Vec::new();
    if io::stdin().lock().read_to_end(&mut component).is_err() {
        return EXIT_BROKEN;
    }
    let (code, output) = match compile_to_code(order.settings, &component) {
        Ok(compiled) => (0, compiled),
        Err(reason) if is_of_memory(&reason) => (EXIT_MEMORY, Vec::new()),
        Err(reason) => (EXIT_REFUSED, reason.into_bytes()),
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(&output).and_then(|()| stdout.flush()) {
        Ok(()) => code,
        Err(_) => EXIT_BROKEN,
    }
}

/// Has the system kill this process with the thread that started it. Returns whether that process still waits.
fn ends_with_parent(parent: u32) -> bool {
    #[expect(
        unsafe_code,
        reason = "the standard library cannot tie a process to another"
    )]
    // SAFETY: the calls touch no memory.
    let (told, now) = unsafe {
        let told = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        (told, libc::getppid())
    };
    // If it ended before the first call, another process is the parent now.
    told == 0 && u32::try_from(now) == Ok(parent)
}

/// Bounds this process.
fn bound(limits: CompileLimits) -> io::Result<()> {
    let seconds = limits.time.as_secs().max(1);
    let memory = limits.memory_bytes;
    for (resource, soft, hard) in [
        (
            libc::RLIMIT_CPU,
            seconds,
            seconds.saturating_add(GRACE_SECONDS),
        ),
        (libc::RLIMIT_DATA, memory, memory),
        (libc::RLIMIT_CORE, 0, 0),
    ] {
        let limit = libc::rlimit {
            rlim_cur: soft,
            rlim_max: hard,
        };
        #[expect(unsafe_code, reason = "the standard library has no limits")]
        // SAFETY: the pointer is to a live value of the type that the call reads.
        let set = unsafe { libc::setrlimit(resource, &limit) };
        // Another limit may be lower than this one already: only lower ones may be set then, and none is needed.
        let error = io::Error::last_os_error();
        if set != 0 && error.kind() != io::ErrorKind::PermissionDenied {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Catches orders that a process reads otherwise than its parent wrote them, and a message about memory that counts as
    //! a fault of the plugin.

    use super::*;

    #[test]
    fn orders_go_through_arguments() {
        for bits in 0..8 {
            let order = CompileOrder {
                settings: CodeSettings {
                    is_quick: bits & 1 != 0,
                    has_fuel: bits & 2 != 0,
                    is_sampled: bits & 4 != 0,
                },
                limits: CompileLimits {
                    time: Duration::from_secs(600),
                    memory_bytes: 4 << 30,
                },
                parent: 4321,
            };
            assert_eq!(CompileOrder::of_words(&order.words()), Some(order));
        }
        for words in [&["1", "2"][..], &["0", "0", "0", "1", "x", "1"], &[]] {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(CompileOrder::of_words(&words), None);
            assert_eq!(serve(&words), EXIT_BROKEN);
        }
    }

    #[test]
    fn memory_is_told_from_other_faults() {
        assert!(is_of_memory("memory allocation of 4096 bytes failed"));
        assert!(is_of_memory("failed: Cannot allocate memory (os error 12)"));
        assert!(!is_of_memory("instances count exceeds limit of 1000"));
    }
}
