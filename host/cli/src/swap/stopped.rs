//! Swaps plugins of a stopped job: writes a copy of the newest checkpoint that names the new plugins. The next run
//! resumes from it, as long as the pipeline file does not change.
//!
//! State, positions and output are those of the copied checkpoint, which is kept. It also says which plugins the
//! pipeline file names.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{ReplacementArgument, SwapArguments, refuse, usage};
use crate::CommandError;
use crate::failure::{EXIT_INTERRUPTED, EXIT_PLUGIN};
use crate::job::JobLocation;
use crate::terminal::Terminal;
use floodmark_checkpoint::{
    Checkpoint, CheckpointReader, CheckpointStorage, Depth, NewCheckpoint, OperatorSnapshot,
    PluginChoice, PluginDigest, Trigger,
};
use floodmark_engine::edge::clock::Clock;
use floodmark_engine::edge::data_dir::DataDir;
use floodmark_engine::edge::later_output::LaterOutput;
use floodmark_engine::edge::rolled_back::RolledBackNote;
use floodmark_engine::edge::scratch;
use floodmark_engine::edge::swap::{
    CompletedSwap, Findings, OperatorComparison, Rehearsal, Rehearsed, SwapRefusal, compare,
    configured, count_held_back, refuse_states, refuse_unknown, replaced_by,
};
use floodmark_engine::guest::{Cancellation, GuestEngine, Plugin};
use floodmark_engine::pipeline::settings::{CheckpointSection, StorageSetting};
use floodmark_engine::pipeline::suggestions;
use floodmark_engine::runtime::plan::{Operator, Scratch};
use floodmark_engine::runtime::schema::States;
use floodmark_engine::runtime::swap::fits;
use floodmark_engine::session::limits::Ticking;
use floodmark_engine::session::number::things;
use floodmark_engine::session::storage;
use floodmark_state::stream::CheckpointId;

/// Writes the checkpoint.
///
/// # Errors
/// When the plugins do not fit, or the checkpoints cannot be used: nothing is written then.
pub(super) fn swap(
    arguments: &SwapArguments,
    place: &JobLocation,
    replacements: &[ReplacementArgument],
    cancellation: &Cancellation,
) -> Result<Findings, CommandError> {
    if arguments.shadow > 0 || arguments.trial.is_some() {
        return Err(refuse(
            "`--shadow` and `--trial` need a running job, and this one is not running; `floodmark replay --plugin` shows what the new plugin would do",
        ));
    }
    let held =
        DataDir::open_existing(&place.data_dir).map_err(|error| refuse(error.to_string()))?;
    let settings = CheckpointSection {
        storage: place.storage.clone(),
        ..CheckpointSection::default()
    };
    let mut storage = storage::open_existing(&settings, &held)?;
    let recovery = storage.recover(Depth::Quick, None)?;
    let Some(restored) = recovery.restored else {
        return Err(refuse(
            "the job has no checkpoint yet, so there is nothing that a new plugin could take over; name it in the pipeline file",
        ));
    };
    let before = restored.checkpoint;
    check_output(place, &held, before.id, recovery.next_id)?;
    let terminal = Terminal::new();
    let guests = Ticking::for_tools()?.keeping(Some(held.compiled()), &terminal.saying());
    let clock = Clock::start();
    let stopped = StoppedSwap {
        arguments,
        engine: guests.engine.cancelled_by(cancellation),
        clock,
        reader: storage.reader(),
        before: &before,
        terminal: &terminal,
        cancellation,
    };
    let mut checkpoint = Checkpoint {
        id: recovery.next_id,
        created_ms: clock.wall_ms(),
        trigger: Trigger::Swap,
        ..before.clone()
    };
    let mut findings = Findings::default();
    let mut plugins = components(&*stopped.reader, &before)?;
    for replacement in replacements {
        let found = stopped.replace(replacement, &mut checkpoint, &mut plugins)?;
        findings.operators.push(found);
    }
    let is_same = findings.operators.iter().all(|found| found.is_same);
    if is_same || arguments.dry_run {
        return Ok(findings);
    }
    if cancellation.is_cancelled() {
        return Err(refused(SwapRefusal::Cancelled));
    }
    write(&mut *storage, &checkpoint, plugins)?;
    findings.swapped = Some(CompletedSwap {
        checkpoint: checkpoint.id.0,
        before: Some(before.id.0),
        ..CompletedSwap::default()
    });
    Ok(findings)
}

/// What is needed to replace one operator after the other.
struct StoppedSwap<'a> {
    arguments: &'a SwapArguments,
    engine: GuestEngine,
    clock: Clock,
    reader: Arc<dyn CheckpointReader>,
    /// The checkpoint that is copied.
    before: &'a Checkpoint,
    terminal: &'a Terminal,
    cancellation: &'a Cancellation,
}

impl StoppedSwap<'_> {
    /// Checks a plugin, and names it in the new checkpoint.
    fn replace(
        &self,
        replacement: &ReplacementArgument,
        checkpoint: &mut Checkpoint,
        plugins: &mut Components,
    ) -> Result<OperatorComparison, CommandError> {
        let name = &replacement.operator;
        let mut saved = checkpoint.operators.iter_mut();
        let Some(saved) = saved.find(|saved| saved.name == *name) else {
            let id = self.before.id;
            let names = self.before.operators.iter();
            let names = names.map(|operator| operator.name.as_str());
            let hint = suggestions::hint(name, names);
            return Err(usage(format!(
                "checkpoint {id} has no operator `{name}`{hint}"
            )));
        };
        let begun = self.clock.now();
        let plugin = load(&self.engine, replacement, saved, plugins);
        let plugin = plugin.map_err(|error| self.unless_cancelled(error))?;
        let compiled = self.clock.now().saturating_sub(begun);
        let fit = check_ports(&self.engine, saved, &plugin, plugins);
        fit.map_err(|error| self.unless_cancelled(error))?;
        let allow_dropped = self.arguments.allow_dropped_state;
        let newest = (&self.reader, self.before);
        let (mut found, operator) = change(replacement, newest, saved, &plugin, allow_dropped)?;
        found.compiled_us = u64::try_from(compiled.as_micros()).unwrap_or(u64::MAX);
        plugins.push((plugin.digest(), Arc::clone(plugin.component())));
        if !found.is_same {
            found.rehearsed = Some(self.rehearse(name, &operator)?);
        }
        Ok(found)
    }

    /// The error, or that the swap was cancelled, which also ends the compiler.
    fn unless_cancelled(&self, error: CommandError) -> CommandError {
        match self.cancellation.is_cancelled() {
            true => refused(SwapRefusal::Cancelled),
            false => error,
        }
    }

    /// Tries the new plugin on the saved state.
    fn rehearse(&self, name: &str, operator: &Operator) -> Result<Rehearsed, CommandError> {
        let scratch = scratch_files();
        let rehearsal = Rehearsal {
            reader: &self.reader,
            checkpoint: self.before,
            name,
            operator,
            extent: self.arguments.rehearse.into(),
            scratch: &scratch,
        };
        let begun = self.clock.now();
        let tried = rehearsal.run(&mut |values| {
            let values = things(values, "value");
            let text = format!("rehearsal of `{name}`: {values} so far");
            self.terminal.show(None, &text);
            match self.cancellation.is_cancelled() {
                true => Err(SwapRefusal::Cancelled),
                false => Ok(()),
            }
        });
        self.terminal.clear();
        let mut rehearsed = tried.map_err(refused)?;
        let took = self.clock.now().saturating_sub(begun);
        rehearsed.took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Ok(rehearsed)
    }
}

/// The failure of the command for a refusal.
fn refused(refusal: SwapRefusal) -> CommandError {
    let message = refusal.to_string();
    match refusal {
        refusal if refusal.is_of_plugin() => CommandError::new(EXIT_PLUGIN, message),
        refusal if refusal.is_of_request() => usage(message),
        refusal if refusal.is_cancelled() => CommandError::new(EXIT_INTERRUPTED, message),
        _ => refuse(message),
    }
}

/// Refuses a job with output that no checkpoint names: the new one would take it for its own. A rollback that is complete has
/// taken it back.
fn check_output(
    place: &JobLocation,
    held: &DataDir,
    newest: CheckpointId,
    next: CheckpointId,
) -> Result<(), CommandError> {
    // Objects use up ids for other reasons, too.
    let is_file = place.storage == StorageSetting::Redb;
    let note = RolledBackNote::read(held.path());
    let note = note.map_err(|error| refuse(error.to_string()))?;
    let is_rolled_back = note.is_some_and(|note| note.checkpoint == newest);
    let may_be_visible = LaterOutput::of(held.path()).may_be_visible(newest)?;
    match may_be_visible || is_file && next > newest.next() && !is_rolled_back {
        false => Ok(()),
        true => Err(refuse(format!(
            "checkpoints after {newest} were deleted or damaged, and their output may still be visible; run the job once, which takes that output back, then swap"
        ))),
    }
}

/// Writes a checkpoint of new plugins, with those of these components that it names.
fn write(
    storage: &mut dyn CheckpointStorage,
    checkpoint: &Checkpoint,
    components: Vec<(PluginDigest, Arc<[u8]>)>,
) -> Result<(), CommandError> {
    let mut plugins = components;
    let named = |digest: PluginDigest| checkpoint.operators.iter().any(|one| one.plugin == digest);
    plugins.retain(|(digest, _)| named(*digest));
    plugins.sort_unstable_by_key(|(digest, _)| *digest);
    plugins.dedup_by_key(|(digest, _)| *digest);
    storage.write(&NewCheckpoint {
        checkpoint,
        chunks: &[],
        plugins: &plugins,
        // The one before it is the way back.
        retained: NonZeroU32::MAX,
    })?;
    Ok(())
}

type Components = Vec<(PluginDigest, Arc<[u8]>)>;

/// The plugins that a checkpoint names.
fn components(reader: &dyn CheckpointReader, of: &Checkpoint) -> Result<Components, CommandError> {
    let mut components: Components = Vec::new();
    for operator in &of.operators {
        let component = reader.plugin(operator.plugin)?;
        components.push((operator.plugin, component.into()));
    }
    Ok(components)
}

fn load(
    engine: &GuestEngine,
    replacement: &ReplacementArgument,
    saved: &OperatorSnapshot,
    there: &Components,
) -> Result<Plugin, CommandError> {
    let of_plugin = |reason: String| CommandError::new(EXIT_PLUGIN, reason);
    let component: Arc<[u8]> = match &replacement.file {
        Some(file) => std::fs::read(file)
            .map_err(|error| {
                of_plugin(format!(
                    "cannot read the plugin `{}`: {error}",
                    file.display()
                ))
            })?
            .into(),
        None => {
            let mut there = there.iter();
            let found = there.find(|(digest, _)| *digest == saved.plugin);
            let found = found
                .ok_or_else(|| of_plugin("the checkpoints do not have its plugin".to_owned()))?;
            Arc::clone(&found.1)
        }
    };
    let loaded = engine.load(&replacement.operator, &component);
    loaded.map_err(|error| of_plugin(error.to_string()))
}

/// The graph does not change, so the new plugin must have the ports of the old one.
fn check_ports(
    engine: &GuestEngine,
    saved: &OperatorSnapshot,
    plugin: &Plugin,
    there: &Components,
) -> Result<(), CommandError> {
    let mut there = there.iter();
    let Some((_, old)) = there.find(|(digest, _)| *digest == saved.plugin) else {
        return Ok(());
    };
    let old = engine.load(&saved.name, old)?;
    let fit = fits(&saved.name, old.description(), plugin.description());
    fit.map_err(|error| CommandError::new(EXIT_PLUGIN, error.to_string()))
}

/// Creates temporary files for state that is read.
fn scratch_files() -> Scratch {
    Arc::new(|| scratch::file_in(&std::env::temp_dir()))
}

/// Names the new plugin in a checkpoint, which is a copy of the newest one.
fn change(
    replacement: &ReplacementArgument,
    newest: (&Arc<dyn CheckpointReader>, &Checkpoint),
    saved: &mut OperatorSnapshot,
    plugin: &Plugin,
    allow_dropped: bool,
) -> Result<(OperatorComparison, Operator), CommandError> {
    let name = &replacement.operator;
    refuse_unknown(name, &saved.config, &replacement.without).map_err(refused)?;
    let changes: Vec<_> = replacement.config.clone().into_iter().collect();
    let old = PluginChoice {
        plugin: saved.plugin,
        config: saved.config.clone(),
    };
    let new = PluginChoice {
        plugin: plugin.digest(),
        config: configured(&saved.config, &changes, &replacement.without),
    };
    let mut states = compare(name, plugin, &saved.states).map_err(refused)?;
    count_held_back(newest, name, &mut states, &scratch_files());
    refuse_states(name, &states, allow_dropped).map_err(refused)?;
    // The plugin must open with its configuration.
    drop(plugin.open(name, &new.config)?);
    let operator = Operator::new(Arc::new(plugin.clone()), new.config.clone());
    let over = std::mem::take(&mut saved.states);
    let taken_over = States::taken_over(name, &operator, CheckpointId(0), over, allow_dropped)?;
    let description = plugin.description();
    let found = OperatorComparison {
        operator: name.clone(),
        before: old.plugin.to_string(),
        plugin: new.plugin.to_string(),
        name: format!("{} {}", description.name, description.version),
        is_same: old == new,
        states,
        ..OperatorComparison::default()
    };
    saved.states = taken_over.schemas;
    saved.replaces = replaced_by(old, saved.replaces.take(), &new);
    saved.plugin = new.plugin;
    saved.config = new.config;
    Ok((found, operator))
}
