//! The plan of a build: systems that machines share are built once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bento_nix::LOCK_FILE;
use bento_protocol::{Area, Digest, HostName, Manifest, Terms};

use crate::preview::{HostPreview, Preview};

/// The builds for a preview.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// The distinct configurations.
    pub(super) trees: Vec<Tree<'a>>,
    /// The distinct systems in them, in the order of their first machines.
    pub(super) jobs: Vec<Job<'a>>,
}

/// The configuration of one or several machines.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    /// The preview of one of its machines.
    pub(super) host_preview: &'a HostPreview,
    /// Whether it is a flake; a flake.nix takes precedence over a configuration.nix.
    pub(super) is_flake: bool,
    /// Whether every machine must build the same system: a flake with a lock file.
    pub(super) is_pinned: bool,
}

/// The system of one or several machines.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// The index of its tree in the plan.
    pub(super) tree: usize,
    /// The terms of the build: the same for all its machines.
    pub(super) terms: &'a Terms,
    /// The manifests of its machines: never empty.
    pub(super) machines: Vec<&'a Manifest>,
}

impl Job<'_> {
    /// The first of its machines.
    pub(super) fn host(&self) -> &HostName {
        self.machines[0].host()
    }

    /// The names of its machines.
    pub(super) fn names(&self) -> impl Iterator<Item = &HostName> {
        self.machines.iter().map(|manifest| manifest.host())
    }
}

impl<'a> Plan<'a> {
    /// Plans the builds of all machines that could be published.
    pub(super) fn of(preview: &'a Preview) -> Self {
        let mut plan = Plan::default();
        let mut trees = BTreeMap::new();
        let mut jobs = BTreeMap::new();
        for host_preview in preview.machines.values().flatten() {
            let tree = *trees
                .entry(fingerprint(&host_preview.manifest))
                .or_insert_with(|| {
                    plan.trees.push(Tree::of(host_preview));
                    plan.trees.len() - 1
                });
            let terms = host_preview.manifest.policy().terms();
            let attribute = bento_nix::attribute(host_preview.manifest.host(), terms);
            // Without a flake there is one system.
            let attribute = plan.trees[tree].is_flake.then_some(attribute);
            match jobs.entry((tree, attribute, terms.nix_args.as_slice())) {
                Entry::Occupied(job) => {
                    let job: &mut Job<'a> = &mut plan.jobs[*job.get()];
                    job.machines.push(&host_preview.manifest);
                }
                Entry::Vacant(job) => {
                    job.insert(plan.jobs.len());
                    plan.jobs.push(Job {
                        tree,
                        terms,
                        machines: vec![&host_preview.manifest],
                    });
                }
            }
        }
        plan
    }
}

impl<'a> Tree<'a> {
    fn of(host_preview: &'a HostPreview) -> Self {
        let is_flake = host_preview.tree.has_config("flake.nix");
        Tree {
            host_preview,
            is_flake,
            is_pinned: is_flake && host_preview.tree.has_config(LOCK_FILE),
        }
    }
}

/// A digest of the files that Nix sees, to tell configurations apart.
fn fingerprint(manifest: &Manifest) -> Digest {
    let mut text = String::new();
    for entry in manifest.files() {
        if entry.path().area() == Area::Config {
            // No path and no target has a newline: paths with control characters aren't published.
            text += &format!("{entry}\n");
        }
    }
    Digest::of(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn equal_builds_of_machines_run_once() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = "[server]\naddress = \"x\"\n[hosts.a]\nsource = \"shared\"\nattribute = \"desk\"\n\
                     [hosts.b]\nsource = \"copy\"\nattribute = \"desk\"\n[hosts.c]\nsource = \"shared\"\n\
                     [hosts.d]\nsource = \"shared\"\nattribute = \"desk\"\nnix_args = [\"--impure\"]\n\
                     [hosts.e]\nsource = \"classic\"\n[hosts.f]\nsource = \"classic\"\nattribute = \"unused\"\n";
        fs::write(folder.path().join("fleet.toml"), fleet).unwrap();
        for (source, file) in [
            ("shared", "flake.nix"),
            ("copy", "flake.nix"),
            ("classic", "configuration.nix"),
        ] {
            fs::create_dir(folder.path().join(source)).unwrap();
            fs::write(folder.path().join(source).join(file), "{ }").unwrap();
        }
        // A secret doesn't make another system.
        fs::create_dir_all(folder.path().join("bento-secrets/b")).unwrap();
        fs::write(folder.path().join("bento-secrets/b/key"), "").unwrap();
        let preview = Preview::make(folder.path(), &[]).unwrap();
        assert_eq!(preview.problems, []);
        let plan = Plan::of(&preview);
        let names = |job: &Job<'_>| job.names().map(ToString::to_string).collect::<String>();
        let jobs: Vec<_> = plan.jobs.iter().map(|job| (job.tree, names(job))).collect();
        let expected =
            [(0, "ab"), (0, "c"), (0, "d"), (1, "ef")].map(|(tree, names)| (tree, names.into()));
        assert_eq!(jobs, expected);
        assert!(plan.trees[0].is_flake && !plan.trees[0].is_pinned);
        assert!(!plan.trees[1].is_flake);
    }
}
