//! `floodmark crash-test`: kills the user's pipeline at every step of its checkpoints, commits and recoveries, and
//! checks that its output is exactly once.
//!
//! This file refuses pipelines that cannot be tested, and redirects all writes to a temporary folder.
//! `edge::crash_test` does the runs. The user's outputs, checkpoints and data folder are not touched, and hooks are not
//! called.

mod fit;
mod runs;
mod shown;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use self::fit::{check, instead, quoted};
use self::shown::{is_wrong, shown, undecidable};
use super::failure::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE};
use super::pipeline::read;
use super::print::print;
use super::terminal::Terminal;
use super::{CommandError, PipelineArguments};
use crate::crash_test::runs::{PointTested, ReferenceRuns, Subject, Undecided, Verdict};
use floodmark_checkpoint::crash::Point;
use floodmark_engine::edge::signals;
use floodmark_engine::pipeline::settings::StorageSetting;
use floodmark_engine::session::assemble::{LoadedPipeline, assemble};
use floodmark_engine::session::limits::Ticking;
use floodmark_engine::session::number::{span, things};

/// Kills a pipeline at every step of a checkpoint, and checks that its output is exactly once
///
/// First the pipeline runs twice without a crash, which gives the expected lines. Then, for each point of a checkpoint,
/// commit or recovery, it runs in a process of its own that dies at this point as with `kill -9`, restarts, dies again,
/// and finally runs to its end. Each sink must then have the same lines, each as often as expected.
///
/// Everything is written to a temporary folder: outputs, checkpoints and the data folder of the job are not touched,
/// and `on-checkpoint` is not called. Input is read from where it is, and must have an end. If anything differs, the
/// exit code is 1 and the folder is kept.
#[derive(Debug, Args)]
pub struct CrashTestArguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Number of kills at each point
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: u32,
    /// Swaps the plugin of an operator in each run that is killed. The expected output comes from the old plugin, so
    /// both must give the same output
    #[arg(long, value_name = "OPERATOR=NEW.wasm")]
    swap: Option<String>,
    /// Changes the parallelism in each run that is killed
    #[arg(long, value_name = "N", conflicts_with = "swap", value_parser = super::typed::tasks)]
    rescale: Option<u16>,
    /// Tests only this point; may be given several times. `--point list` prints all points
    #[arg(long = "point", value_name = "NAME")]
    points: Vec<String>,
}

/// An operation on the running job: the command, and its arguments after the data folder.
type JobCommand = (String, Vec<String>);

fn asked(arguments: &CrashTestArguments) -> Result<Option<JobCommand>, CommandError> {
    if let Some(tasks) = arguments.rescale {
        return Ok(Some(("rescale".to_owned(), vec![tasks.to_string()])));
    }
    let Some(text) = &arguments.swap else {
        return Ok(None);
    };
    let refused =
        |reason: String| CommandError::new(EXIT_USAGE, format!("`--swap {text}`: {reason}"));
    let (operator, plugin) = text
        .split_once('=')
        .ok_or_else(|| refused("it has no `=`; write `--swap OPERATOR=NEW.wasm`".to_owned()))?;
    let plugin = Path::new(plugin).canonicalize();
    let plugin = plugin.map_err(|error| refused(format!("cannot find the plugin: {error}")))?;
    let rest = vec![operator.to_owned(), plugin.display().to_string()];
    Ok(Some(("swap".to_owned(), rest)))
}

/// Runs the command.
///
/// # Errors
/// When the pipeline cannot be tested, or its output is not exactly once.
pub fn crash_test(arguments: &CrashTestArguments) -> Result<(), CommandError> {
    if arguments.points.iter().any(|name| name == "list") {
        return print(&listed());
    }
    let points = named(&arguments.points)?;
    let terminal = Terminal::new();
    let pipeline = read(&arguments.pipeline)?;
    check(&pipeline.spec)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    signals::note_stop(&interrupted).map_err(|error| failed(&error))?;
    let folder = Folder::new()?;
    let test = Test::prepare(arguments, pipeline, &folder, interrupted, &terminal)?;
    let done = test.run(&points, arguments.kills, &terminal);
    terminal.clear();
    let Some(tested) = done? else {
        return Err(CommandError::new(
            EXIT_INTERRUPTED,
            "interrupted; running processes were ended, and nothing is left behind",
        ));
    };
    print(&shown(&tested))?;
    match tested.iter().filter(|tested| is_wrong(tested)).count() {
        0 => Ok(()),
        wrong => Err(CommandError::new(
            EXIT_FAILED,
            format!(
                "the output is not exactly once at {}; all runs are kept in `{}`",
                things(wrong as u64, "point"),
                folder.keep().display()
            ),
        )),
    }
}

fn failed(error: &std::io::Error) -> CommandError {
    CommandError::new(EXIT_FAILED, format!("the test cannot continue: {error}"))
}

fn named(names: &[String]) -> Result<Vec<Point>, CommandError> {
    let points = names.iter().map(|name| name.parse());
    let points: Result<_, String> = points.collect();
    points.map_err(|reason| CommandError::new(EXIT_USAGE, reason))
}

fn listed() -> String {
    let line = |point: &Point| format!("{:<20}  {}\n", point.name(), point.meaning());
    Point::ALL.iter().map(line).collect()
}

/// A temporary folder, removed on drop unless it is kept.
struct Folder(Option<PathBuf>);

impl Folder {
    fn new() -> Result<Self, CommandError> {
        let name = format!("floodmark-crash-test-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        let made = made.and_then(|()| path.canonicalize());
        let path = made.map_err(|error| {
            let message = format!("cannot make the folder `{}`: {error}", path.display());
            CommandError::new(EXIT_FAILED, message)
        })?;
        Ok(Self(Some(path)))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().expect("a folder is kept at the end")
    }

    fn keep(mut self) -> PathBuf {
        self.0.take().expect("a folder is kept once")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // // A leftover is harmless: it is in the system's temporary folder.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// A pipeline, prepared for the test.
struct Test<'a> {
    subject: Subject,
    folder: &'a Path,
    /// Whether the order of lines is guaranteed: only with one task and one source.
    has_order: bool,
}

impl<'a> Test<'a> {
    /// Builds the plugins once, and redirects all outputs to the folder.
    fn prepare(
        arguments: &CrashTestArguments,
        pipeline: LoadedPipeline,
        folder: &'a Folder,
        interrupted: Arc<AtomicBool>,
        terminal: &Terminal,
    ) -> Result<Self, CommandError> {
        let mut sets = arguments.pipeline.overrides();
        sets.extend(instead(&pipeline.spec, terminal));
        let stores_objects = match &pipeline.spec.checkpoint.storage {
            StorageSetting::Folder(_) | StorageSetting::S3(_) => true,
            StorageSetting::Redb | StorageSetting::Memory => false,
        };
        let guests = Ticking::for_job(&pipeline.spec, None, &Terminal::new().saying())?;
        let assembled = assemble(pipeline, &guests.engine, "", &mut |line| terminal.say(line))?;
        for (operator, component) in &assembled.components {
            let path = folder.path().join(format!("{operator}.wasm"));
            std::fs::copy(component, &path).map_err(|error| failed(&error))?;
            sets.push(format!("operator.{operator}.plugin={}", quoted(&path)));
        }
        let spec = &assembled.graph.spec;
        let mut command = vec![
            "run".to_owned(),
            arguments.pipeline.pipeline.display().to_string(),
        ];
        command.extend(sets.into_iter().flat_map(|set| ["--set".to_owned(), set]));
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        Ok(Self {
            subject: Subject {
                program,
                arguments: command,
                sinks: spec.sinks.keys().cloned().collect(),
                stores_objects,
                asked: asked(arguments)?,
                interrupted,
            },
            folder: folder.path(),
            has_order: spec.parallelism == 1 && spec.sources.len() == 1,
        })
    }

    /// Tests the named points, or all that the pipeline can reach; `None` if interrupted.
    fn run(
        &self,
        points: &[Point],
        kills: u32,
        terminal: &Terminal,
    ) -> Result<Option<Vec<PointTested>>, CommandError> {
        terminal.say("running the pipeline twice, undisturbed");
        let expected = self.subject.expect(self.folder);
        let expected = match expected.map_err(|error| failed(&error))? {
            Ok(expected) => expected,
            Err(Undecided::Interrupted) => return Ok(None),
            Err(undecided) => return Err(undecidable(undecided)),
        };
        let with_order = self.has_order && expected.is_in_order;
        terminal.say(&expectation(&expected, with_order));
        let all: Vec<_> = Point::ALL
            .iter()
            .copied()
            .filter(|point| self.may_reach(*point))
            .collect();
        let points = if points.is_empty() { &all } else { points };
        let mut tested = Vec::new();
        for (&point, number) in points.iter().zip(1..) {
            terminal.say(&format!(
                "point {number} of {}: {}",
                points.len(),
                point.name()
            ));
            let result = self
                .subject
                .test(self.folder, &expected, point, kills, with_order)
                .map_err(|error| failed(&error))?;
            if result.verdict == Verdict::Interrupted {
                return Ok(None);
            }
            if !is_wrong(&result) {
                // Only folders of failed points are kept, to save space.
                let _ = std::fs::remove_dir_all(self.folder.join(point.name()));
            }
            tested.push(result);
        }
        Ok(Some(tested))
    }

    /// Whether a run can reach a point.
    fn may_reach(&self, point: Point) -> bool {
        match point {
            Point::StoreFilled | Point::StoreCommitted => !self.subject.stores_objects,
            Point::ObjectsStored | Point::ObjectsRecorded => self.subject.stores_objects,
            Point::BarrierReached
            | Point::BarrierPassed
            | Point::WriteBegun
            | Point::SinkPrepared
            | Point::StoreBegun
            | Point::CheckpointDurable
            | Point::SinkCommitted
            | Point::SinkRecovered => true,
            // The remaining points need an operation that this test does not trigger: no swap is on trial, and no run
            // starts from a savepoint.
            Point::SwapReverting | Point::SwapReverted => false,
            other => {
                let asked = self.subject.asked.as_ref();
                asked.is_some_and(|(verb, _)| other.name().split('-').next() == Some(verb))
            }
        }
    }
}

fn expectation(expected: &ReferenceRuns, with_order: bool) -> String {
    let order = match with_order {
        true => ", in the same order",
        false => "",
    };
    format!(
        "both wrote the same {}{order}, with {}, in {}",
        things(expected.output.lines(), "line"),
        things(expected.checkpoints, "checkpoint"),
        span(expected.took)
    )
}
