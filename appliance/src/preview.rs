//! The preview: the generations that would be published from the current fleet folder.

pub mod change;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, bail};
use bento_protocol::{FileList, HostName, Manifest};
use jiff::Timestamp;

use crate::fleet::{self, FILE_NAME, Fleet, Host, SourcePath};
use crate::generation::{self, DigestCache, ReadError};
use crate::problem::Problem;
use crate::scan::{FleetFolder, HostTree, Listings, Sources};

/// The preview of a fleet.
#[derive(Debug)]
pub struct Preview {
    /// The fleet folder, held open.
    pub folder: FleetFolder,
    /// The fleet; none if `fleet.toml` as a whole is unusable.
    pub fleet: Option<Fleet>,
    /// The preview of each requested machine; none if a problem prevents its publication.
    pub machines: BTreeMap<HostName, Option<HostPreview>>,
    /// The machines with unusable settings in `fleet.toml`.
    pub faulty: Vec<HostName>,
    /// The problems of these machines and of the fleet as a whole.
    pub problems: Vec<Problem>,
}

/// The preview of one machine.
#[derive(Debug)]
pub struct HostPreview {
    /// Its files.
    pub tree: HostTree,
    /// Its manifest; `published` is the time of the preview.
    pub manifest: Manifest,
}

impl Preview {
    /// Makes the preview of a fleet folder, for these machines, or for all if none is named.
    ///
    /// # Errors
    /// When there is no fleet, or no machine of a given name. A mistake in the fleet isn't an error, but a problem.
    pub fn make(folder: &Path, names: &[HostName]) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let text = std::fs::read(&path)
            .and_then(fleet::decode)
            .with_context(|| format!("can't read {}", path.display()))?;
        let opened = FleetFolder::open(folder)
            .with_context(|| format!("can't read {}", folder.display()))?;
        let mut preview = Preview {
            folder: opened,
            fleet: None,
            machines: BTreeMap::new(),
            faulty: Vec::new(),
            problems: Vec::new(),
        };
        let reading = match fleet::read(&text) {
            Ok(reading) => reading,
            Err(problems) => {
                preview.problems = problems;
                return Ok(preview);
            }
        };
        let hosts = &reading.fleet.hosts;
        let is_known =
            |name: &&HostName| hosts.contains_key(*name) || reading.faulty.contains(*name);
        if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
            bail!("the fleet has no machine {unknown}: run `bento host list` for all machines");
        }
        let is_asked = |name: &HostName| names.is_empty() || names.contains(name);
        let problems = reading.problems.into_iter();
        preview.problems = problems
            .filter(|problem| problem.host.as_ref().is_none_or(is_asked))
            .collect();
        let mut previewer = Previewer::new(&preview.folder);
        for (name, host) in hosts.iter().filter(|(name, _)| is_asked(name)) {
            let host_preview = previewer
                .host_preview(name, host)
                .map_err(|problems| preview.problems.extend(problems));
            preview.machines.insert(name.clone(), host_preview.ok());
        }
        preview.fleet = Some(reading.fleet);
        preview.faulty = reading.faulty;
        Ok(preview)
    }
}

impl Preview {
    /// Whether the fleet names a machine, also with unusable settings.
    pub fn has(&self, name: &HostName) -> bool {
        let fleet = self.fleet.as_ref();
        fleet.is_some_and(|fleet| fleet.hosts.contains_key(name)) || self.faulty.contains(name)
    }
}

/// Makes the previews of machines. Machines with the same files share the work, so a thousand of them cost little more
/// than one.
struct Previewer<'a> {
    folder: &'a FleetFolder,
    sources: Sources<'a>,
    digests: DigestCache,
    /// The trees and file lists of machines without secrets.
    lists: HashMap<Part<'a>, (HostTree, FileList)>,
}

/// A source with its exclude and include patterns.
type Part<'a> = (&'a SourcePath, &'a [String], &'a [String]);

impl<'a> Previewer<'a> {
    fn new(folder: &'a FleetFolder) -> Self {
        Previewer {
            folder,
            sources: Sources::new(folder, Listings::default()),
            digests: DigestCache::default(),
            lists: HashMap::new(),
        }
    }

    fn host_preview(
        &mut self,
        name: &HostName,
        host: &'a Host,
    ) -> Result<HostPreview, Vec<Problem>> {
        let tree = self.sources.walk(name, host)?;
        let manifest = self.manifest(name, host, &tree);
        let manifest = manifest.map_err(|error| problems_of(error, name, host))?;
        Ok(HostPreview { tree, manifest })
    }

    fn manifest(
        &mut self,
        name: &HostName,
        host: &'a Host,
        tree: &HostTree,
    ) -> Result<Manifest, ReadError> {
        let part: Part<'a> = (&host.source, &host.exclude, &host.include);
        let policy = generation::policy(host, tree);
        let known = self.lists.get(&part);
        let known = known.filter(|(known, _)| known.shares_all_with(tree));
        let manifest = match known {
            Some((_, files)) => files.manifest(name.clone(), policy, Timestamp::now()),
            None => {
                let files = generation::file_list(host, tree, self.folder, &mut self.digests)?;
                let manifest = files.manifest(name.clone(), policy, Timestamp::now());
                if tree.secrets().is_empty() {
                    self.lists.insert(part, (tree.clone(), files));
                }
                manifest
            }
        };
        generation::require_size(&manifest, host)?;
        Ok(manifest)
    }
}

fn problems_of(error: ReadError, name: &HostName, host: &Host) -> Vec<Problem> {
    let problem = match error {
        ReadError::Unreadable(problem) => problem,
        ReadError::Changed(_) | ReadError::Output(_) => {
            let place = host.source.to_string();
            let advice = "try again when nobody writes there";
            Problem::new(place, "changed while it was read", advice)
        }
    };
    vec![problem.of(name)]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_shared_source_gives_each_machine_the_same_as_alone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let narrowed = "[hosts.narrowed]\nexclude = [\"b.nix\"]\n";
        let hosts = "[hosts.a]\n[hosts.b]\nself_update = true\n[hosts.dangling]\n[hosts.secret]\n";
        let defaults = "[defaults]\nsource = \"desks\"\n";
        let server = "[server]\naddress = \"x\"\n";
        write("fleet.toml", &[server, defaults, hosts, narrowed].concat());
        write("desks/flake.nix", "{ }");
        write("desks/b.nix", "{ }");
        write("bento-secrets/secret/key", "1");
        symlink("nowhere", folder.path().join("bento-secrets/dangling")).unwrap();
        let all = Preview::make(folder.path(), &[]).unwrap();
        let of = |name: &str| all.machines[&name.parse().unwrap()].as_ref();
        let (a, b) = (of("a").unwrap(), of("b").unwrap());
        assert!(a.tree.shares_all_with(&b.tree));
        assert!(b.manifest.policy().terms().self_update);
        assert!(
            of("dangling").is_none() && all.problems.len() == 1,
            "{:?}",
            all.problems
        );
        for (name, files) in [("a", 2), ("b", 2), ("secret", 3), ("narrowed", 1)] {
            let shared = of(name).unwrap();
            assert_eq!(shared.manifest.files().len(), files, "{name}");
            let name = name.parse().unwrap();
            let alone = Preview::make(folder.path(), std::slice::from_ref(&name)).unwrap();
            let alone = alone.machines[&name].as_ref().unwrap();
            assert_eq!(alone.tree, shared.tree);
            assert_eq!(alone.manifest.generation(), shared.manifest.generation());
        }
    }

    // Issue 10, line 3.
    #[test]
    fn a_dangling_symlink_stops_no_machine_of_a_shared_source() {
        let folder = tempfile::tempdir().unwrap();
        let hosts: String = (1..=9)
            .map(|number| format!("[hosts.m{number}]\n"))
            .collect();
        let fleet = format!("[server]\naddress = \"x\"\n[defaults]\nsource = \".\"\n{hosts}");
        fs::write(folder.path().join("fleet.toml"), fleet).unwrap();
        fs::write(folder.path().join("flake.nix"), "{ }").unwrap();
        fs::create_dir_all(folder.path().join("home/dotfiles")).unwrap();
        let link = folder.path().join("home/dotfiles/theme");
        symlink("../../.local/share/theme", &link).unwrap();
        let all = Preview::make(folder.path(), &[]).unwrap();
        assert_eq!(all.problems, []);
        let published = all.machines.values().flatten();
        let links = published.map(|host_preview| {
            let path = "config/home/dotfiles/theme".parse().unwrap();
            let entry = host_preview.manifest.file(&path).unwrap();
            entry.symlink().unwrap().target()
        });
        assert_eq!(links.collect::<Vec<_>>(), ["../../.local/share/theme"; 9]);
    }
}
