//! Man pages and completions, as a package installs them.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

use std::path::Path;
use std::process::Command;

fn install(prefix: &Path) {
    let status = Command::new(env!("CARGO_BIN_EXE_bento-manual"))
        .arg("install")
        .arg(prefix)
        .status()
        .unwrap();
    assert!(status.success());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn every_command_that_is_shown_has_a_page() {
    let prefix = tempfile::tempdir().unwrap();
    install(prefix.path());
    let pages = names(&prefix.path().join("share/man/man1"));
    for page in [
        "bento.1",
        "bento-status.1",
        "bento-host-add.1",
        "bento-client-update.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "{page} in {pages:?}");
    }
    let hidden = pages.iter().find(|name| name.contains("published"));
    assert_eq!(hidden, None);
}

#[test]
fn a_shell_completes_the_commands() {
    let prefix = tempfile::tempdir().unwrap();
    install(prefix.path());
    let script = prefix
        .path()
        .join("share/bash-completion/completions/bento");
    let complete = format!(
        ". {}; COMP_WORDS=(bento sta); COMP_CWORD=1; _bento bento sta bento; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let output = Command::new("bash")
        .arg("-c")
        .arg(complete)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "status");
    for (folder, name) in [
        ("share/zsh/site-functions", "_bento-client"),
        ("share/fish/vendor_completions.d", "bento-image.fish"),
    ] {
        let there = names(&prefix.path().join(folder));
        assert!(there.iter().any(|there| there == name), "{there:?}");
    }
}
