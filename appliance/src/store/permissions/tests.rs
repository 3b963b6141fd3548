use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::PathBuf;

use bento_protocol::HostName;
use rustix::process::{getegid, geteuid};

use super::*;
use crate::fixture::Kept;

/// A state with one published machine.
struct Env {
    kept: Kept,
    name: HostName,
}

impl Env {
    fn new() -> Self {
        let kept = Kept::new("");
        let name = kept.publish_files("a", gid());
        let keys = kept.runtime.authorized_keys();
        fs::create_dir(&keys).unwrap();
        fs::write(keys.join("a"), "ssh-ed25519 …").unwrap();
        let env = Env { kept, name };
        env.apply(Depth::Everything, Rule::mend);
        env
    }

    fn apply(&self, depth: Depth, act: Act) -> RuleSummary {
        let (state, runtime) = (&self.kept.state, &self.kept.runtime);
        let mut summary = shared(state, runtime, act);
        let of_host = of_host(state, runtime, &self.name, gid(), depth, act);
        summary.mended += of_host.mended;
        summary.problems.extend(of_host.problems);
        summary
    }

    fn host(&self) -> HostState {
        self.kept.state.host(&self.name)
    }

    fn chroot(&self) -> PathBuf {
        self.host().current().canonicalize().unwrap()
    }

    /// Everything that has a rule.
    fn paths(&self) -> Vec<PathBuf> {
        let (state, runtime, host) = (&self.kept.state, &self.kept.runtime, self.host());
        let mut paths = vec![
            state.root().to_owned(),
            state.hosts(),
            host.root().to_owned(),
            host.publications(),
            host.publications().join("1"),
            runtime.root().to_owned(),
            runtime.authorized_keys(),
            runtime.authorized_keys().join("a"),
        ];
        let mut folders = vec![self.chroot()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    paths.push(entry.path());
                }
            }
            paths.push(folder);
        }
        paths
    }
}

/// A group to which files can be given without privileges.
fn gid() -> u32 {
    getegid().as_raw()
}

fn attributes(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid(), found.mode())
}

// Issue 10, line 34.
#[test]
fn every_wrong_mode_or_owner_is_repaired() {
    let env = Env::new();
    let nothing = env.apply(Depth::Everything, Rule::mend);
    assert_eq!((nothing.mended, nothing.problems), (0, vec![]));
    let paths = env.paths();
    // The chroot has a link, an inbox, three files, three folders of the configuration and their two files.
    assert!(paths.len() > 16, "{paths:?}");
    for path in &paths {
        let right = attributes(path);
        let link = path.is_symlink();
        let mut breaks: Vec<Box<dyn Fn()>> = Vec::new();
        if !link {
            breaks.push(Box::new(|| {
                fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
            }));
        }
        if geteuid().is_root() {
            breaks.push(Box::new(|| lchown(path, Some(1234), None).unwrap()));
        }
        for break_it in breaks {
            break_it();
            let found = env.apply(Depth::Everything, Rule::check).problems;
            // A file at two paths is one file, and reported at either.
            let place = path.display().to_string();
            let is_reported = |problem: &Problem| {
                problem.place == place || problem.what.ends_with(", and 1 more path is wrong")
            };
            assert!(found.iter().any(is_reported), "{path:?}: {found:?}");
            let summary = env.apply(Depth::Everything, Rule::mend);
            assert_eq!((summary.mended, summary.problems), (1, vec![]), "{path:?}");
            assert_eq!(attributes(path), right, "{path:?}");
        }
    }
}

// Issue 10, line 34.
#[test]
fn a_copy_with_another_owner_and_a_narrow_mask_is_repaired_at_once() {
    let env = Env::new();
    let paths = env.paths();
    let right: Vec<_> = paths.iter().map(|path| attributes(path)).collect();
    for path in &paths {
        if !path.is_symlink() {
            let mode = fs::metadata(path).unwrap().mode();
            fs::set_permissions(path, Permissions::from_mode(mode & 0o700)).unwrap();
        }
        if geteuid().is_root() {
            lchown(path, Some(1234), Some(4321)).unwrap();
        }
    }
    assert_eq!(env.apply(Depth::Everything, Rule::mend).problems, []);
    assert_eq!(env.apply(Depth::Everything, Rule::check).problems, []);
    let is_closed = |path: &PathBuf| !path.starts_with(env.chroot());
    for (path, right) in paths.iter().zip(right) {
        let found = attributes(path);
        // Only root has to enter the folders above a chroot.
        if is_closed(path) {
            assert_eq!(found.2 & 0o722, right.2 & 0o722, "{path:?}");
        } else {
            assert_eq!(found, right, "{path:?}");
        }
    }
}

// Issue 10, line 34.
#[test]
fn a_copy_that_follows_symlinks_is_reported_with_advice() {
    let env = Env::new();
    let current = env.host().current();
    let generation = env.chroot().join("generation");
    let id = fs::read_link(&generation).unwrap();
    fs::remove_file(&generation).unwrap();
    fs::write(&generation, id.as_os_str().as_encoded_bytes()).unwrap();
    let found = env.apply(Depth::Top, Rule::mend).problems;
    assert!(
        found
            .iter()
            .any(|problem| problem.place == generation.display().to_string()
                && problem.advice.contains("bento restore")),
        "{found:?}"
    );
    fs::remove_file(&current).unwrap();
    fs::create_dir(&current).unwrap();
    let found = env.apply(Depth::Top, Rule::mend).problems;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].place, current.display().to_string());
    assert!(found[0].what.contains("symlink"), "{found:?}");
    assert_eq!(found[0].host, Some(env.name.clone()));
}

// Issue 10, line 34.
#[test]
fn a_tree_with_many_wrong_paths_is_one_problem_of_its_machine() {
    let env = Env::new();
    let files = ["manifest.json", "bundle.tar.gz", "config"];
    for path in files.map(|file| env.chroot().join(file)) {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let (state, runtime) = (&env.kept.state, &env.kept.runtime);
    let found = of_host(state, runtime, &env.name, gid(), Depth::Top, Rule::check).problems;
    assert_eq!(found.len(), 1, "{found:?}");
    let what = &found[0].what;
    assert!(what.ends_with(", and 2 more paths are wrong"), "{what}");
    assert!(found[0].advice.contains("half a minute"), "{found:?}");
}

// Issue 10, line 34.
#[test]
fn the_modes_of_a_new_mount_are_repaired_silently() {
    let kept = Kept::new("");
    let (state, runtime) = (&kept.state, &kept.runtime);
    fs::remove_dir_all(state.hosts()).ok();
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    let mounted = runtime.root().parent().unwrap();
    let places = [state.root(), mounted];
    places.into_iter().for_each(open);
    assert_eq!(shared(state, runtime, Rule::mend).mended, 0);
    for place in places {
        assert_eq!(attributes(place).2 & 0o777, 0o755, "{place:?}");
    }
    fs::create_dir(state.hosts()).unwrap();
    open(state.root());
    assert_eq!(shared(state, runtime, Rule::mend).mended, 1);
}

#[test]
fn an_earlier_publication_whose_removal_was_cut_off_is_no_problem() {
    let env = Env::new();
    let cut_off = env.host().publications().join("0");
    fs::create_dir_all(cut_off.join("chroot")).unwrap();
    let summary = env.apply(Depth::Everything, Rule::mend);
    assert_eq!(summary.problems, []);
    fs::remove_dir(env.chroot().join("logs")).unwrap();
    let summary = env.apply(Depth::Everything, Rule::mend);
    assert_eq!(summary.problems.len(), 1, "the current one needs its inbox");
}
