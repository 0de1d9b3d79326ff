//! Embeds the engine in a program that has a source and a sink of its own: starts a job, replaces its plugin while it runs,
//! dies without warning, and resumes as if nothing had happened.
//!
//! ```sh
//! cargo run --example embed -- word_count.wasm other.wasm data    # runs, swaps, and kills itself
//! cargo run --example embed -- word_count.wasm other.wasm data    # resumes; run it until it says `finished`
//! ```
//!
//! Both components count records by key; `plugins/word-count` is one. The counts are in `data/counts`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program says what it does, and waits a moment before it dies"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use floodmark_engine::connector::{
    Batch, CheckpointId, CommitPermit, ConnectorError, Endless, Guarantee, NodeContext, ReadLimits,
    ReadOutcome, Recovered, RestoredSink, Sink, SinkCommitter, SinkFormat, SinkSettings,
    SinkWriter, Source, SourceProgress, SourceReader, SourceSettings, Split, Staged, TaskIndex,
    UnwritableRecord,
};
use floodmark_engine::{DataDir, Engine, Pipeline, StartFrom, SwapOptions};
use serde::Deserialize;

/// A batch every millisecond, so that the job runs for a moment.
const PAUSE: Duration = Duration::from_millis(1);
const BATCH: u64 = 50;

/// `connector = "dice"`: throws a die so many times, always with the same results.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Dice {
    throws: u64,
}

impl SourceSettings for Dice {
    fn identity(&self, _: &Path) -> Vec<(String, String)> {
        // More throws continue the same sequence, so nothing here gives positions another meaning.
        Vec::new()
    }

    fn endless(&self) -> Option<Endless> {
        None
    }

    fn reads(&self) -> Option<&Path> {
        None
    }

    fn open(&self, _: &NodeContext<'_>) -> Result<Arc<dyn Source>, ConnectorError> {
        Ok(Arc::new(*self))
    }
}

impl Source for Dice {
    fn splits(
        &self,
        _: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError> {
        Ok(restored.unwrap_or_else(|| vec![Split(0_u64.to_le_bytes().to_vec())]))
    }

    fn can_resume(&self, _: &[Split]) -> Result<(), ConnectorError> {
        // The same dice can be thrown again from anywhere.
        Ok(())
    }

    fn is_beside_input(&self) -> bool {
        false
    }

    fn reader(&self, splits: Vec<Split>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let position = |split: Split| split.0.try_into().map(u64::from_le_bytes).ok();
        Ok(Box::new(Thrower {
            throws: self.throws,
            // None for a task without a split: there is one split, and there may be more tasks.
            thrown: splits.into_iter().find_map(position),
        }))
    }
}

struct Thrower {
    throws: u64,
    thrown: Option<u64>,
}

impl SourceReader for Thrower {
    fn read(
        &mut self,
        now: Duration,
        _: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError> {
        let Some(thrown) = self.thrown.as_mut().filter(|thrown| **thrown < self.throws) else {
            return Ok(ReadOutcome::Finished);
        };
        for _ in 0..BATCH.min(self.throws - *thrown) {
            let side = thrown.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            let side = [b"123456"[(side % 6) as usize]];
            batch.push(&side, b"", *thrown as i64);
            *thrown += 1;
        }
        Ok(ReadOutcome::Idle { until: now + PAUSE })
    }

    fn splits(&self) -> Vec<Split> {
        let split = |thrown: u64| Split(thrown.to_le_bytes().to_vec());
        self.thrown.map(split).into_iter().collect()
    }

    fn progress(&self) -> SourceProgress {
        SourceProgress::default()
    }
}

/// `connector = "counts"`: a file for each checkpoint and task, which becomes visible by getting its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Counts {
    path: PathBuf,
}

impl SinkSettings for Counts {
    fn identity(&self, _: &Path) -> Vec<(String, String)> {
        vec![("path".to_owned(), self.path.display().to_string())]
    }

    fn writes(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn format(&self) -> Option<SinkFormat> {
        None
    }

    fn open(&self, _: &NodeContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError> {
        Ok(Arc::new(self.clone()))
    }
}

impl Sink for Counts {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, task: TaskIndex) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(CountsWriter {
            folder: self.path.clone(),
            task,
            lines: Vec::new(),
        }))
    }

    fn committer(&self) -> Result<Box<dyn SinkCommitter>, ConnectorError> {
        let folder = self.path.clone();
        let made = fs::create_dir_all(&folder);
        made.map_err(|error| refused("make", &folder, error))?;
        Ok(Box::new(CountsCommitter { folder }))
    }
}

struct CountsWriter {
    folder: PathBuf,
    task: TaskIndex,
    lines: Vec<u8>,
}

impl SinkWriter for CountsWriter {
    fn write(&mut self, batch: &Batch) -> Result<Vec<UnwritableRecord>, ConnectorError> {
        for (key, value, _) in batch.iter() {
            self.lines.extend([key, b" ", value, b"\n"].concat());
        }
        Ok(Vec::new())
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Option<Staged>, ConnectorError> {
        if self.lines.is_empty() {
            return Ok(None);
        }
        let name = format!("{:08}-{:03}", checkpoint.0, self.task.0);
        let staged = self.folder.join(format!("{name}.staged"));
        let written = fs::write(&staged, std::mem::take(&mut self.lines));
        written.map_err(|error| refused("write", &staged, error))?;
        Ok(Some(Staged(name.into_bytes())))
    }
}

struct CountsCommitter {
    folder: PathBuf,
}

impl CountsCommitter {
    fn files(&self) -> Result<Vec<PathBuf>, ConnectorError> {
        let listed = fs::read_dir(&self.folder).and_then(|files| {
            let paths = files.map(|file| Ok(file?.path()));
            paths.collect()
        });
        listed.map_err(|error| refused("list", &self.folder, error))
    }
}

impl SinkCommitter for CountsCommitter {
    fn prepare(&mut self, staged: &[Staged]) -> Result<Vec<u8>, ConnectorError> {
        for Staged(name) in staged {
            let name = String::from_utf8_lossy(name);
            let path = self.folder.join(format!("{name}.staged"));
            let synced = fs::File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| refused("sync", &path, error))?;
        }
        Ok(Vec::new())
    }

    fn commit(&mut self, _: &CommitPermit, staged: &[Staged]) -> Result<(), ConnectorError> {
        for Staged(name) in staged {
            let path = self.folder.join(String::from_utf8_lossy(name).as_ref());
            let hidden = path.with_extension("staged");
            // It may have been committed before.
            if hidden.exists() {
                let renamed = fs::rename(&hidden, &path);
                renamed.map_err(|error| refused("rename", &hidden, error))?;
            }
        }
        Ok(())
    }

    fn recover(&mut self, restored: Option<RestoredSink<'_>>) -> Result<Recovered, ConnectorError> {
        if let Some(restored) = restored {
            self.commit(restored.permit, restored.staged)?;
        }
        for file in self.files()? {
            if file.extension().is_some() {
                fs::remove_file(&file).map_err(|error| refused("remove", &file, error))?;
            }
        }
        Ok(Recovered::default())
    }

    fn clear(&mut self) -> Result<Recovered, ConnectorError> {
        for file in self.files()? {
            fs::remove_file(&file).map_err(|error| refused("remove", &file, error))?;
        }
        Ok(Recovered::default())
    }

    fn summary(&self) -> Option<String> {
        None
    }
}

fn refused(action: &'static str, path: &Path, source: std::io::Error) -> ConnectorError {
    ConnectorError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, other, data] = &arguments[..] else {
        return Err("usage: embed COMPONENT OTHER-COMPONENT DATA-FOLDER".into());
    };
    fs::create_dir_all(data)?;
    let data = fs::canonicalize(data)?;
    let (component, counts) = (fs::canonicalize(component)?, data.join("counts"));
    let file = data.join("pipeline.toml");
    let text = format!(
        r#"
        [job]
        name = "dice"
        parallelism = 2
        [checkpoint]
        interval = "20ms"
        [source.dice]
        connector = "dice"
        throws = 60000
        [operator.count]
        plugin = {component:?}
        from = "dice"
        [sink.counts]
        connector = "counts"
        from = "count"
        path = {counts:?}
        "#
    );
    fs::write(&file, text)?;
    let engine = Engine::builder()
        .source::<Dice>("dice")
        .sink::<Counts>("counts")
        .say(|line| println!("{line}"))
        .build();
    let is_first = !data.join("job").exists();
    let folder = DataDir::open(data.join("job"))?;
    let job = engine.start(Pipeline::from_file(&file)?, folder, StartFrom::Newest)?;
    let checkpoint = job.checkpoint()?;
    println!("checkpoint {checkpoint}");
    if is_first {
        let trial = SwapOptions::trial(Duration::from_secs(30));
        let swapped = job.swap("count", fs::read(other)?, trial)?;
        println!(
            "replaced the plugin; the job paused for {:?}",
            swapped.pause
        );
        std::thread::sleep(Duration::from_millis(50));
        println!("dying");
        std::process::abort();
    }
    let summary = job.wait()?;
    println!("finished: {} records", summary.records_in);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for part in fs::read_dir(&counts)? {
        for line in fs::read_to_string(part?.path())?.lines() {
            let (side, count) = line.split_once(' ').ok_or("a line has two words")?;
            let count: u64 = count.parse()?;
            let newest = last.entry(side.to_owned()).or_default();
            *newest = count.max(*newest);
        }
    }
    println!("{last:?}: {} throws", last.values().sum::<u64>());
    Ok(())
}
