use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::PathBuf;

use bento_protocol::HostName;
use rustix::process::{getegid, geteuid};

use super::*;
use crate::fixture::Kept;

/// A machine for which something is published.
struct Way {
    kept: Kept,
    name: HostName,
}

impl Way {
    fn new() -> Self {
        let kept = Kept::new("");
        let name = kept.publish_files("a", gid());
        let keys = kept.runtime.authorized_keys();
        fs::create_dir(&keys).unwrap();
        fs::write(keys.join("a"), "ssh-ed25519 …").unwrap();
        let way = Way { kept, name };
        way.apply(Depth::Everything, Rule::mend);
        way
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

/// A group that needs no privilege to give files to.
fn gid() -> u32 {
    getegid().as_raw()
}

fn attributes(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid(), found.mode())
}

// Issue 10, line 34.
#[test]
fn whatever_mode_or_owner_is_broken_is_set_right() {
    let way = Way::new();
    let nothing = way.apply(Depth::Everything, Rule::mend);
    assert_eq!((nothing.mended, nothing.problems), (0, vec![]));
    let paths = way.paths();
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
            let found = way.apply(Depth::Everything, Rule::check).problems;
            // A file that is seen at two paths is one, told by either.
            let place = path.display().to_string();
            let is_told = |problem: &Problem| {
                problem.place == place || problem.what.ends_with(", and 1 more path is wrong")
            };
            assert!(found.iter().any(is_told), "{path:?}: {found:?}");
            let summary = way.apply(Depth::Everything, Rule::mend);
            assert_eq!((summary.mended, summary.problems), (1, vec![]), "{path:?}");
            assert_eq!(attributes(path), right, "{path:?}");
        }
    }
}

// Issue 10, line 34.
#[test]
fn a_copy_that_gave_everything_to_another_user_with_a_narrow_mask_is_set_right_at_once() {
    let way = Way::new();
    let paths = way.paths();
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
    assert_eq!(way.apply(Depth::Everything, Rule::mend).problems, []);
    assert_eq!(way.apply(Depth::Everything, Rule::check).problems, []);
    let is_closed = |path: &PathBuf| !path.starts_with(way.chroot());
    for (path, right) in paths.iter().zip(right) {
        let found = attributes(path);
        // Nobody but root has to pass the folders above a chroot.
        if is_closed(path) {
            assert_eq!(found.2 & 0o722, right.2 & 0o722, "{path:?}");
        } else {
            assert_eq!(found, right, "{path:?}");
        }
    }
}

// Issue 10, line 34.
#[test]
fn what_a_copy_that_follows_symlinks_leaves_is_told_with_what_to_do() {
    let way = Way::new();
    let current = way.host().current();
    let generation = way.chroot().join("generation");
    let id = fs::read_link(&generation).unwrap();
    fs::remove_file(&generation).unwrap();
    fs::write(&generation, id.as_os_str().as_encoded_bytes()).unwrap();
    let told = way.apply(Depth::Top, Rule::mend).problems;
    assert!(
        told.iter()
            .any(|problem| problem.place == generation.display().to_string()
                && problem.advice.contains("bento restore")),
        "{told:?}"
    );
    fs::remove_file(&current).unwrap();
    fs::create_dir(&current).unwrap();
    let told = way.apply(Depth::Top, Rule::mend).problems;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].place, current.display().to_string());
    assert!(told[0].what.contains("symlink"), "{told:?}");
    assert_eq!(told[0].host, Some(way.name.clone()));
}

// Issue 10, line 34.
#[test]
fn a_tree_that_is_wrong_throughout_is_one_problem_of_its_machine() {
    let way = Way::new();
    let files = ["manifest.json", "bundle.tar.gz", "config"];
    for path in files.map(|file| way.chroot().join(file)) {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let (state, runtime) = (&way.kept.state, &way.kept.runtime);
    let found = of_host(state, runtime, &way.name, gid(), Depth::Top, Rule::check).problems;
    assert_eq!(found.len(), 1, "{found:?}");
    let what = &found[0].what;
    assert!(what.ends_with(", and 2 more paths are wrong"), "{what}");
    assert!(found[0].advice.contains("half a minute"), "{found:?}");
}

// Issue 10, line 34.
#[test]
fn the_modes_of_a_new_mount_are_set_right_without_a_word() {
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
    let way = Way::new();
    let cut_off = way.host().publications().join("0");
    fs::create_dir_all(cut_off.join("chroot")).unwrap();
    let summary = way.apply(Depth::Everything, Rule::mend);
    assert_eq!(summary.problems, []);
    fs::remove_dir(way.chroot().join("logs")).unwrap();
    let summary = way.apply(Depth::Everything, Rule::mend);
    assert_eq!(summary.problems.len(), 1, "the current one needs its inbox");
}
