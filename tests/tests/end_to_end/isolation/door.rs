//! At the door: who is let in, and for what.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bento_tests::{process, wait};
use tempfile::TempDir;

use super::Ground;
use crate::machine::Machine;

#[test]
fn there_is_no_shell_no_command_no_terminal_and_no_way_through() -> Result<()> {
    let ground = Ground::new()?;
    let kikimora = ground.machine("kikimora");
    for command in [&["echo", "escaped"][..], &["/usr/bin/bento", "--version"]] {
        let output = kikimora.ssh(&[], command)?;
        let said = output.stdout.clone() + &output.stderr;
        assert!(
            !said.contains("escaped") && !said.contains("bento"),
            "{said}"
        );
    }
    let terminal = kikimora.ssh(&["-tt"], &[])?;
    assert!(
        terminal.stderr.contains("PTY allocation request failed"),
        "{}",
        terminal.stderr
    );
    let listening = ["-N", "-o", "ExitOnForwardFailure=yes", "-R"];
    for (forwarding, refusal) in [
        (vec!["-W", "127.0.0.1:2222"], "forwarding failed"),
        (
            [&listening[..], &["0:127.0.0.1:1"]].concat(),
            "forwarding failed",
        ),
        (
            [&listening[..], &["/tmp/socket:127.0.0.1:1"]].concat(),
            "forwarding failed",
        ),
    ] {
        let output = kikimora.ssh(&forwarding, &[])?;
        assert_eq!(output.code(), 255, "{forwarding:?}: {}", output.stdout);
        assert!(
            output.stderr.contains(refusal),
            "{forwarding:?}: {}",
            output.stderr
        );
    }
    // The door itself is open, or none of this would say anything.
    kikimora.sftp("ls /")?.success()?;
    Ok(())
}

#[test]
fn only_its_own_key_opens_a_machines_door() -> Result<()> {
    let ground = Ground::new()?;
    let keys = &ground.fleet;
    let stranger = TempDir::new()?;
    let strange = stranger.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&strange);
    process::run(&mut keygen, process::SHORT)?.success()?;

    let attempt =
        |name: &str, key: &Path| Machine::with_key(name, key, &ground.appliance).sftp("ls /");
    attempt("kikimora", &keys.key("kikimora"))?.success()?;
    for (name, key) in [
        ("kikimora", strange.clone()),
        ("kikimora", keys.key("domovoi")),
        ("domovoi", keys.key("kikimora")),
        ("root", keys.key("kikimora")),
        ("sshd", keys.key("kikimora")),
        ("Kikimora", keys.key("kikimora")),
        ("kikimora/../domovoi", keys.key("kikimora")),
    ] {
        let output = attempt(name, &key)?;
        assert_eq!(output.code(), 255, "{name} got in: {}", output.stdout);
        assert!(
            output.stderr.contains("Permission denied (publickey)"),
            "{name}: {}",
            output.stderr
        );
    }
    // Whether there is a machine of a name can't be told from the outside.
    let said =
        |name: &str| Ok::<_, anyhow::Error>(attempt(name, &strange)?.stderr.replace(name, "NAME"));
    assert_eq!(said("domovoi")?, said("leshy")?);
    Ok(())
}

#[test]
fn a_machine_that_is_removed_is_thrown_out_and_let_in_no_more() -> Result<()> {
    let mut ground = Ground::new()?;
    let (kikimora, domovoi) = (ground.machine("kikimora"), ground.machine("domovoi"));
    let session = domovoi.log_in()?;
    session.poll()?;
    ground.fleet.forget("domovoi")?;
    domovoi.await_dismissal()?;
    wait::until("its session to end", process::SHORT, || {
        session.poll().is_err().then_some(())
    })?;
    kikimora.pull()?;
    Ok(())
}

#[test]
fn a_key_that_is_replaced_opens_nothing_any_more() -> Result<()> {
    let ground = Ground::new()?;
    let old = ground.machine("kikimora");
    let public = |name: &str| {
        let path = ground.fleet.key(name).with_added_extension("pub");
        Ok::<_, anyhow::Error>(fs::read_to_string(path)?.trim().to_owned())
    };
    let settings = fs::read_to_string(ground.fleet.path().join("fleet.toml"))?;
    let (kikimoras, domovois) = (public("kikimora")?, public("domovoi")?);
    // Each gets the key of the other.
    let swapped = settings
        .replace(&kikimoras, "KEY")
        .replace(&domovois, &kikimoras)
        .replace("KEY", &domovois);
    ground.fleet.write("fleet.toml", swapped)?;
    old.await_dismissal()?;
    let new = Machine::with_key("kikimora", &ground.fleet.key("domovoi"), &ground.appliance);
    assert_eq!(new.pull()?.text("config/configuration.nix"), "kikimora's");
    Ok(())
}
