//! Optimises plugins in the background, while their job runs code from the quick compiler.
//!
//! One plugin at a time. The compiler uses as many threads as there are cores, up to [`THREADS_MAX`], all of them at a
//! lower priority: an idle machine finishes soonest this way, and on a busy one the job keeps at least three quarters
//! of its cores. Less for the compiler would cost the job more, since it runs slower until the code is optimised.
//!
//! The end of a job does not wait for this thread: it stops a compilation in another process, and one in this process
//! cannot be interrupted, so it ends with the process.
//! The quick compiler's code is stored first, on a short-lived thread of its own, and the end of a job waits for that:
//! otherwise a job that is shorter than a compilation would compile again at each start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use crate::guest::{GuestEngine, GuestError, Unoptimised};

/// Largest number of compiler threads.
const THREADS_MAX: usize = 4;
/// The niceness of compiler threads: 0 is normal priority, 19 the lowest.
const NICENESS: libc::c_int = 5;

/// Optimises plugins until it is dropped.
#[derive(Debug)]
pub struct Optimiser {
    is_over: Arc<AtomicBool>,
    keepers: Keepers,
}

/// Threads that store quick code. Finished ones are removed when the next one starts.
type Keepers = Arc<Mutex<Vec<JoinHandle<()>>>>;

impl Optimiser {
    /// Starts the thread, and returns an engine that sends its plugins to it. `say` receives a line about each result.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
    pub fn start(engine: GuestEngine, say: impl Fn(&str) + Send + 'static) -> (GuestEngine, Self) {
        let is_over = Arc::new(AtomicBool::new(false));
        let (sender, inbox) = mpsc::channel::<Unoptimised>();
        let keepers = Keepers::default();
        let kept = Arc::clone(&keepers);
        let engine = engine.optimised_by(Arc::new(move |mut plugin| {
            let sender = sender.clone();
            let keeper = std::thread::spawn(move || {
                plugin.keep();
                // Without the optimising thread, plugins keep running the code they have.
                let _ = sender.send(plugin);
            });
            let mut keepers = kept.lock().unwrap_or_else(PoisonError::into_inner);
            keepers.retain(|keeper| !keeper.is_finished());
            keepers.push(keeper);
        }));
        let heard = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let mut threads = None;
            for plugin in inbox {
                if heard.load(Ordering::Relaxed) {
                    return;
                }
                let threads = threads.get_or_insert_with(threads_of_compiler);
                let told = optimise(plugin, threads.as_ref());
                if let (Some(told), false) = (told, heard.load(Ordering::Relaxed)) {
                    say(&told);
                }
            }
        });
        (engine, Self { is_over, keepers })
    }
}

impl Drop for Optimiser {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        for keeper in keepers.drain(..) {
            // If the thread panicked, no code was stored, which only costs time at the next start.
            let _ = keeper.join();
        }
    }
}

/// Optimises a plugin; returns a line for the user.
fn optimise(plugin: Unoptimised, threads: Option<&rayon::ThreadPool>) -> Option<String> {
    let operator = plugin.operator().to_owned();
    let optimised = match threads {
        Some(threads) => threads.install(|| plugin.optimise()),
        None => plugin.optimise(),
    };
    match optimised {
        Ok(true) => Some(format!("operator `{operator}`: optimised code is ready")),
        // The plugin was replaced meanwhile.
        Ok(false) | Err(GuestError::CompilerStopped { .. }) => None,
        Err(error) => Some(format!(
            "operator `{operator}` runs without optimised code, which could not be compiled: {error}"
        )),
    }
}

/// A thread pool only for the compiler: threads shared with others would have their priority. `None` if the system
/// refuses.
fn threads_of_compiler() -> Option<rayon::ThreadPool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(cores.min(THREADS_MAX))
        .thread_name(|number| format!("optimiser-{number}"))
        .start_handler(|_| stand_back());
    threads.build().ok()
}

/// Lowers the priority of this thread.
fn stand_back() {
    #[expect(unsafe_code, reason = "the standard library knows no priorities")]
    // SAFETY: the call touches no memory. On Linux it sets the priority of the calling thread alone; if it is refused,
    // the priority does not change.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}
