//! What `bento` offers a shell: the machines of the fleet, and nothing that its help hides.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

use std::fs;
use std::process::Command;

// Issue 10, line 43.
#[test]
fn machines_are_completed_and_hidden_options_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "[server]\naddress = \"x\"\n[hosts.kikimora]\n[hosts.kobold]\n[hosts.luna]\n";
    fs::write(folder.path().join("fleet.toml"), toml).unwrap();
    let offered = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_bento"))
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .env("_CLAP_IFS", "\n")
            .env("BENTO_DIR", folder.path())
            .arg("--")
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for words in [
        &["bento", "status", "k"][..],
        &["bento", "host", "rename", "k"],
        &["bento", "flake-update", "--host", "k"],
    ] {
        assert_eq!(offered(words), "kikimora\nkobold", "{words:?}");
    }
    let options = offered(&["bento", "host-key", "--"]);
    assert!(options.contains("--prepare"), "{options}");
    assert!(!options.contains("--behind"), "{options}");
}
