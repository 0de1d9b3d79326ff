//! `floodmark state load`: creates a savepoint from rows.
//!
//! The pipeline names the operators and states; its plugins encode the values. Without a base, sources start at the
//! beginning: a job can start with state from elsewhere. With a base, everything that the rows do not mention is taken
//! from it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::decoder::encode;
use super::row::{JsonText, Row};
use super::unreadable as unreadable_state;
use crate::escape::one_line;
use crate::failure::EXIT_USAGE;
use crate::pipeline::read;
use crate::place::scratch_file;
use crate::print::print;
use crate::terminal::{Terminal, warn};
use crate::{CommandError, PipelineArguments};
use floodmark_checkpoint::store::{CheckpointStore, ReadOnlyStore, savepoint};
use floodmark_checkpoint::{
    Checkpoint, CheckpointReader, CheckpointStorage, CheckpointStorageSettings, NewCheckpoint,
    OperatorSnapshot, Scale, TaskSnapshot, Trigger,
};
use floodmark_engine::edge::clock::Clock;
use floodmark_engine::edge::regular_file;
use floodmark_engine::guest::{Instance, Plugin, StatePart};
use floodmark_engine::pipeline::suggestions;
use floodmark_engine::runtime::plan::{Operator, Plan, Role};
use floodmark_engine::runtime::saved::{Saved, SavedState, SavedStateBuilder};
use floodmark_engine::runtime::schema::States;
use floodmark_engine::session::assemble::{Assembled, assemble};
use floodmark_engine::session::limits::Ticking;
use floodmark_engine::session::number::things;
use floodmark_state::stream::CheckpointId;
use floodmark_state::{Chunk, ChunkId, ChunkIds, Sealed, StateId, StateKind, StateSchema};

/// Longest row, in bytes.
const ROW_BYTES_MAX: u64 = 1 << 30;

/// Creates a savepoint from the rows that `dump` prints: to start a job with state, or to repair one
///
/// Start the job from it with `floodmark run PIPELINE --from FILE`.
#[derive(Debug, Args)]
pub struct Load {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The file of rows, one per line; `-` for standard input
    #[arg(value_name = "ROWS")]
    rows: PathBuf,
    /// The savepoint file to create
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// A savepoint to change: positions, and all states without rows, are taken from it. A state with rows has only the
    /// keys of these rows
    #[arg(long, value_name = "SAVEPOINT")]
    base: Option<PathBuf>,
}

pub(super) fn load(arguments: &Load) -> Result<(), CommandError> {
    let terminal = Terminal::new();
    let pipeline = read(&arguments.pipeline)?;
    let guests = Ticking::for_job(&pipeline.spec, None, &terminal.saying())?;
    let assembled = assemble(pipeline, &guests.engine, "", &mut |line| terminal.say(line))?;
    let base = arguments
        .base
        .as_deref()
        .map(|path| savepoint::open(path, None))
        .transpose()?;
    let mut loading = StateLoader::new(&assembled)?;
    let (rows, expired) = read_rows(&arguments.rows, &mut loading)?;
    let keys = loading.keys();
    let (checkpoint, reader) = loading.finish(base, Clock::start().wall_ms())?;
    savepoint::create(
        &arguments.to,
        &*reader,
        &checkpoint,
        CheckpointStorageSettings::default(),
    )?;
    if expired > 0 {
        warn(&format!(
            "{} of entries that had expired {} left out",
            things(expired, "row"),
            if expired == 1 { "was" } else { "were" }
        ));
    }
    if arguments.base.is_none() {
        warn(
            "the savepoint holds state alone: a job that starts from it reads its sources from the beginning",
        );
    }
    print(&format!(
        "savepoint `{}`: {} of {}\n",
        one_line(&arguments.to.display().to_string()),
        things(keys, "key"),
        things(rows, "row")
    ))
}

/// Adds all rows that have not expired. Returns the number of rows, and of those that have expired.
fn read_rows(path: &Path, loading: &mut StateLoader<'_>) -> Result<(u64, u64), CommandError> {
    let input: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(regular_file::open(path).map_err(|error| unreadable(path, &error))?),
    };
    let mut input = BufReader::new(input);
    let mut line = String::new();
    let (mut rows, mut expired): (u64, u64) = (0, 0);
    loop {
        line.clear();
        let read = input.by_ref().take(ROW_BYTES_MAX).read_line(&mut line);
        if read.map_err(|error| unreadable(path, &error))? == 0 {
            break;
        }
        rows += 1;
        if line.trim().is_empty() {
            continue;
        }
        let at = |reason: String| {
            let place = match path.as_os_str() == "-" {
                true => format!("standard input, line {rows}"),
                false => format!("{}:{rows}", one_line(&path.display().to_string())),
            };
            let message = format!("{place}: {reason}; no savepoint was made");
            CommandError::new(EXIT_USAGE, message)
        };
        let row = Row::parse(&line).map_err(at)?;
        if row.expired {
            expired += 1;
            continue;
        }
        loading.add(row).map_err(at)?;
    }
    Ok((rows, expired))
}

fn unreadable(path: &Path, error: &std::io::Error) -> CommandError {
    let rows = match path.as_os_str() == "-" {
        true => "from standard input".to_owned(),
        false => format!("`{}`", one_line(&path.display().to_string())),
    };
    CommandError::new(EXIT_USAGE, format!("cannot read the rows {rows}: {error}"))
}

/// Collects rows for a checkpoint.
struct StateLoader<'a> {
    assembled: &'a Assembled,
    operators: BTreeMap<&'a str, LoadedOperator>,
}

/// The loaded keys of one operator.
struct LoadedOperator {
    plugin: Arc<Plugin>,
    config: Vec<(String, String)>,
    instance: Instance,
    schemas: Vec<StateSchema>,
    /// For each state, the value of each key.
    states: BTreeMap<StateId, BTreeMap<Vec<u8>, LoadedContent>>,
}

/// The content of a key, and when its values were written, if that is known.
type LoadedContent = (Saved, Vec<Option<u64>>);

impl<'a> StateLoader<'a> {
    fn new(assembled: &'a Assembled) -> Result<Self, CommandError> {
        let mut operators = BTreeMap::new();
        for node in &assembled.plan.nodes {
            let Role::Operator(Operator { plugin, config, .. }) = &node.role else {
                continue;
            };
            let schemas = States::of(node, None, true)?.schemas;
            if schemas.is_empty() {
                continue;
            }
            operators.insert(
                node.name.as_str(),
                LoadedOperator {
                    plugin: Arc::clone(plugin),
                    config: config.clone(),
                    instance: plugin.start(&node.name)?,
                    schemas,
                    states: BTreeMap::new(),
                },
            );
        }
        Ok(Self {
            assembled,
            operators,
        })
    }

    fn add(&mut self, row: Row) -> Result<(), String> {
        let names: Vec<&str> = self.operators.keys().copied().collect();
        let operator = self
            .operators
            .get_mut(row.operator.as_str())
            .ok_or_else(|| {
                format!(
                    "the pipeline has no operator `{}` that keeps state{}",
                    row.operator,
                    suggestions::hint(&row.operator, names)
                )
            })?;
        let schema = operator
            .schemas
            .iter()
            .find(|schema| schema.name == row.state);
        let schema = schema.ok_or_else(|| {
            let names = operator.schemas.iter().map(|schema| schema.name.as_str());
            format!(
                "operator `{}` has no state `{}`{}",
                row.operator,
                row.state,
                suggestions::hint(&row.state, names)
            )
        })?;
        let (id, kind) = (schema.id, schema.kind);
        if let Some(version) = row.version.filter(|version| *version != schema.version) {
            return Err(format!(
                "the row has values of version {version} of state `{}`, and the plugin of operator `{}` has version {}, which would misread them; dump the state after the job has migrated it with `floodmark state migrate`, or load the row with a plugin of version {version}",
                row.state, row.operator, schema.version
            ));
        }
        let states = &operator.plugin.description().states;
        let index = states.iter().position(|state| state.name == row.state);
        let index = index.and_then(|index| u16::try_from(index).ok());
        let index = index.ok_or("the plugin has no such state")?;
        let instance = (!row.raw).then_some(&mut operator.instance);
        let saved = saved((kind, index), &row, instance)?;
        let (values, times) = (saved.values().count(), row.written_ms.len());
        if times > 0 && times != values {
            return Err(format!(
                "`written-ms` has {times} times, and the row {values} values; leave it out to have them count as written now"
            ));
        }
        let key = row.key.into_bytes()?;
        let keys = operator.states.entry(id).or_default();
        match keys.insert(key, (saved, row.written_ms)) {
            None => Ok(()),
            Some(_) => Err("an earlier row has the same key".to_owned()),
        }
    }
}

type LoadedCheckpoint = (Checkpoint, Arc<dyn CheckpointReader>);

impl StateLoader<'_> {
    /// Number of keys with a value.
    fn keys(&self) -> u64 {
        let states = self
            .operators
            .values()
            .flat_map(|operator| operator.states.values());
        states.map(|keys| keys.len() as u64).sum()
    }

    /// A checkpoint of the loaded keys, and of the rest of the base.
    fn finish(
        mut self,
        base: Option<(ReadOnlyStore, Checkpoint)>,
        now_ms: u64,
    ) -> Result<LoadedCheckpoint, CommandError> {
        let plan = &self.assembled.plan;
        let base = base
            .map(|(store, checkpoint)| (Arc::new(store) as Arc<dyn CheckpointReader>, checkpoint));
        let mut checkpoint = empty(plan, base.as_ref().map(|(_, base)| base), now_ms);
        let (mut chunks, mut plugins) = (Vec::new(), Vec::new());
        let count = self.operators.len() as u64;
        for (number, (name, operator)) in self.operators.iter_mut().enumerate() {
            if let Some((reader, base)) = &base {
                operator.take_over(reader, base, name)?;
            }
            let ids = ChunkIds::new(ChunkId(1), number as u64, count);
            let sealed = operator.seal(plan, ids, now_ms)?;
            checkpoint.operators.push(OperatorSnapshot {
                name: (*name).to_owned(),
                plugin: operator.plugin.digest(),
                config: operator.config.clone(),
                replaces: None,
                states: operator.schemas.clone(),
                tasks: vec![TaskSnapshot {
                    key_groups: plan.max_parallelism.all_groups(),
                    chunks: sealed.chunks,
                    collided: sealed.collided,
                }],
            });
            chunks.extend(sealed.fresh);
            plugins.push((
                operator.plugin.digest(),
                Arc::clone(operator.plugin.component()),
            ));
        }
        plugins.sort_by_key(|(digest, _)| *digest);
        plugins.dedup_by_key(|(digest, _)| *digest);
        let mut store = CheckpointStore::in_memory(CheckpointStorageSettings::default())?;
        let chunks: &[Arc<Chunk>] = &chunks;
        store.write(&NewCheckpoint {
            checkpoint: &checkpoint,
            chunks,
            plugins: &plugins,
            retained: std::num::NonZeroU32::MIN,
        })?;
        Ok((checkpoint, store.reader()))
    }
}

impl LoadedOperator {
    /// Copies the states of the base that have no rows.
    fn take_over(
        &mut self,
        reader: &Arc<dyn CheckpointReader>,
        base: &Checkpoint,
        name: &str,
    ) -> Result<(), CommandError> {
        let Some(saved) = base.operators.iter().find(|operator| operator.name == name) else {
            return Ok(());
        };
        let mut state =
            SavedState::open(reader, base, saved, scratch_file()?).map_err(unreadable_state)?;
        for schema in &self.schemas {
            if self.states.contains_key(&schema.id) {
                continue;
            }
            let same = saved.states.iter().find(|found| {
                (&found.name, found.kind, found.version)
                    == (&schema.name, schema.kind, schema.version)
            });
            let Some(same) = same else {
                continue;
            };
            let keys = self.states.entry(schema.id).or_default();
            for key in state.keys(same.id).map_err(unreadable_state)? {
                if let Some(value) = state.read(same.id, &key).map_err(unreadable_state)? {
                    let written = state.written(same.id, &key).map_err(unreadable_state)?;
                    keys.insert(key, (value, written));
                }
            }
        }
        Ok(())
    }

    fn seal(&self, plan: &Plan, ids: ChunkIds, now_ms: u64) -> Result<Sealed, CommandError> {
        let mut builder = SavedStateBuilder::new(plan.max_parallelism, &self.schemas, ids, now_ms);
        for (state, keys) in &self.states {
            for (key, (saved, written)) in keys {
                let put = builder.put(*state, key, saved, written);
                put.map_err(unreadable_state)?;
            }
        }
        builder.finish().map_err(unreadable_state)
    }
}

/// A checkpoint without state; positions and counts are those of the base, if there is one.
fn empty(plan: &Plan, base: Option<&Checkpoint>, now_ms: u64) -> Checkpoint {
    let id = base.map_or(CheckpointId(1), |base| base.id);
    Checkpoint {
        id,
        created_ms: now_ms,
        trigger: Trigger::Asked,
        job: plan.job.clone(),
        data_folder: base.map_or(String::new(), |base| base.data_folder.clone()),
        identity: base.map_or(plan.identity.clone(), |base| base.identity.clone()),
        scale: Scale::configured(1, plan.max_parallelism),
        records_in: base.map_or(0, |base| base.records_in),
        records_out: base.map_or(0, |base| base.records_out),
        sources: base.map_or(Vec::new(), |base| base.sources.clone()),
        operators: Vec::new(),
        sinks: base.map_or(Vec::new(), |base| base.sinks.clone()),
    }
}

/// The value of a row, encoded.
fn saved(
    (kind, state): (StateKind, u16),
    row: &Row,
    mut instance: Option<&mut Instance>,
) -> Result<Saved, String> {
    let mut bytes = |part, texts: &[JsonText]| {
        let texts: Vec<_> = texts.iter().map(|text| text.get()).collect();
        encode(instance.as_deref_mut(), state, part, &texts)
    };
    match (kind, &row.value, &row.list, &row.map) {
        (StateKind::Value, Some(value), None, None) => {
            let mut values = bytes(StatePart::Value, std::slice::from_ref(value))?;
            Ok(Saved::Value(values.remove(0)))
        }
        (StateKind::List, None, Some(values), None) => {
            Ok(Saved::List(bytes(StatePart::Value, values)?))
        }
        (StateKind::Map, None, None, Some(entries)) => {
            let (keys, texts): (Vec<_>, Vec<_>) = entries.iter().cloned().unzip();
            let keys = bytes(StatePart::SubKey, &keys)?;
            let values = bytes(StatePart::Value, &texts)?;
            let entries: BTreeMap<_, _> = keys.into_iter().zip(values).collect();
            if entries.len() < texts.len() {
                return Err("a sub-key appears twice in the map".to_owned());
            }
            Ok(Saved::Map(entries.into_iter().collect()))
        }
        _ => Err(format!(
            "state `{}` is {}, so the row needs the field `{}` and none of the others",
            row.state,
            match kind {
                StateKind::Value => "a value",
                StateKind::List => "a list",
                StateKind::Map => "a map",
            },
            match kind {
                StateKind::Value => "value",
                StateKind::List => "list",
                StateKind::Map => "map",
            }
        )),
    }
}
