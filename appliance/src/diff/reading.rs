//! Reads the generations to compare from a state.

use std::path::Path;

use anyhow::Context;
use bento_protocol::{Format, GenerationId, HostName};
use jiff::Timestamp;

use super::{Changes, Diffs, FileContents, HostDiff, InstalledGeneration, PublishedGeneration};
use crate::publication::published::Published;
use crate::publication::{Publications, Snapshot};
use crate::report::{Record, Summary};
use crate::store::machines::KnownMachines;
use crate::store::paths::State;

impl Diffs {
    /// Compares the running with the published generation, for these machines or for all.
    ///
    /// # Errors
    /// When there is no state, no machine of a given name, or a file of theirs can't be read.
    pub fn read(state: &State, names: &[HostName]) -> anyhow::Result<Self> {
        let mut contents = FileContents::default();
        let machines = KnownMachines::read(state)?.selection(names)?;
        let host_diff = |(name, since): (&HostName, &Option<Timestamp>)| {
            host_diff(state, name, *since, &mut contents)
                .with_context(|| format!("can't read the state of {name}"))
        };
        let hosts = machines.iter().map(host_diff).collect::<Result<_, _>>()?;
        Ok(Diffs {
            format: Format,
            hosts,
            contents: contents.into_found(),
        })
    }
}

fn host_diff(
    state: &State,
    name: &HostName,
    since: Option<Timestamp>,
    contents: &mut FileContents,
) -> anyhow::Result<HostDiff> {
    let host = state.host(name);
    let cannot = |path: &Path| format!("can't read {}", path.display());
    let published = Published::read(&host).with_context(|| cannot(&host.published()))?;
    let summary = Summary::read(&host).with_context(|| cannot(&host.summary()))?;
    let summary = match since {
        Some(since) => summary.since(since),
        None => Summary::default(),
    };
    let runs = installed(&summary);
    let publications = Publications::of(&host);
    let snapshot = |id: GenerationId| {
        let found = publications.snapshot(id);
        found.with_context(|| cannot(host.root()))
    };
    let old = runs.map(|runs| snapshot(runs.generation)).transpose()?;
    let new = published
        .as_ref()
        .map(|published| snapshot(published.generation))
        .transpose()?;
    let changes = match (old.flatten(), new.flatten()) {
        (Some(old), Some(new)) => Some(changes(&old, &new, contents)?),
        _ => None,
    };
    Ok(HostDiff {
        name: name.clone(),
        runs,
        published: published.as_ref().map(|published| PublishedGeneration {
            generation: published.generation,
            at: published.at,
        }),
        reported: summary.newest.is_some(),
        succeeded: summary.succeeded.is_some(),
        running: summary.newest.as_ref().and_then(Record::running).cloned(),
        expected_system: published.and_then(|published| published.expected_system),
        changes,
    })
}

fn changes(old: &Snapshot, new: &Snapshot, contents: &mut FileContents) -> anyhow::Result<Changes> {
    let changes = Changes::between(&old.manifest, &new.manifest);
    contents
        .read(&changes, old, new)
        .context("can't read a published file")?;
    Ok(changes)
}

/// The generation that the machine ran last, by its reports; if it never ran a built system, the last installed one.
fn installed(summary: &Summary) -> Option<InstalledGeneration> {
    let ran = summary.confirmed.as_ref();
    let record = ran.or(summary.succeeded.as_ref())?;
    let newest = summary.newest.as_ref().and_then(Record::running);
    Some(InstalledGeneration {
        generation: record.generation()?,
        at: record.received,
        ran: ran.is_some(),
        left: ran.is_some_and(|ran| newest.is_some() && newest != ran.running()),
    })
}
