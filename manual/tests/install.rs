//! Man pages and completions, as a package installs them.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

use std::path::Path;
use std::process::Command;

use bento_manual::pages::EXAMPLES;
use bento_manual::programs;

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
fn every_visible_command_has_a_page() {
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

// Issue 10, line 43.
#[test]
fn pages_have_all_sections_and_valid_examples() {
    let prefix = tempfile::tempdir().unwrap();
    install(prefix.path());
    let page = |name: &str| {
        std::fs::read_to_string(prefix.path().join("share/man/man1").join(name)).unwrap()
    };
    let status = page("bento-status.1");
    for part in [
        ".SH EXAMPLES\n",
        "bento status \\-\\-watch",
        ".SH STATES\n",
        "\\fBrebuild\\-pending\\fR",
        ".SH \"EXIT STATUS\"\n",
        ".SH FILES\n",
        ".SH ENVIRONMENT\n",
        "\\fBBENTO_DIR\\fR",
    ] {
        assert!(status.contains(part), "{part:?} isn't in {status}");
    }
    assert!(page("bento-client-update.1").contains("another run holds the lock"));
    assert!(!page("bento-client-update.1").contains("BENTO_DIR"));
    for (page, line, _) in EXAMPLES {
        let words = line.split(' ').map(str::to_owned);
        let name = line.split(' ').next().unwrap();
        let program = programs()
            .into_iter()
            .find(|program| program.get_name() == name);
        let parsed = program.unwrap().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        let pages = names(&prefix.path().join("share/man/man1"));
        assert!(pages.contains(&format!("{page}.1")), "{page}");
    }
}

// Issue 10, line 43.
#[test]
fn hidden_arguments_are_not_completed() {
    let prefix = tempfile::tempdir().unwrap();
    install(prefix.path());
    for path in [
        "share/bash-completion/completions/bento",
        "share/bash-completion/completions/bento-client",
        "share/zsh/site-functions/_bento",
        "share/fish/vendor_completions.d/bento.fish",
    ] {
        let text = std::fs::read_to_string(prefix.path().join(path)).unwrap();
        for hidden in ["settle-secrets", "behind", "--root"] {
            assert!(!text.contains(hidden), "{hidden} in {path}");
        }
    }
}

#[test]
fn a_shell_completes_the_commands() {
    let prefix = tempfile::tempdir().unwrap();
    install(prefix.path());
    let script = prefix
        .path()
        .join("share/bash-completion/completions/bento-client");
    let complete = format!(
        ". {}; set -- $(complete -p bento-client); while [ \"$1\" != -F ]; do shift; done; \
         COMP_WORDS=(bento-client sta); COMP_CWORD=1; \"$2\" bento-client sta bento-client; echo \"${{COMPREPLY[@]}}\"",
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
