//! The appliance as a container: what is in its image, what it may do, how it starts and stops.

mod access;
mod health;
mod host_key;
mod orphans;
mod refusal;
mod sshd;
mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options, artifacts, wait};
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::Machine;
use crate::{image, reports, states};

/// What DESIGN lets it have, at most.
const CAPABILITIES: [&str; 7] = [
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_SYS_CHROOT",
    "CAP_CHOWN",
    "CAP_FOWNER",
    "CAP_DAC_OVERRIDE",
    "CAP_KILL",
];

fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    fleet.host("kikimora", |host| {
        host.file("configuration.nix", "{ }")?;
        Ok(())
    })?;
    Ok(fleet)
}

#[test]
fn the_image_is_at_most_ten_megabytes() -> Result<()> {
    let bytes = fs::metadata(artifacts::image()?)?.len();
    assert!(bytes <= 10_000_000, "it has {bytes} bytes");
    Ok(())
}

#[test]
fn the_image_holds_bento_openssh_and_libraries_and_nothing_else() -> Result<()> {
    image::holds_only_what_it_needs(&artifacts::image()?)
}

#[test]
fn it_keeps_the_seven_capabilities_and_drops_what_else_it_is_granted() -> Result<()> {
    let fleet = fleet()?;
    let granted = ["CAP_NET_RAW", "CAP_SYS_PTRACE"];
    // The bounding set holds what could be gained, and only with SETPCAP can it be made smaller.
    drops(&fleet, "NET_RAW,SYS_PTRACE", &granted)?;
    drops(&fleet, "NET_RAW,SYS_PTRACE,SETPCAP", &[])
}

/// Grants more, and sees all of it dropped; what is left in the bounding set is the seven and `left`.
fn drops(fleet: &Fleet, granted: &str, left: &[&str]) -> Result<()> {
    let options = Options {
        podman: vec![format!("--cap-add={granted}")],
        ..Options::default()
    };
    let appliance = Appliance::start(fleet.path(), options)?;
    let output = appliance.exec(["health", "--verbose"])?.success()?.stdout;
    let sets: BTreeMap<&str, Vec<&str>> = output
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(set, names)| (set, names.split(' ').collect()))
        .collect();
    for (set, left) in [
        ("effective", &[][..]),
        ("permitted", &[]),
        ("bounding", left),
    ] {
        let kept: BTreeSet<_> = sets[set].iter().copied().collect();
        let expected = CAPABILITIES.iter().chain(left).copied().collect();
        assert_eq!(kept, expected, "{set}: {output}");
    }
    for set in ["inheritable", "ambient"] {
        assert_eq!(sets[set], ["none"], "{output}");
    }
    assert_eq!(sets["no-new-privileges"], ["yes"], "{output}");
    Ok(())
}

#[test]
fn it_is_ready_when_the_first_publication_is_done_and_not_before() -> Result<()> {
    let fleet = fleet()?;
    let good = fs::read(fleet.path().join("fleet.toml"))?;
    fleet.write("fleet.toml", "this isn't a fleet")?;
    let systemd = Systemd::listen()?;
    let options = Options {
        notify_socket: Some(systemd.path()),
        ..Options::default()
    };
    let appliance = Appliance::launch(fleet.path(), options)?;
    states::await_log(&appliance, "fleet.toml:1: ")?;
    let health = appliance.exec(["health"])?;
    assert_eq!(health.code(), 1, "{}", health.stdout);
    assert!(
        health.stderr.contains("the first publication isn't done"),
        "{}",
        health.stderr
    );
    assert!(!systemd.was_sent("READY=1")?);

    fleet.write("fleet.toml", good)?;
    systemd.await_word("READY=1")?;
    appliance.exec(["health"])?.success()?;
    Machine::of(&fleet, "kikimora", &appliance).pull()?;
    Ok(())
}

/// The end of $NOTIFY_SOCKET that systemd holds.
struct Systemd {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Systemd {
    fn listen() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let socket = UnixDatagram::bind(folder.path().join("notify"))?;
        fs::set_permissions(folder.path().join("notify"), Permissions::from_mode(0o666))?;
        socket.set_nonblocking(true)?;
        Ok(Systemd { folder, socket })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// Whether a word is among what was sent since the last call.
    fn was_sent(&self, word: &str) -> Result<bool> {
        let mut found = false;
        let mut message = [0; 4096];
        loop {
            match self.socket.recv(&mut message) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&message[..length]);
                    found |= text.lines().any(|line| line == word);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(found),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn await_word(&self, word: &str) -> Result<()> {
        wait::until(word, Duration::from_secs(60), || {
            match self.was_sent(word) {
                Ok(false) => None,
                other => Some(other.map(drop)),
            }
        })?
    }
}

#[test]
fn its_key_its_generations_and_its_reports_survive_a_restart() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    let session = machine.log_in()?;
    session.leave(&reports::success(session.poll()?))?;
    drop(session);
    let before = states::await_runs(&appliance, "kikimora", 1)?;
    let (key, generation) = (appliance.host_key()?, machine.pull()?);

    assert_eq!(appliance.stop()?, 0);
    appliance.restart()?;
    assert_eq!(appliance.host_key()?, key);
    assert_eq!(machine.pull()?, generation);
    let mut after = states::of(&appliance, "kikimora")?;
    // The pull above was a contact.
    after["seen"] = before["seen"].clone();
    assert_eq!(after, before);
    Ok(())
}

#[test]
fn a_session_may_come_to_its_end_before_the_container_stops() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    let session = machine.log_in()?;
    let report = reports::success(session.poll()?);
    thread::scope(|scope| {
        let stop = scope.spawn(|| appliance.stop());
        machine.await_dismissal()?;
        session.leave(&report)?;
        drop(session);
        assert_eq!(stop.join().unwrap()?, 0);
        anyhow::Ok(())
    })?;
    appliance.restart()?;
    states::await_word(&appliance, "kikimora", "up-to-date")?;
    Ok(())
}

#[test]
fn of_two_appliances_with_one_state_the_second_refuses_to_start() -> Result<()> {
    let fleet = fleet()?;
    let first = Appliance::start(fleet.path(), Options::default())?;
    let options = Options {
        state_of: Some(first.name().to_owned()),
        ..Options::default()
    };
    let second = Appliance::launch(fleet.path(), options)?;
    assert_eq!(second.exit_code()?, 1);
    let log = second.logs()?;
    assert!(log.contains("/state is used by another appliance"), "{log}");
    Machine::of(&fleet, "kikimora", &first).pull()?;
    Ok(())
}

#[test]
fn with_another_host_key_than_fleet_toml_names_it_refuses_to_start() -> Result<()> {
    let mut fleet = fleet()?;
    let another = fs::read_to_string(fleet.key("kikimora").with_added_extension("pub"))?;
    let address = "address = \"127.0.0.1\"";
    fleet.server(&format!("{address}\nhost_keys = [\"{}\"]", another.trim()))?;
    let appliance = Appliance::launch(fleet.path(), Options::default())?;
    assert_eq!(appliance.exit_code()?, 1);
    let log = appliance.logs()?;
    assert!(
        log.contains("host_keys") && log.contains("SHA256:"),
        "{log}"
    );
    Ok(())
}

#[test]
fn its_log_can_be_a_json_object_an_event() -> Result<()> {
    let options = Options {
        command: ["serve", "--log-format", "json"]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    };
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), options)?;
    let log = appliance.logs()?;
    let events: Vec<Value> = log
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| log.clone())?;
    let published = events.iter().find(|event| event["message"] == "published");
    let published = published.with_context(|| log.clone())?;
    assert_eq!(published["host"], "kikimora");
    assert_eq!(published["level"], "INFO");
    Ok(())
}
