//! Tests that run in namespaces of their own.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

/// Set in the environment of a test that runs in its namespaces.
const MARK: &str = "BENTO_TESTS_UNSHARED";

/// Runs the body of a test in mount and process namespaces, and in those of these `kinds` (options of unshare): this
/// binary once more, for that test alone. `F` is the closure that the test itself wrote.
///
/// # Panics
/// If the test fails there, or there is no test of that name.
pub fn inside<F>(kinds: &[&str], body: impl FnOnce()) {
    if env::var_os(MARK).is_some() {
        return body();
    }
    // The closure's name holds the test's: binary::module::test::{{closure}}.
    let closure = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, test) = closure.split_once("::").expect("a test of a binary");
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(kinds)
        .arg("--")
        .arg(env::current_exe().expect("a test has a binary"))
        .args(["--exact", "--nocapture", test])
        .env(MARK, "1")
        .output()
        .expect("unshare, of util-linux");
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    print!("{stdout}{stderr}");
    assert!(
        output.status.success(),
        "{test} failed in its namespaces; it must be run as root"
    );
    assert!(stdout.contains("1 passed"), "there is no test {test}");
}

/// Makes `/etc` and `/run` as bare as in the container, with accounts in `runtime`, and a file system in memory at
/// `root` for all else.
///
/// # Errors
/// If something can't be mounted.
pub fn make_bare(root: &Path, runtime: &Path) -> Result<()> {
    let nothing = None::<&str>;
    for target in [Path::new("/run"), root] {
        let (tmpfs, mode) = (Some("tmpfs"), Some("mode=755"));
        mount(tmpfs, target, tmpfs, MsFlags::empty(), mode)
            .with_context(|| format!("cannot mount {}", target.display()))?;
    }
    let etc = root.join("etc");
    fs::create_dir(&etc)?;
    fs::copy("/etc/ld.so.cache", etc.join("ld.so.cache"))?;
    for name in ["passwd", "group", "shadow"] {
        symlink(runtime.join(name), etc.join(name))?;
    }
    mount(Some(&etc), "/etc", nothing, MsFlags::MS_BIND, nothing).context("cannot mount /etc")
}
