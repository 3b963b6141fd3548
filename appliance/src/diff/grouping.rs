//! Groups of machines with the same changes, which are shown once.

use super::{Changes, Diffs, HostDiff};

/// The machines by their result.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    /// Machines that run the published generation.
    pub(super) current: Vec<&'a HostDiff>,
    /// Machines with changes, grouped by equal changes.
    pub(super) changed: Vec<(Vec<&'a HostDiff>, &'a Changes)>,
    /// Machines that can't be compared.
    pub(super) others: Vec<&'a HostDiff>,
}

impl<'a> Groups<'a> {
    pub(super) fn of(diffs: &'a Diffs) -> Self {
        let mut groups = Groups::default();
        for host in &diffs.hosts {
            let published = host.published.map(|published| published.generation);
            let Some(runs) = host.runs.filter(|_| published.is_some()) else {
                groups.others.push(host);
                continue;
            };
            match &host.changes {
                _ if published == Some(runs.generation) => groups.current.push(host),
                None => groups.others.push(host),
                Some(changes) => groups.add(host, changes),
            }
        }
        groups
    }

    fn add(&mut self, host: &'a HostDiff, changes: &'a Changes) {
        let same = self.changed.iter_mut().find(|(_, known)| *known == changes);
        match same {
            Some((hosts, _)) => hosts.push(host),
            None => self.changed.push((vec![host], changes)),
        }
    }
}
