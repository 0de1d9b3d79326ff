//! Compiles plugins in processes of their own, which the system bounds and which end with the job.
//!
//! The command names itself as the program. A program that embeds the engine may name the command, too; if it does not,
//! plugins are compiled in its process, without limits. Component and code go through pipes, to which no other process has
//! an end: code from there needs no signature. The environment of the process is empty. `compile_child` is what runs
//! there.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::clock::Clock;
use super::compile_child::{COMMAND, CompileOrder, EXIT_MEMORY, EXIT_REFUSED, is_of_memory};
use crate::guest::{Cancellation, CompileElsewhere, CompileFault, CompileTask};

/// Longest time between two looks at a process that compiles.
const LOOK_MAX: Duration = Duration::from_millis(20);
/// Bytes of what a process says before it ends that are read.
const SAID_BYTES_MAX: u64 = 16 << 10;

/// The program for all engines of this process.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the `floodmark` command, of this version, that compiles plugins for all engines that are made from now on. Only
/// the first call counts.
pub fn use_program(program: PathBuf) {
    // A later call has no effect.
    let _ = PROGRAM.set(seen_from_here(program));
}

/// The same program for a process with another current folder: those that compile have `/`.
fn seen_from_here(program: PathBuf) -> PathBuf {
    std::path::absolute(&program).unwrap_or(program)
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
        let mut command = Command::new(&self.program);
        command
            .arg(COMMAND)
            .args(order.words())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the job, which decides.
            .process_group(0);
        if rayon::current_thread_index().is_some() {
            // The optimiser's threads are few and of a low priority, which the process inherits.
            let threads = rayon::current_num_threads().to_string();
            command.env("RAYON_NUM_THREADS", threads);
        }
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let (output, said) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if let Some(mut input) = input {
                    // A process that ends early closes its end: how it ended says why.
                    let _ = input.write_all(task.component);
                }
            });
            let output = scope.spawn(move || all_of(output, u64::MAX));
            let said = scope.spawn(move || all_of(said, SAID_BYTES_MAX));
            let ended = self.wait(child, task)?;
            let broken = |_| io::Error::other("a thread that reads its answer has panicked");
            let output = output.join().map_err(broken)??;
            let said = said.join().map_err(broken)??;
            Ok(match ended {
                Ok(ended) if ended.success() => Ok(output),
                Ok(ended) => Err(fault_of(ended, &text(&output), &text(&said))),
                Err(fault) => Err(fault),
            })
        })
    }

    /// Waits for the end of a process. Kills it after its time, if the engine is stopped, and if the caller cancels it.
    #[expect(clippy::disallowed_methods, reason = "only the edge waits")]
    fn wait(
        &self,
        mut child: Child,
        task: CompileTask<'_>,
    ) -> io::Result<Result<ExitStatus, CompileFault>> {
        let clock = Clock::start();
        let mut pause = Duration::from_millis(1);
        loop {
            match child.try_wait() {
                Ok(Some(ended)) => return Ok(Ok(ended)),
                Ok(None) => {}
                Err(error) => {
                    // Its pipes would keep their threads as long as it runs.
                    let _ = child.kill();
                    return Err(error);
                }
            }
            let is_cancelled = task.cancellation.is_some_and(Cancellation::is_cancelled);
            let fault = match is_cancelled || self.is_stopped.load(Ordering::Relaxed) {
                true => Some(CompileFault::Stopped),
                false => (clock.now() > task.limits.time).then_some(CompileFault::Time),
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
fn fault_of(ended: ExitStatus, reason: &str, said: &str) -> CompileFault {
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    match (code, ended.signal()) {
        (Some(EXIT_REFUSED), _) => CompileFault::Refused(reason.to_owned()),
        (Some(EXIT_MEMORY), _) => CompileFault::Memory,
        (_, Some(libc::SIGXCPU)) => CompileFault::Time,
        _ if is_of_memory(said) => CompileFault::Memory,
        _ => {
            let last = said.lines().last().unwrap_or_default();
            CompileFault::Broken(format!("its compiler ended with {ended}: {last}"))
        }
    }
}

/// What comes from a pipe until its end, or until there are so many bytes.
fn all_of(pipe: Option<impl Read>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    //! Catches an end of the compiler that is blamed on the plugin, or on the wrong limit; a process that survives the stop of
    //! its engine, its cancellation, or its time; and a relative path that is looked for in the folder of that process.

    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

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
                ExitStatus::from_raw(libc::SIGABRT),
                "memory allocation of 8 bytes failed\n",
                CompileFault::Memory,
            ),
        ] {
            assert_eq!(fault_of(ended, "it is bad", said), expected);
        }
        let broken = fault_of(code(101), "", "thread panicked\nat the disco\n");
        let CompileFault::Broken(reason) = &broken else {
            panic!("{broken:?}");
        };
        assert!(reason.ends_with(": at the disco"), "{reason}");
    }

    /// The end of a program that ignores its arguments.
    fn run(
        program: &str,
        is_stopped: bool,
        cancellation: Option<&Cancellation>,
    ) -> Result<Vec<u8>, CompileFault> {
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
            cancellation,
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
    fn a_process_ends_with_its_time_its_engine_and_its_caller() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endless");
        let script = "#!/bin/sh\nwhile :; do :; done\n";
        let mut file = File::create(&path).unwrap();
        file.write_all(script.as_bytes()).unwrap();
        let mode = PermissionsExt::from_mode(0o700);
        file.set_permissions(mode).unwrap();
        drop(file);
        let path = path.to_str().unwrap();
        let cancellation = Cancellation::default();
        let cancelled = || run(path, false, Some(&cancellation));
        assert_eq!(run(path, false, None), Err(CompileFault::Time));
        assert_eq!(cancelled(), Err(CompileFault::Time));
        assert_eq!(run(path, true, None), Err(CompileFault::Stopped));
        cancellation.cancel();
        assert_eq!(cancelled(), Err(CompileFault::Stopped));
    }

    #[test]
    fn a_relative_path_is_taken_from_the_current_folder() {
        let here = std::env::current_dir().unwrap();
        let seen = |path: &str| seen_from_here(path.into());
        assert_eq!(seen("bin/floodmark"), here.join("bin/floodmark"));
        assert_eq!(seen("/bin/floodmark"), PathBuf::from("/bin/floodmark"));
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let Err(CompileFault::Broken(reason)) = run("/no/such/program", false, None) else {
            panic!("there is no such program");
        };
        assert!(
            reason.contains("`/no/such/program compile-plugin`"),
            "{reason}"
        );
    }
}
