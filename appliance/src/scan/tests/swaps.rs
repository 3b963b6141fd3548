//! Symlinks and folders that are swapped while they are followed and read.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;
use crate::generation;

/// The texts inside the fleet folder, which may be read.
const INSIDE: [&str; 2] = ["inside", "another inside"];
const CANARY: &str = "from outside";
/// The number of walks of the tree.
const ROUNDS: usize = 1000;
/// The number of swaps of two names before a pause; even, so that each is at its own place then.
const SWAPS: usize = 2000;
const REST: Duration = Duration::from_millis(1);

/// A fleet folder, and a folder outside of it.
struct SwapEnv {
    place: TempDir,
}

impl SwapEnv {
    fn new() -> Self {
        let env = SwapEnv {
            place: tempfile::tempdir().unwrap(),
        };
        write(&env.fleet(), "hosts/a/flake.nix", INSIDE[0]);
        write(&env.fleet(), "shared/x.nix", INSIDE[1]);
        write(&env.fleet(), "bento-secrets/b/x.nix", CANARY);
        write(env.place.path(), "outside/x.nix", CANARY);
        env
    }

    fn fleet(&self) -> PathBuf {
        self.place.path().join("fleet")
    }

    /// Walks and reads the machine's folder while pairs of names in it are swapped all the time. Checks that every text
    /// is from the fleet folder, and returns their number.
    fn read_while_swapping(&self, pairs: &[(PathBuf, PathBuf)]) -> usize {
        let fleet = FleetFolder::open(&self.fleet()).unwrap();
        let (name, host) = ("a".parse().unwrap(), host(""));
        let done = &AtomicBool::new(false);
        thread::scope(|scope| {
            for (one, other) in pairs {
                scope.spawn(move || {
                    let swap = || renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
                    while !done.load(Ordering::Relaxed) {
                        for _ in 0..SWAPS {
                            swap().unwrap();
                        }
                        // During the pause: some of the walks must succeed.
                        thread::sleep(REST);
                    }
                });
            }
            let mut seen = BTreeSet::new();
            let mut whole = 0;
            for _ in 0..ROUNDS {
                let Ok(tree) = HostTree::walk(&fleet, &name, &host) else {
                    continue;
                };
                for file in tree.files() {
                    let mut text = Vec::new();
                    let read = generation::read(&fleet, file, |chunk| {
                        text.extend_from_slice(chunk);
                        Ok(())
                    });
                    if read.is_ok() {
                        whole += 1;
                        seen.insert(String::from_utf8(text).unwrap());
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(
                seen.iter().all(|text| INSIDE.contains(&text.as_str())),
                "{seen:?}"
            );
            whole
        })
    }

    fn in_fleet(&self, path: &str) -> PathBuf {
        self.fleet().join(path)
    }
}

#[test]
fn a_link_that_is_swapped_while_it_is_followed_never_leads_outside() {
    for (number, outside) in [
        "../../../outside",
        "../../../../../../../../../../etc",
        "/etc",
        "/proc/self/cwd",
        "/proc/self/root/etc",
        "../../bento-secrets/b",
    ]
    .into_iter()
    .enumerate()
    {
        let env = SwapEnv::new();
        let (link, other) = (
            env.in_fleet("hosts/a/link"),
            env.in_fleet(&format!("hosts/other-{number}")),
        );
        symlink("../../shared", &link).unwrap();
        symlink(outside, &other).unwrap();
        let file = (env.in_fleet("hosts/a/x.nix"), env.in_fleet("hosts/y"));
        symlink("../../shared/x.nix", &file.0).unwrap();
        symlink(format!("{outside}/x.nix"), &file.1).unwrap();
        let read = env.read_while_swapping(&[(link, other), file]);
        assert!(read > 0, "nothing was ever read with {outside}");
    }
}

#[test]
fn a_folder_that_is_swapped_for_a_link_while_it_is_walked_never_leads_outside() {
    let env = SwapEnv::new();
    write(&env.fleet(), "hosts/a/flake.nix", INSIDE[0]);
    write(&env.fleet(), "hosts/a/sub/x.nix", INSIDE[0]);
    write(&env.fleet(), "hosts/a/deep/sub/x.nix", INSIDE[0]);
    let pair = |inside: &str, outside: &str, target: &Path| {
        let link = env.in_fleet(outside);
        symlink(target, &link).unwrap();
        (env.in_fleet(inside), link)
    };
    let outside = env.place.path().join("outside");
    let pairs = [
        pair("hosts/a/sub", "hosts/one", &outside),
        pair(
            "hosts/a/deep/sub",
            "hosts/two",
            Path::new("../../../outside"),
        ),
        pair("hosts/a/deep", "hosts/three", env.place.path()),
        pair("hosts/a", "four", &outside),
    ];
    // In this order, because each is in the next.
    for pair in pairs {
        assert!(env.read_while_swapping(&[pair]) > 0);
    }
}
