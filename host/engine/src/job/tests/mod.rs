//! Scripts for a job: inputs and the time go in, and its outputs are compared as lines.

mod checkpoints;
mod operations;
mod recovery;

use super::*;
use crate::connector::{ConnectorError, DiscardSink};
use crate::guest::GuestError;
use crate::runtime::aligner::Mode;
use crate::runtime::plan::{Node, RegionIndex, Role, StateBackend, WorkerIndex};
use crate::runtime::report::{CheckpointFailure, SinkFailure, WriteOutcome};
use crate::runtime::snapshot::{RegionId, RegionSnapshot};
use crate::runtime::swap::PreparedSwap;
use floodmark_state::stream::MaxParallelism;

fn settings() -> CheckpointSettings {
    CheckpointSettings {
        timeout: Duration::from_secs(30),
        ..CheckpointSettings::every(Duration::from_secs(10))
    }
}

/// One node on two workers, so that there are two parts.
fn plan() -> Plan {
    Plan {
        job: "words".to_owned(),
        data_folder: String::new(),
        identity: String::new(),
        parallelism: 2,
        configured_parallelism: 2,
        max_parallelism: MaxParallelism::new(16).unwrap(),
        mode: Mode::ExactlyOnce,
        allow_dropped_state: false,
        backend: StateBackend::Memory,
        nodes: vec![Node::new("sink", Role::Sink(Arc::new(DiscardSink)))],
        edges: Vec::new(),
    }
}

/// A job and a driver that answers at once when workers end, and else when the script says so.
struct Script {
    job: Job,
    now: u64,
    seen: Vec<String>,
    running: Option<crate::runtime::swap::Running>,
}

impl Script {
    fn new(settings: JobSettings) -> Self {
        let mut script = Self {
            job: Job::new(Arc::new(plan()), settings, Vec::new()),
            now: 0,
            seen: Vec::new(),
            running: None,
        };
        script.resume(None, 1);
        script.seen.clear();
        script
    }

    fn step(&mut self, input: Input) {
        let now = Moment {
            clock: Duration::from_secs(self.now),
            wall_ms: self.now * 1000,
        };
        let mut outputs = Vec::new();
        self.job.step(now, input, &mut outputs);
        let mut next = Vec::new();
        for output in outputs {
            if let Output::StopWorkers = output {
                next.push(Input::Stopped(Ok(())));
            }
            if let Output::Answer(Reply::Described(_, running)) = output {
                self.running = Some(running);
                continue;
            }
            if let Some(line) = line(&output) {
                self.seen.push(format!("{} {line}", self.now));
            }
        }
        for input in next {
            self.step(input);
        }
    }

    /// The job finds a checkpoint, and its workers start.
    fn resume(&mut self, checkpoint: Option<u64>, next_id: u64) {
        self.recovered(checkpoint, next_id);
        self.step(Input::Started(Ok(vec![Vec::new()])));
    }

    fn recovered(&mut self, checkpoint: Option<u64>, next_id: u64) {
        self.step(Input::Recovered(Ok(Found {
            earlier: EarlierRuns {
                checkpoint: checkpoint.map(CheckpointId),
                ..EarlierRuns::default()
            },
            next_id: CheckpointId(next_id),
            damaged: Vec::new(),
            in_memory: false,
        })));
    }

    fn fail(&mut self) {
        self.step(Input::Report(Report::Failed(JobError::Record {
            operator: "count".to_owned(),
            position: "line 1".to_owned(),
            reason: "fails".to_owned(),
        })));
    }

    fn swap(&mut self, trial: Option<Duration>) {
        self.step(Input::Request(Request::Describe(Caller::new().0)));
        let running = self.running.take().expect("a job describes itself");
        let prepared = PreparedSwap::new(&running, Vec::new(), false).unwrap();
        self.step(Input::Request(Request::Swap(Box::new(SwapRequest {
            prepared,
            trial,
            stopwatch: Arc::new(|| Duration::ZERO),
            caller: Caller::new().0,
        }))));
    }

    fn run(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        self.now = words[0].parse().expect("a time");
        let number = |index: usize| words[index].parse().expect("a number");
        let id = |index: usize| CheckpointId(number(index));
        let part = |name: &str| RegionId {
            worker: WorkerIndex(u16::from(name == "b")),
            region: RegionIndex(0),
        };
        let written = |checkpoint, durable| {
            Input::Report(Report::Written(WriteOutcome {
                checkpoint,
                durable,
                not_visible: Vec::new(),
            }))
        };
        match words[1] {
            "tick" => self.step(Input::Tick),
            "ask" => self.step(Input::Request(Request::Checkpoint(Caller::new().0))),
            "dirty" => self.step(Input::Report(Report::StateDirty(part(words[2])))),
            "rescale" => self.step(Input::Request(Request::Rescale {
                parallelism: 1,
                caller: Caller::new().0,
            })),
            "rollback" => self.step(Input::Request(Request::Rollback(Box::new(
                RollbackRequest {
                    to: id(2),
                    operators: Vec::new(),
                    can_resume: Arc::new(|| Ok(())),
                    caller: Caller::new().0,
                },
            )))),
            "retry" => self.step(Input::Request(Request::Retry(Caller::new().0))),
            "swap" => self.swap(None),
            "withdraw" => self.step(Input::Request(Request::WithdrawSwap(Caller::new().0))),
            "trial" => self.swap(Some(Duration::from_secs(number(2)))),
            stop @ ("stop" | "drain") => self.step(Input::Request(Request::Stop {
                drain: stop == "drain",
                caller: Some(Caller::new().0),
            })),
            "fail" => self.fail(),
            "interrupted" => self.step(Input::Report(Report::Failed(interrupted()))),
            "unstarted" => self.step(Input::Started(Err(interrupted()))),
            "found" => self.recovered(Some(number(2)), number(2) + 1),
            "missing" => {
                let error = StoreError::NoSuchCheckpoint { id: id(2) };
                self.step(Input::Recovered(Err(error)));
            }
            "unreadable" => self.step(Input::Recovered(Err(full_disk()))),
            "deleted" => {
                let deleted = DeletedLater {
                    ids: Vec::new(),
                    next_id: id(2),
                };
                self.step(Input::Deleted(Ok(deleted)));
            }
            "started" => self.step(Input::Started(Ok(vec![Vec::new()]))),
            "unable" => self.step(Input::Started(Err(JobError::Defect { what: "a worker" }))),
            "closed" => self.step(Input::Closed(Ok(()))),
            "again" => {
                if !matches!(self.job.phase, Phase::Recovering(_)) {
                    self.fail();
                }
                self.resume(Some(number(2) - 1), number(2));
            }
            "ended" => self.step(Input::Report(Report::Ended(part(words[2])))),
            "ack" => {
                let snapshot = RegionSnapshot::new(id(2), part(words[3]));
                self.step(Input::Report(Report::Snapshot(snapshot)));
            }
            "written" => self.step(written(id(2), Ok(()))),
            "invisible" => self.step(Input::Report(Report::Written(WriteOutcome {
                checkpoint: id(2),
                durable: Ok(()),
                not_visible: vec![not_committed()],
            }))),
            "failed" => self.step(written(id(2), Err(full_disk().into()))),
            "unsynced" => self.step(written(id(2), Err(failed_sync()))),
            other => panic!("no event {other}"),
        }
    }
}

fn interrupted() -> JobError {
    JobError::Guest(GuestError::Interrupted {
        operator: "count".to_owned(),
        call: "process",
        after: Duration::from_secs(1),
    })
}

fn full_disk() -> StoreError {
    StoreError::Io {
        path: "checkpoints".into(),
        source: std::io::Error::other("the disk is full"),
    }
}

fn not_committed() -> SinkFailure {
    SinkFailure {
        sink: "sink".to_owned(),
        source: Arc::new(ConnectorError::ForeignPart {
            path: "part".into(),
        }),
    }
}

fn failed_sync() -> CheckpointFailure {
    CheckpointFailure::Sink(SinkFailure {
        sink: "sink".to_owned(),
        source: Arc::new(ConnectorError::Unsynced {
            path: "part".into(),
            source: std::io::Error::other("the disk is broken"),
        }),
    })
}

/// What a script shows of an output.
fn line(output: &Output) -> Option<String> {
    let refused = |what: &str, refusal: &Refusal| Some(format!("refuse {what}: {refusal}"));
    match output {
        Output::Tell(Control::EndInput) => Some("end input".to_owned()),
        Output::Tell(Control::Resume) => Some("resume".to_owned()),
        Output::Tell(_) => None,
        Output::Write(request) => Some(format!("write {}", request.checkpoint.id)),
        Output::Recover(Recover { at: None, .. }) => Some("recover".to_owned()),
        Output::Recover(Recover { at: Some(at), .. }) => Some(format!("recover {at}")),
        Output::DeleteAfter(at) => Some(format!("delete after {at}")),
        Output::Start(start) => Some(format!("start {}", start.plan.parallelism)),
        Output::CloseOutput(_) => Some("close".to_owned()),
        Output::RetainAll(retains) => Some(format!("retain all: {retains}")),
        Output::Notify(Notice::Begun {
            checkpoint,
            trigger,
            ..
        }) => Some(format!("begin {checkpoint} {trigger:?}")),
        Output::Notify(Notice::NotCompleted {
            checkpoint,
            reason: CheckpointFailure::Timeout,
            ..
        }) => Some(format!("abandon {checkpoint}")),
        Output::Notify(Notice::WentBack(went_back)) => {
            Some(format!("wait {} s", went_back.delay.as_secs()))
        }
        Output::Notify(Notice::GaveUp { .. }) => Some("give up".to_owned()),
        Output::Notify(Notice::TrialFailed { to, .. }) => Some(format!("undo swap {to}")),
        Output::Notify(Notice::TrialPassed { .. }) => Some("trial passed".to_owned()),
        Output::Answer(Reply::Swap(_, Err(refusal))) => refused("swap", refusal),
        Output::Answer(Reply::Withdrawn(_, is_withdrawn)) => {
            Some(format!("withdrawn: {is_withdrawn}"))
        }
        Output::Answer(Reply::Rescale(_, Err(refusal))) => refused("rescale", refusal),
        Output::Answer(Reply::Rollback(_, Err(refusal))) => refused("rollback", refusal),
        Output::Answer(Reply::Retry(_, Err(refusal))) => refused("retry", refusal),
        Output::ForgetFailures => Some("forget failures".to_owned()),
        Output::Answer(Reply::Rescale(_, Ok(done))) => {
            Some(format!("rescaled {}", done.checkpoint))
        }
        Output::Answer(Reply::Rollback(_, Ok(done))) => {
            Some(format!("rolled back {}", done.checkpoint))
        }
        Output::Finish(Ok(ending)) => Some(format!("finish {ending:?}")),
        Output::Finish(Err(JobError::LastCheckpoint { .. })) => {
            Some("finish WithoutLastCheckpoint".to_owned())
        }
        Output::Finish(Err(JobError::NotVisible { checkpoint, .. })) => {
            Some(format!("finish NotVisible {checkpoint}"))
        }
        Output::Finish(Err(JobError::TooManyFailures { failures, .. })) => {
            Some(format!("finish TooManyFailures {failures}"))
        }
        Output::Finish(Err(JobError::Record { .. })) => Some("finish Record".to_owned()),
        Output::Finish(Err(error)) => Some(format!("finish {error}")),
        _ => None,
    }
}

fn check(script: &str, expected: &str) {
    check_with(settings(), script, expected);
}

fn check_with(checkpoints: CheckpointSettings, script: &str, expected: &str) {
    let delay = Duration::ZERO;
    check_all(
        JobSettings {
            checkpoints,
            fresh: false,
            restart: Strategy::FixedDelay {
                attempts: None,
                delay,
            },
            seed: 1,
        },
        script,
        expected,
    );
}

/// Runs a script of `time event` lines for a job with parts a and b; compares `time output` where there are any. Of an
/// answer that begins with `refuse` only the part that is expected counts.
fn check_all(settings: JobSettings, script: &str, expected: &str) {
    let mut run = Script::new(settings);
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    for line in lines(script) {
        run.run(&line);
    }
    let expected = lines(expected);
    let is_same = |(seen, expected): (&String, &String)| match expected.contains("refuse") {
        true => seen.starts_with(expected),
        false => seen == expected,
    };
    let is_right = run.seen.len() == expected.len() && run.seen.iter().zip(&expected).all(is_same);
    assert!(is_right, "{:#?} instead of {expected:#?}", run.seen);
}
