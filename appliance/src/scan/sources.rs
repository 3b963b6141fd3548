//! The walks of one scan: machines that get the same of the same folder share one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bento_protocol::HostName;

use super::index::Index;
use super::places::Survey;
use super::refusal;
use super::walk::{self, Everything};
use super::{ENTRIES, FleetFolder, HostTree, Listing, SECRETS};
use crate::fleet::Host;
use crate::problem::Problem;

/// The state of a scan: the cache of paths, and the walked sources.
#[derive(Debug)]
pub struct Sources<'f> {
    survey: Survey<'f>,
    walked: HashMap<Part, Walked>,
    before: HashMap<Part, Arc<Listing>>,
}

/// The listings of an earlier scan: those that haven't changed are reused.
#[derive(Debug, Default)]
pub struct Listings {
    sources: HashMap<Part, Arc<Listing>>,
    index: Arc<Index>,
}

/// A folder of the fleet, with the patterns of `exclude` and `include`.
type Part = (PathBuf, Vec<String>, Vec<String>);

/// A walked source.
#[derive(Debug)]
struct Walked {
    listing: Arc<Listing>,
    /// The number of files and folders.
    entries: usize,
    changed: Option<SystemTime>,
    problems: Vec<Problem>,
    unseen: Arc<[PathBuf]>,
}

impl<'f> Sources<'f> {
    /// A new scan, with the listings of the last one.
    pub fn new(fleet: &'f FleetFolder, before: Listings) -> Self {
        Sources {
            survey: Survey::new(fleet, before.index),
            walked: HashMap::new(),
            before: before.sources,
        }
    }

    /// Like [`HostTree::walk`], but reuses walks and paths that were read for other machines.
    pub fn walk(&mut self, name: &HostName, host: &Host) -> Result<HostTree, Vec<Problem>> {
        let part = (
            host.source.as_path().to_owned(),
            host.exclude.clone(),
            host.include.clone(),
        );
        let before = self.before.get(&part);
        let source = self.walked.entry(part).or_insert_with(|| {
            let found = walk::source(&mut self.survey, host);
            Walked::of(found, before)
        });
        let owner = host.renamed_to.as_ref().unwrap_or(name);
        let secrets = Path::new(SECRETS).join(owner.as_str());
        let secrets = walk::secrets(&mut self.survey, source.entries, &secrets);
        let problems = source.problems.iter().chain(&secrets.problems);
        let problems: Vec<_> = problems.cloned().map(|problem| problem.of(name)).collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let tree = HostTree {
            source: Arc::clone(&source.listing),
            secrets: Arc::new(secrets.listing),
            changed: source.changed.max(secrets.changed),
            unseen: Arc::clone(&source.unseen),
        };
        if ENTRIES.iter().any(|entry| tree.leads_to_file(entry)) {
            return Ok(tree);
        }
        let source = host.source.as_path();
        let kept_back = ENTRIES
            .into_iter()
            .find(|entry| self.survey.target(&source.join(entry)).is_ok());
        let problem = refusal::unbuildable(source, kept_back, tree.config().is_empty());
        Err(vec![problem.of(name)])
    }

    /// The listings, for the next scan.
    pub fn into_listings(self) -> Listings {
        let walked = self.walked.into_iter();
        Listings {
            sources: walked
                .map(|(part, walked)| (part, walked.listing))
                .collect(),
            index: self.survey.into_index(),
        }
    }
}

impl Walked {
    fn of(found: Everything, before: Option<&Arc<Listing>>) -> Self {
        let entries = found.count();
        let listing = match before {
            Some(before) if **before == found.listing => Arc::clone(before),
            _ => Arc::new(found.listing),
        };
        Walked {
            listing,
            entries,
            changed: found.changed,
            problems: found.problems,
            unseen: found.unseen.into(),
        }
    }
}
