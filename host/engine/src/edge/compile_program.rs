//! Compiles plugins in processes of their own, which the system bounds and which end with the job.
//!
//! The command names itself as the program. A program that embeds the engine may name the command, too; if it does not,
//! plugins are compiled in its process, without limits. Component and code go through files without a name in memory,
//! which no other process can open: code from there needs no signature. The environment of the process is empty.
//! `compile_child` is what runs there.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::clock::Clock;
use super::compile_child::{COMMAND, CompileOrder, EXIT_MEMORY, EXIT_REFUSED, is_of_memory};
use crate::guest::{CompileElsewhere, CompileFault, CompileTask};

/// Longest time between two looks at a process that compiles.
const LOOK_MAX: Duration = Duration::from_millis(20);
/// Bytes of a reason, or of what a process said before it ended, that are kept.
const SAID_BYTES_MAX: u64 = 16 << 10;

/// The program for all engines of this process.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the `floodmark` command, of this version, that compiles plugins for all engines that are made from now on. Only
/// the first call counts.
pub fn use_program(program: PathBuf) {
    // A later call has no effect.
    let _ = PROGRAM.set(program);
}

/// The compiler of one engine, if a program was named.
#[must_use]
pub fn of_engine() -> Option<Arc<dyn CompileElsewhere>> {
    let program = PROGRAM.get()?.clone();
    Some(Arc::new(CompileProgram {
        program,
        is_stopped: AtomicBool::new(false),
    }))
}

/// Starts a process for each component.
struct CompileProgram {
    program: PathBuf,
    is_stopped: AtomicBool,
}

impl CompileElsewhere for CompileProgram {
    fn compile(&self, task: CompileTask<'_>) -> Result<Vec<u8>, CompileFault> {
        self.run(task).unwrap_or_else(|error| {
            Err(CompileFault::Broken(format!(
                "its compiler, `{} {COMMAND}`, cannot be run: {error}",
                self.program.display()
            )))
        })
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

impl CompileProgram {
    fn run(&self, task: CompileTask<'_>) -> io::Result<Result<Vec<u8>, CompileFault>> {
        let order = CompileOrder {
            settings: task.settings,
            limits: task.limits,
            parent: std::process::id(),
        };
        let (mut input, mut output, mut said) = (nameless()?, nameless()?, nameless()?);
        input.write_all(task.component)?;
        input.rewind()?;
        let mut command = Command::new(&self.program);
        command
            .arg(COMMAND)
            .args(order.words())
            .env_clear()
            .current_dir("/")
            .stdin(input)
            .stdout(output.try_clone()?)
            .stderr(said.try_clone()?)
            // Ctrl-C is for the job, which decides.
            .process_group(0);
        if rayon::current_thread_index().is_some() {
            // The optimiser's threads are few and of a low priority, which the process inherits.
            let threads = rayon::current_num_threads().to_string();
            command.env("RAYON_NUM_THREADS", threads);
        }
        let child = command.spawn()?;
        let ended = match self.wait(child, task.limits.time)? {
            Ok(ended) => ended,
            Err(fault) => return Ok(Err(fault)),
        };
        output.rewind()?;
        if ended.success() {
            let mut code = Vec::new();
            output.read_to_end(&mut code)?;
            return Ok(Ok(code));
        }
        let (reason, said) = (text(&mut output)?, text(&mut said)?);
        Ok(Err(fault_of(ended, reason, &said)))
    }

    /// Waits for the end of a process. Kills it after its time, and if the engine is stopped.
    #[expect(clippy::disallowed_methods, reason = "only the edge waits")]
    fn wait(
        &self,
        mut child: Child,
        time: Duration,
    ) -> io::Result<Result<ExitStatus, CompileFault>> {
        let clock = Clock::start();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(ended) = child.try_wait()? {
                return Ok(Ok(ended));
            }
            let fault = match self.is_stopped.load(Ordering::Relaxed) {
                true => Some(CompileFault::Stopped),
                false => (clock.now() > time).then_some(CompileFault::Time),
            };
            if let Some(fault) = fault {
                child.kill()?;
                child.wait()?;
                return Ok(Err(fault));
            }
            std::thread::sleep(pause);
            pause = LOOK_MAX.min(2 * pause);
        }
    }
}

/// The reason why a process ended without code.
fn fault_of(ended: ExitStatus, reason: String, said: &str) -> CompileFault {
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    match (code, ended.signal()) {
        (Some(EXIT_REFUSED), _) => CompileFault::Refused(reason),
        (Some(EXIT_MEMORY), _) | (_, Some(libc::SIGXFSZ)) => CompileFault::Memory,
        (_, Some(libc::SIGXCPU)) => CompileFault::Time,
        _ if is_of_memory(said) => CompileFault::Memory,
        _ => {
            let last = said.lines().last().unwrap_or_default();
            CompileFault::Broken(format!("its compiler ended with {ended}: {last}"))
        }
    }
}

/// The begin of a file as text.
fn text(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(SAID_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file in memory without a name, for this process and the one that it is handed to.
fn nameless() -> io::Result<File> {
    #[expect(
        unsafe_code,
        reason = "the standard library has no files without a name"
    )]
    // SAFETY: the name ends with a zero. If the call succeeds, the descriptor is open and nothing else owns it.
    unsafe {
        let descriptor = libc::memfd_create(c"floodmark-compile".as_ptr(), libc::MFD_CLOEXEC);
        match descriptor {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(File::from_raw_fd(descriptor)),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches an end of the compiler that is blamed on the plugin, or on the wrong limit; and a process that survives the
    //! stop of its engine, or its time.

    use super::*;
    use crate::guest::{CodeSettings, CompileLimits};

    #[test]
    fn each_end_has_its_reason() {
        let code = |code: i32| ExitStatus::from_raw(code << 8);
        for (ended, said, expected) in [
            (code(10), "", CompileFault::Refused("it is bad".to_owned())),
            (code(11), "", CompileFault::Memory),
            (ExitStatus::from_raw(libc::SIGXCPU), "", CompileFault::Time),
            (
                ExitStatus::from_raw(libc::SIGXFSZ),
                "",
                CompileFault::Memory,
            ),
            (
                ExitStatus::from_raw(libc::SIGABRT),
                "memory allocation of 8 bytes failed\n",
                CompileFault::Memory,
            ),
        ] {
            assert_eq!(fault_of(ended, "it is bad".to_owned(), said), expected);
        }
        let broken = fault_of(code(101), String::new(), "thread panicked\nat the disco\n");
        let CompileFault::Broken(reason) = broken else {
            panic!("{broken:?}");
        };
        assert!(reason.ends_with(": at the disco"), "{reason}");
    }

    /// What becomes of a program that ignores its arguments.
    fn run(program: &str, is_stopped: bool) -> Result<Vec<u8>, CompileFault> {
        let program = CompileProgram {
            program: program.into(),
            is_stopped: AtomicBool::new(is_stopped),
        };
        let task = CompileTask {
            component: b"abc",
            settings: CodeSettings::default(),
            limits: CompileLimits {
                time: Duration::from_millis(300),
                memory_bytes: 1 << 30,
            },
        };
        loop {
            match program.compile(task) {
                // Another test starts a process, which has the file open for writing until it runs its program.
                Err(CompileFault::Broken(reason)) if reason.contains("busy") => {}
                ended => return ended,
            }
        }
    }

    #[test]
    fn a_process_ends_with_its_time_and_with_its_engine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endless");
        let script = "#!/bin/sh\nwhile :; do :; done\n";
        let mut file = File::create(&path).unwrap();
        file.write_all(script.as_bytes()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        file.set_permissions(mode).unwrap();
        drop(file);
        let path = path.to_str().unwrap();
        assert_eq!(run(path, false), Err(CompileFault::Time));
        assert_eq!(run(path, true), Err(CompileFault::Stopped));
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let Err(CompileFault::Broken(reason)) = run("/no/such/program", false) else {
            panic!("there is no such program");
        };
        assert!(
            reason.contains("`/no/such/program compile-plugin`"),
            "{reason}"
        );
    }
}
