//! `floodmark run --profile`: reads the option and writes the profile.
//!
//! The file is written when the job ends, also if it failed. The exit code is about the job, so a file that cannot be
//! written then is only a warning. A path that is not writable from the start is an error before the job begins.

use std::path::Path;
use std::process;

use super::CommandError;
use super::failure::EXIT_USAGE;
use super::terminal::Terminal;
use floodmark_engine::edge::whole_file::WholeFile;
use floodmark_engine::guest::{GuestEngine, Profiling};
use floodmark_engine::observe::{Observer, Profile};
use floodmark_engine::session::number::{count, things};

/// The kind of profile that `--profile` asks for.
pub(super) enum Profiled {
    /// No profile.
    Not,
    /// `perf` samples; the engine only names its functions.
    ByPerf,
    /// A file, written when the job ends.
    Into(WholeFile, ProfileFormat),
}

/// The format of the file, by its extension.
#[derive(Clone, Copy)]
pub(super) enum ProfileFormat {
    Svg,
    Folded,
    Json,
}

impl ProfileFormat {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "svg" => Some(Self::Svg),
            "folded" => Some(Self::Folded),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn written(self, profile: &Profile) -> String {
        match self {
            Self::Svg => profile.svg(),
            Self::Folded => profile.folded(),
            Self::Json => format!("{}\n", profile.json()),
        }
    }
}

impl Profiled {
    /// Reads `--profile`.
    pub(super) fn of(typed: Option<&Path>) -> Result<Self, CommandError> {
        let Some(path) = typed else {
            return Ok(Self::Not);
        };
        if path == Path::new("perf") {
            return Ok(Self::ByPerf);
        }
        let usage = |reason: String| {
            let path = path.display();
            CommandError::new(EXIT_USAGE, format!("`--profile {path}`: {reason}"))
        };
        let format = ProfileFormat::of(path).ok_or_else(|| {
            usage("the extension of the file selects its format: `.svg` is a flame graph, `.folded` collapsed stacks, `.json` for browsers and editors; the word `perf` instead of a file names functions for `perf`".to_owned())
        })?;
        let file = WholeFile::at(path);
        let file = file.map_err(|error| usage(format!("cannot write this file: {error}")))?;
        Ok(Self::Into(file, format))
    }

    /// The profiling mode of the engine for this profile.
    pub(super) fn profiling(&self) -> Profiling {
        match self {
            Self::Not => Profiling::Off,
            Self::ByPerf => Profiling::PerfMap,
            Self::Into(..) => Profiling::Samples,
        }
    }

    /// Prints how to use `perf` with the job that starts.
    pub(super) fn tell(&self, terminal: &Terminal) {
        if let Self::ByPerf = self {
            let process = process::id();
            terminal.say(&format!(
                "`/tmp/perf-{process}.map` has the names of plugin functions, and stays there: `perf record -g -p {process}` records this job, and `perf report` shows the result"
            ));
        }
    }

    /// Writes the file. The job has ended.
    pub(super) fn finish(self, observer: &Observer, engine: &GuestEngine, terminal: &Terminal) {
        let (Self::Into(file, format), Some(samples)) = (self, engine.samples()) else {
            return;
        };
        let profile = observer.profile(&samples.by_operator());
        let path = file.path().to_path_buf();
        if let Err(error) = file.write(format.written(&profile).as_bytes()) {
            terminal.say(&format!(
                "warning: cannot write the profile `{}`: {error}",
                path.display()
            ));
            return;
        }
        let left_out = match samples.left_out() {
            0 => String::new(),
            samples => format!(
                "; {} more were left out, because there were too many different stacks",
                count(samples)
            ),
        };
        terminal.say(&format!(
            "profile: `{}`, with {} of plugins{left_out}",
            path.display(),
            things(profile.samples(), "sample"),
        ));
    }
}
