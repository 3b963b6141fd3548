//! At the door: who is let in, and for what.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use bento_tests::{key, process, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::IsolationEnv;
use crate::machine::Machine;
use crate::{reports, states};

#[test]
fn there_is_no_shell_no_command_no_terminal_and_no_way_through() -> Result<()> {
    let env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
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
    // Forwardings that are asked for only when somebody comes to the client's own port.
    for forwarding in [
        ["-L", "PORT:127.0.0.1:2222"],
        ["-L", "PORT:/run/bento/socket"],
        ["-D", "PORT"],
    ] {
        let said = knock(&kikimora, forwarding)?;
        assert!(said.contains("open failed: "), "{forwarding:?}: {said}");
    }
    // To the client a refusal is the same as if there were no such socket.
    states::await_log(&env.appliance, "refused streamlocal port forward")?;
    let mut x11 = kikimora.subsystem(&["-Y"], "sftp");
    x11.env("DISPLAY", "127.0.0.1:99");
    let said = process::run(&mut x11, process::SHORT)?.stderr;
    assert!(said.contains("X11 forwarding request failed"), "{said}");
    let tunnel = kikimora.ssh(
        &["-N", "-w", "any:any", "-o", "ExitOnForwardFailure=yes"],
        &[],
    )?;
    assert_eq!(tunnel.code(), 255, "{}", tunnel.stderr);
    assert!(
        !tunnel.stderr.contains("Permission denied"),
        "{}",
        tunnel.stderr
    );
    for subsystem in ["shell", "netconf", "sftp-server", "/bin/sh", ""] {
        let mut command = kikimora.subsystem(&[], subsystem);
        let output = process::run(&mut command, process::SHORT)?;
        assert_ne!(output.code(), 0, "{subsystem:?}: {}", output.stdout);
        let refusals = ["", "This service allows sftp connections only.\n"];
        assert!(
            refusals.contains(&output.stdout.as_str()),
            "{}",
            output.stdout
        );
    }
    a_connection_is_one_session(&env, &kikimora)?;
    // The door itself is open, or none of this would say anything.
    kikimora.sftp("ls /")?.success()?;
    Ok(())
}

/// Comes to a port that ssh forwards to somewhere behind the server, and gives what ssh says to it.
fn knock(machine: &Machine, forwarding: [&str; 2]) -> Result<String> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let [option, target] = forwarding;
    let target = target.replace("PORT", &port.to_string());
    // The client lives as long as its input.
    let mut ssh = machine.subsystem(
        &["-v", option, &target, "-o", "ExitOnForwardFailure=yes"],
        "sftp",
    );
    ssh.stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = ssh.spawn()?;
    let mut visitor = wait::until("the client to listen", process::SHORT, || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    })?;
    visitor.set_read_timeout(Some(process::SHORT))?;
    if option == "-D" {
        // SOCKS 5, no authentication; then: connect to 127.0.0.1, port 2222.
        visitor.write_all(&[5, 1, 0])?;
        visitor.read_exact(&mut [0; 2])?;
        visitor.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, 8, 174])?;
    }
    // A reset is an end, too.
    let mut heard = Vec::new();
    let _ = visitor.read_to_end(&mut heard);
    drop(child.stdin.take());
    let said = child.wait_with_output()?;
    ensure!(
        !heard.windows(4).any(|word| word == b"SSH-"),
        "it got through"
    );
    Ok(String::from_utf8_lossy(&said.stderr).into_owned())
}

/// While a session is open, its connection gives no second one.
fn a_connection_is_one_session(env: &IsolationEnv, machine: &Machine) -> Result<()> {
    let control = format!("ControlPath={}", env.own("control"));
    let mut master = machine.subsystem(&["-M", "-o", &control], "sftp");
    let mut child = master.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    wait::until("the connection to be shared", process::SHORT, || {
        Path::new(&env.own("control")).exists().then_some(())
    })?;
    let shared = ["-o", &control, "-o", "ControlMaster=no"];
    let mut check = machine.subsystem(&[&shared[..], &["-O", "check"]].concat(), "sftp");
    process::run(&mut check, process::SHORT)?.success()?;
    // Denied there, the client would go on by itself, with a connection of its own.
    let mut second = machine.subsystem(
        &[&shared[..], &["-o", "ProxyCommand=false"]].concat(),
        "sftp",
    );
    let output = process::run(&mut second, process::SHORT)?;
    assert_eq!(output.code(), 255, "{}", output.stderr);
    assert!(
        output.stderr.contains("Session open refused by peer"),
        "{}",
        output.stderr
    );
    drop(child.stdin.take());
    child.wait()?;
    Ok(())
}

#[test]
fn only_its_own_key_opens_a_machines_door() -> Result<()> {
    let env = IsolationEnv::new()?;
    let keys = &env.fleet;
    let stranger = TempDir::new()?;
    let strange = stranger.path().join("key");
    key::make(&strange, "stranger")?;

    let attempt =
        |name: &str, key: &Path| Machine::with_key(name, key, &env.appliance).sftp("ls /");
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
    // The outside can't find out whether there is a machine of a name.
    let said =
        |name: &str| Ok::<_, anyhow::Error>(attempt(name, &strange)?.stderr.replace(name, "NAME"));
    assert_eq!(said("domovoi")?, said("leshy")?);
    Ok(())
}

#[test]
fn a_machine_that_is_removed_is_thrown_out_and_let_in_no_more() -> Result<()> {
    let mut env = IsolationEnv::new()?;
    let (kikimora, domovoi) = (env.machine("kikimora"), env.machine("domovoi"));
    let session = domovoi.log_in()?;
    session.poll()?;
    env.fleet.forget("domovoi")?;
    domovoi.await_dismissal()?;
    wait::until("its session to end", process::SHORT, || {
        session.poll().is_err().then_some(())
    })?;
    kikimora.pull()?;
    Ok(())
}

/// A report of which the beginning is there.
const BEGUN: &str = "/logs/0198c0de-0000-7000-8000-000000000000.1.report.gz";

/// Whose files those of a machine are.
fn account(env: &IsolationEnv, name: &str) -> Result<u32> {
    let host = env.appliance.host_folder(name)?;
    Ok(fs::metadata(host.join("current/"))?.gid())
}

/// Lets kikimora report, begin another report, and be removed from the fleet while its session is open.
fn remove_after_a_report(env: &mut IsolationEnv, kikimora: &Machine) -> Result<()> {
    let open = kikimora.log_in()?;
    open.leave(&reports::success(open.poll()?))?;
    states::await_word(&env.appliance, "kikimora", "up-to-date")?;
    // What it leaves last isn't read any more: it could still be being written.
    open.put(BEGUN, &[0x1f, 0x8b, 8])?;
    env.fleet.forget("kikimora")?;
    kikimora.await_dismissal()?;
    let state = env.appliance.state_folder()?;
    wait::until("its sessions to end", process::SHORT, || {
        let accounts = fs::read_to_string(state.join("accounts.json")).ok()?;
        (!accounts.contains("leaving")).then_some(())
    })?;
    assert!(!state.join("hosts/kikimora").exists());
    assert!(open.poll().is_err(), "its session is still open");
    // Neither what was published nor a secret.
    let kept = fs::read_dir(state.join("removed/kikimora"))?;
    let mut kept: Vec<_> = kept
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    kept.sort();
    assert_eq!(kept, ["reports", "seen", "summary.json"]);
    let status = env.appliance.status_json()?;
    assert_eq!(status["removed"][0]["name"], "kikimora", "{status}");
    Ok(())
}

// Issue 10, lines 13 and 27.
#[test]
fn a_machine_that_comes_back_with_its_key_goes_on_as_it_was() -> Result<()> {
    let mut env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
    let old_account = account(&env, "kikimora")?;
    remove_after_a_report(&mut env, &kikimora)?;

    env.fleet.host("kikimora", |_| Ok(()))?;
    let status = states::await_word(&env.appliance, "kikimora", "up-to-date")?;
    assert_eq!(status["runs"], 1);
    let again = kikimora.await_admission()?;
    assert_eq!(account(&env, "kikimora")?, old_account);
    assert!(again.modified(BEGUN).is_err());
    assert_eq!(again.pull()?.text("config/configuration.nix"), "kikimora's");
    let status = env.appliance.status_json()?;
    assert_eq!(status["removed"], json!([]));
    Ok(())
}

#[test]
fn a_name_that_is_added_again_with_another_key_is_a_new_machine() -> Result<()> {
    let mut env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
    let old_account = account(&env, "kikimora")?;
    remove_after_a_report(&mut env, &kikimora)?;

    let key = env.fleet.key("kikimora");
    fs::remove_file(key.with_added_extension("pub"))?;
    fs::remove_file(&key)?;
    env.fleet.host("kikimora", |_| Ok(()))?;
    let kikimora = env.machine("kikimora");
    let status = states::await_word(&env.appliance, "kikimora", "new")?;
    for unknown in ["reported", "seen"] {
        assert_eq!(status[unknown], Value::Null, "{status}");
    }
    assert_eq!(status["runs"], 0);
    let again = kikimora.await_admission()?;
    assert!(again.modified(BEGUN).is_err());
    assert_eq!(again.pull()?.text("config/configuration.nix"), "kikimora's");
    assert_ne!(account(&env, "kikimora")?, old_account);
    let kept = env.appliance.state_folder()?.join("removed/kikimora");
    assert!(!kept.exists());
    Ok(())
}

// Issue 10, line 13.
#[test]
fn a_machine_that_is_to_be_forgotten_is_and_comes_back_as_a_new_one() -> Result<()> {
    let mut env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
    remove_after_a_report(&mut env, &kikimora)?;
    let at = jiff::Timestamp::now();
    let record = json!({"format": 1, "at": at.to_string()});
    env.fleet
        .write(".bento/forgotten/kikimora.json", record.to_string())?;
    let kept = env.appliance.state_folder()?.join("removed/kikimora");
    wait::until("it to be forgotten", process::SHORT, || {
        (!kept.exists()).then_some(())
    })?;
    let status = env.appliance.status_json()?;
    assert_eq!(status["removed"], json!([]));
    env.fleet.host("kikimora", |_| Ok(()))?;
    kikimora.await_admission()?;
    states::await_word(&env.appliance, "kikimora", "new")?;
    Ok(())
}

#[test]
fn nothing_about_the_keys_and_ciphers_is_known_to_be_weak() -> Result<()> {
    let env = IsolationEnv::new()?;
    let audit = |options: &[&str]| {
        let mut audit = Command::new("ssh-audit");
        let port = env.appliance.port().to_string();
        audit.args(options).args(["-p", &port, "127.0.0.1"]);
        process::run(&mut audit, process::SHORT)
    };
    let report = audit(&["-n"])?;
    // 2 is a warning; 3 would be a failure, and 1 that it couldn't connect.
    assert!([0, 2].contains(&report.code()), "{}", report.stdout);
    assert!(
        report.stdout.contains("(kex) curve25519-sha256 "),
        "{}",
        report.stdout
    );
    assert!(!report.stdout.contains("[fail]"), "{}", report.stdout);
    let offer: Value = serde_json::from_str(&audit(&["-j"])?.stdout)?;
    let first = offer["kex"][0]["algorithm"].as_str().unwrap_or_default();
    let withstands_quantum_computers = ["mlkem768", "sntrup761"];
    assert!(
        withstands_quantum_computers
            .iter()
            .any(|name| first.starts_with(name)),
        "{offer}"
    );
    let host_keys: Vec<_> = offer["key"].as_array().into_iter().flatten().collect();
    assert_eq!(host_keys, [&json!({"algorithm": "ssh-ed25519"})]);
    Ok(())
}

/// Some seconds of compressing on any machine.
const MUCH: usize = 40 << 20;

#[test]
fn a_machine_that_is_removed_is_out_before_anything_else_is_published() -> Result<()> {
    let mut env = IsolationEnv::new()?;
    let (kikimora, domovoi) = (env.machine("kikimora"), env.machine("domovoi"));
    let session = kikimora.log_in()?;
    let old = session.poll()?;
    env.fleet.forget("domovoi")?;
    let mut noise = vec![0; MUCH];
    fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
    env.fleet.write("hosts/kikimora/noise", noise)?;
    domovoi.await_dismissal()?;
    assert_eq!(kikimora.log_in()?.poll()?, old, "it was published before");
    Ok(())
}

#[test]
fn a_key_that_is_replaced_opens_nothing_any_more() -> Result<()> {
    let env = IsolationEnv::new()?;
    let old = env.machine("kikimora");
    let public = |name: &str| {
        let path = env.fleet.key(name).with_added_extension("pub");
        Ok::<_, anyhow::Error>(fs::read_to_string(path)?.trim().to_owned())
    };
    let settings = fs::read_to_string(env.fleet.path().join("fleet.toml"))?;
    let (kikimoras, domovois) = (public("kikimora")?, public("domovoi")?);
    // Each gets the key of the other.
    let swapped = settings
        .replace(&kikimoras, "KEY")
        .replace(&domovois, &kikimoras)
        .replace("KEY", &domovois);
    env.fleet.write("fleet.toml", swapped)?;
    old.await_dismissal()?;
    let new = Machine::with_key("kikimora", &env.fleet.key("domovoi"), &env.appliance);
    assert_eq!(new.pull()?.text("config/configuration.nix"), "kikimora's");
    Ok(())
}

/// More than the lines that are written of them in a minute.
const STRANGERS: usize = 100;

#[test]
fn strangers_do_not_fill_the_log() -> Result<()> {
    let env = IsolationEnv::new()?;
    let lines = || {
        let log = env.appliance.logs()?;
        anyhow::Ok(log.lines().filter(|line| line.contains("sshd: ")).count())
    };
    let before = lines()?;
    for _ in 0..STRANGERS {
        let mut stranger = TcpStream::connect(env.appliance.address())?;
        stranger.write_all(b"SSH-2.0-stranger\r\n")?;
        // Who has gone before there is an sshd for it causes no line.
        stranger.read_exact(&mut [0])?;
        stranger.shutdown(Shutdown::Write)?;
        stranger.read_to_end(&mut Vec::new())?;
    }
    let said = lines()? - before;
    assert!((1..STRANGERS).contains(&said), "{said} lines");
    // The status of known machines is complete, also now.
    env.machine("kikimora").log_in()?.poll()?;
    states::await_log(&env.appliance, "Accepted publickey for kikimora")?;
    Ok(())
}
