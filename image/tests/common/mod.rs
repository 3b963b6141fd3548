//! What the tests of this crate share.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// Runs a program, and stops the test with all that it said when it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// Runs a program of a tree with that tree as its root, and gives what it printed. The kernel and
/// the tree's own loader must find everything inside. A user namespace makes this possible for
/// anybody, as it does rootless podman.
pub fn run_inside<S: AsRef<OsStr>>(tree: &Path, arguments: impl IntoIterator<Item = S>) -> String {
    let output = run(Command::new("unshare")
        .args(["--user", "--map-root-user", "--root"])
        .arg(tree)
        .args(arguments));
    String::from_utf8(output.stdout).unwrap()
}
