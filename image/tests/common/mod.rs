//! What the tests of this crate share.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use bento_tests::process::Output;

/// Runs a program of a tree with that tree as its root, and gives what it printed. The kernel and
/// the tree's own loader must find everything inside. A user namespace makes this possible for
/// anybody, as it does rootless podman.
pub fn run_inside<S: AsRef<OsStr>>(tree: &Path, arguments: impl IntoIterator<Item = S>) -> String {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--root"]);
    Output::of(command.arg(tree).args(arguments)).with(0).stdout
}
