//! Namespaces of a test's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bento_appliance::store::paths::Runtime;
use nix::mount::{MsFlags, mount};

const MARK: &str = "BENTO_APPLIANCE_TEST";
/// Whatever the tests wait for comes much sooner.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the body of a test in mount and process namespaces, and in those of these `kinds` (options of unshare): this
/// binary once more, for that test alone. `F` is the closure that the test itself wrote.
pub fn apart<F>(kinds: &[&str], body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    // The closure's name holds the test's: binary::module::test::{{closure}}.
    let closure = std::any::type_name::<F>();
    let (_, test) = closure
        .trim_end_matches("::{{closure}}")
        .split_once("::")
        .unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(kinds)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
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

/// Makes `/etc` and `/run` as bare as in the container, with a file system in memory at `root` for all else.
pub fn make_bare(root: &Path, runtime: &Runtime) {
    for target in [Path::new("/run"), root] {
        let options = Some("mode=755");
        mount(
            Some("tmpfs"),
            target,
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .unwrap();
    }
    let etc = root.join("etc");
    fs::create_dir(&etc).unwrap();
    fs::copy("/etc/ld.so.cache", etc.join("ld.so.cache")).unwrap();
    for (path, name) in [
        (runtime.passwd(), "passwd"),
        (runtime.group(), "group"),
        (runtime.shadow(), "shadow"),
    ] {
        symlink(path, etc.join(name)).unwrap();
    }
    let nothing = None::<&str>;
    mount(Some(&etc), "/etc", nothing, MsFlags::MS_BIND, nothing).unwrap();
}

/// Waits for something that must come, however slow this machine is.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
