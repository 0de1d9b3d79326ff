//! Version 3 of a manifest: what is written now. An operator has the configuration of its plugin, and what the pipeline
//! named when another plugin took its place; the parallelism is noted as it is and as the pipeline says. Once it is
//! released, these structs never change.

use serde::{Deserialize, Serialize};

use super::ManifestError;
use super::v2::{SinkV2, SourceV2, StateV2, TaskV2};
use crate::checkpoint::{Checkpoint, OperatorSnapshot, PluginChoice, PluginDigest, Trigger};
use crate::stream::{CheckpointId, MaxParallelism};

#[derive(Serialize, Deserialize)]
pub(super) struct ManifestV3<'a> {
    id: u64,
    created_ms: u64,
    trigger: TriggerV3,
    job: &'a str,
    data_folder: &'a str,
    identity: &'a str,
    parallelism: u16,
    configured_parallelism: u16,
    max_parallelism: u16,
    records_in: u64,
    records_out: u64,
    #[serde(borrow)]
    sources: Vec<SourceV2<'a>>,
    #[serde(borrow)]
    operators: Vec<OperatorV3<'a>>,
    #[serde(borrow)]
    sinks: Vec<SinkV2<'a>>,
}

#[derive(Serialize, Deserialize)]
enum TriggerV3 {
    Periodic,
    Stop,
    Final,
    Asked,
    Swap,
    Rescale,
}

#[derive(Serialize, Deserialize)]
struct OperatorV3<'a> {
    name: &'a str,
    #[serde(borrow)]
    runs: ChoiceV3<'a>,
    #[serde(borrow)]
    replaces: Option<ChoiceV3<'a>>,
    #[serde(borrow)]
    states: Vec<StateV2<'a>>,
    tasks: Vec<TaskV2>,
}

#[derive(Serialize, Deserialize)]
struct ChoiceV3<'a> {
    plugin: [u8; 32],
    #[serde(borrow)]
    config: Vec<(&'a str, &'a str)>,
}

impl<'a> From<&'a Checkpoint> for ManifestV3<'a> {
    fn from(checkpoint: &'a Checkpoint) -> Self {
        Self {
            id: checkpoint.id.0,
            created_ms: checkpoint.created_ms,
            trigger: match checkpoint.trigger {
                Trigger::Periodic => TriggerV3::Periodic,
                Trigger::Stop => TriggerV3::Stop,
                Trigger::Final => TriggerV3::Final,
                Trigger::Asked => TriggerV3::Asked,
                Trigger::Swap => TriggerV3::Swap,
                Trigger::Rescale => TriggerV3::Rescale,
            },
            job: &checkpoint.job,
            data_folder: &checkpoint.data_folder,
            identity: &checkpoint.identity,
            parallelism: checkpoint.parallelism,
            configured_parallelism: checkpoint.configured_parallelism,
            max_parallelism: checkpoint.max_parallelism.get(),
            records_in: checkpoint.records_in,
            records_out: checkpoint.records_out,
            sources: checkpoint.sources.iter().map(SourceV2::from).collect(),
            operators: checkpoint.operators.iter().map(OperatorV3::from).collect(),
            sinks: checkpoint.sinks.iter().map(SinkV2::from).collect(),
        }
    }
}

impl<'a> From<&'a OperatorSnapshot> for OperatorV3<'a> {
    fn from(operator: &'a OperatorSnapshot) -> Self {
        let replaced = |choice: &'a PluginChoice| ChoiceV3::of(choice.plugin, &choice.config);
        Self {
            name: &operator.name,
            runs: ChoiceV3::of(operator.plugin, &operator.config),
            replaces: operator.replaces.as_ref().map(replaced),
            states: operator.states.iter().map(StateV2::from).collect(),
            tasks: operator.tasks.iter().map(TaskV2::from).collect(),
        }
    }
}

impl<'a> ChoiceV3<'a> {
    fn of(plugin: PluginDigest, config: &'a [(String, String)]) -> Self {
        let pair = |(key, value): &'a (String, String)| (key.as_str(), value.as_str());
        Self {
            plugin: plugin.0,
            config: config.iter().map(pair).collect(),
        }
    }

    fn into_choice(self) -> PluginChoice {
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        PluginChoice {
            plugin: PluginDigest(self.plugin),
            config: self.config.into_iter().map(pair).collect(),
        }
    }
}

impl ManifestV3<'_> {
    pub(super) fn into_checkpoint(self) -> Result<Checkpoint, ManifestError> {
        let max_parallelism = MaxParallelism::new(self.max_parallelism).ok_or(
            ManifestError::Malformed("its number of key groups is out of range"),
        )?;
        let operators = self.operators.into_iter();
        let operators = operators.map(|operator| operator.into_snapshot(max_parallelism));
        Ok(Checkpoint {
            id: CheckpointId(self.id),
            created_ms: self.created_ms,
            trigger: match self.trigger {
                TriggerV3::Periodic => Trigger::Periodic,
                TriggerV3::Stop => Trigger::Stop,
                TriggerV3::Final => Trigger::Final,
                TriggerV3::Asked => Trigger::Asked,
                TriggerV3::Swap => Trigger::Swap,
                TriggerV3::Rescale => Trigger::Rescale,
            },
            job: self.job.to_owned(),
            data_folder: self.data_folder.to_owned(),
            identity: self.identity.to_owned(),
            parallelism: self.parallelism,
            configured_parallelism: self.configured_parallelism,
            max_parallelism,
            records_in: self.records_in,
            records_out: self.records_out,
            sources: self
                .sources
                .into_iter()
                .map(SourceV2::into_snapshot)
                .collect(),
            operators: operators.collect::<Result<_, _>>()?,
            sinks: self.sinks.into_iter().map(SinkV2::into_snapshot).collect(),
        })
    }
}

impl OperatorV3<'_> {
    fn into_snapshot(self, max: MaxParallelism) -> Result<OperatorSnapshot, ManifestError> {
        let PluginChoice { plugin, config } = self.runs.into_choice();
        let tasks = self.tasks.into_iter().map(|task| task.into_snapshot(max));
        Ok(OperatorSnapshot {
            name: self.name.to_owned(),
            plugin,
            config,
            replaces: self.replaces.map(ChoiceV3::into_choice),
            states: self.states.into_iter().map(StateV2::into_schema).collect(),
            tasks: tasks.collect::<Result<_, _>>()?,
        })
    }
}
