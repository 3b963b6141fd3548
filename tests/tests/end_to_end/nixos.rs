//! The NixOS module on whole machines, with the fleet that `bento init` writes: from the first contact to updates
//! that the timer's unit carries out.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use bento_tests::process::{self, Output};
use bento_tests::{Appliance, Fleet, Guest, Options, artifacts};

use crate::states;
use crate::vm::{SITE, configuration, exits, flake, stop_timers};

/// What a machine that isn't on the network says for its first update; the module says it for the others.
const NIX_ARGS: &str = r#"nix_args = ["--override-input", "nixpkgs", "path:/srv/nixpkgs-stand-in", "--override-input", "bento", "path:/srv/bento-stand-in"]"#;
/// The host key of an appliance that isn't there.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";
const SECRET: &str = "psk=nobody else's business";

/// The fleet of `bento init`, with the address of its appliance, as its README says.
struct Example {
    fleet: Fleet,
    appliance: Appliance,
    host_key: String,
}

impl Example {
    fn new() -> Result<Self> {
        let fleet = Fleet::new()?;
        fleet.remove("fleet.toml")?;
        let mut init = Command::new(artifacts::binary("bento")?);
        init.args(["init", "--address", "127.0.0.1"])
            .arg(fleet.path());
        process::run(&mut init, process::SHORT)?.success()?;
        fleet.write("bento-secrets/kikimora/wifi.env", SECRET)?;
        let appliance = Appliance::start(fleet.path(), Options::default())?;
        let host_key = appliance.host_key()?;
        let example = Example {
            fleet,
            appliance,
            host_key,
        };
        let port = format!("port = {}", example.appliance.port());
        example.edit(
            "fleet.toml",
            "port = 2222",
            &format!("{port}\nhost_keys = [\"{}\"]", example.host_key),
        )?;
        example.edit("utils/bento.nix", "port = 2222", &port)?;
        example.edit(
            "utils/bento.nix",
            "hostKeys = [ ]",
            &format!("hostKeys = [ \"{}\" ]", example.host_key),
        )?;
        Ok(example)
    }

    /// Replaces a text that a file has exactly once.
    fn edit(&self, path: &str, old: &str, new: &str) -> Result<()> {
        let text = fs::read_to_string(self.fleet.path().join(path))?;
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {path}: {text}");
        self.fleet.write(path, text.replace(old, new))
    }

    /// Boots a machine and lets it join the fleet, as its owner and the administrator would.
    fn join(&self, name: &str, first_settings: &str) -> Result<Guest> {
        let guest = Guest::boot()?;
        stop_timers(&guest)?;
        let server = self.appliance.address().to_string();
        let bootstrap = [
            "bento-client",
            "bootstrap",
            "--name",
            name,
            "--server",
            &server,
            "--host-key",
            &self.host_key,
        ];
        let said = guest.run(bootstrap)?.success()?.stdout;
        // It prints what the administrator must type.
        let enrol = said
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with("bento host add "));
        let enrol = enrol.with_context(|| said.clone())?;
        let answer = self.type_in(enrol)?.success()?.stdout;
        // What follows the key is its fingerprint.
        let key = self.host_key.rsplit_once(" SHA256:");
        let (key, _) = key.with_context(|| self.host_key.clone())?;
        assert!(answer.contains(key), "{answer}");
        let listed = self.type_in("bento host list")?.success()?.stdout;
        let line = listed.lines().find(|line| line.starts_with(name));
        assert!(
            line.is_some_and(|line| line.contains("SHA256:")),
            "{listed}"
        );

        let settings = guest.read_file("/etc/bento/client.toml")?;
        guest.put_file(
            "/etc/bento/client.toml",
            "644",
            format!("{first_settings}\n{settings}"),
        )?;
        let first = guest.run([&bootstrap[..], &["--wait"]].concat())?;
        exits(&first, 0);
        states::await_word(&self.appliance, name, "up-to-date")?;
        assert_eq!(guest.read_file("/etc/hostname")?.trim(), name);
        Ok(guest)
    }

    /// Runs a command line in the fleet's folder.
    fn type_in(&self, line: &str) -> Result<Output> {
        let programs: PathBuf = artifacts::binary("bento")?.with_file_name("");
        let mut shell = Command::new("sh");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH")?);
        shell
            .args(["-c", line])
            .env("PATH", path)
            // It belongs to podman's user, and this is root.
            .env("BENTO_DIR", self.fleet.path())
            .current_dir(self.fleet.path());
        let output = process::run(&mut shell, process::SHORT)?;
        self.fleet.give_away()?;
        Ok(output)
    }

    /// Edits a file and waits until that is published for a machine, whose generation was another one.
    fn publish(&self, name: &str, path: &str, old: &str, new: &str) -> Result<()> {
        let before = states::of(&self.appliance, name)?["published"].clone();
        self.edit(path, old, new)?;
        states::await_that(&self.appliance, name, "have another generation", |host| {
            host["published"] != before
        })?;
        Ok(())
    }
}

/// Runs the unit that the timer starts, until it has ended.
fn start_unit(guest: &Guest) -> Result<()> {
    let start = guest.run(["systemctl", "start", "bento-update.service"])?;
    if start.code() != 0 {
        let journal = guest.run(["journalctl", "--no-pager", "--unit", "bento-update"])?;
        anyhow::bail!("{}{}", start.stderr, journal.stdout);
    }
    Ok(())
}

fn property(guest: &Guest, unit: &str, name: &str) -> Result<String> {
    let output = guest.run(["systemctl", "show", "--value", "--property", name, unit])?;
    Ok(output.success()?.stdout.trim().to_owned())
}

#[test]
fn a_machine_joins_and_is_from_then_on_updated_by_its_own_unit() -> Result<()> {
    let example = Example::new()?;
    let guest = example.join("kikimora", NIX_ARGS)?;
    let status = || states::of(&example.appliance, "kikimora");

    // The settings are the module's now, and the timer runs.
    let settings = guest
        .run(["readlink", "-f", "/etc/bento/client.toml"])?
        .success()?
        .stdout;
    assert!(settings.starts_with("/nix/store/"), "{settings}");
    assert_eq!(
        property(&guest, "bento-update.timer", "ActiveState")?,
        "active"
    );
    assert_eq!(
        property(&guest, "bento-update.timer", "Unit")?,
        "bento-update.service"
    );

    // The secret came, for root alone, and no user finds it in the store.
    assert_eq!(guest.read_file("/var/lib/bento/secrets/wifi.env")?, SECRET);
    let reader =
        "setpriv --reuid=65534 --regid=65534 --clear-groups cat /var/lib/bento/secrets/wifi.env";
    assert_ne!(guest.shell(reader)?.code(), 0);
    let modes =
        guest.shell("stat -L -c '%a %U' /var/lib/bento/secrets /var/lib/bento/secrets/wifi.env")?;
    for mode in modes.success()?.stdout.lines() {
        let (bits, owner) = mode.split_once(' ').context("mode and owner")?;
        assert!(bits.ends_with("00") && owner == "root", "{mode}");
    }
    let in_store = guest.run(["grep", "-rlF", SECRET, "/nix/store", "/etc"])?;
    assert_eq!(
        (in_store.code(), in_store.stdout.as_str()),
        (1, ""),
        "{}",
        in_store.stderr
    );

    // A new generation changes the very unit that installs it.
    let configuration = "hosts/kikimora/configuration.nix";
    let plain = "  system.stateVersion = \"26.05\";\n";
    let mark = "  systemd.services.bento-update.environment.MARK = \"second\";\n";
    let marked = format!("{plain}{mark}");
    example.publish("kikimora", configuration, plain, &marked)?;
    assert_eq!(status()?["state"], "rebuild-pending");
    start_unit(&guest)?;
    assert_eq!(
        property(&guest, "bento-update.service", "Result")?,
        "success"
    );
    assert!(property(&guest, "bento-update.service", "Environment")?.contains("MARK=second"));
    states::await_word(&example.appliance, "kikimora", "up-to-date")?;

    // Issue 10, line 31: a typo in the client's settings costs a build, and not a switch.
    let (on, off) = ("enable = true;", "enable = false;");
    let typo = "enable = true; settings.tiemouts.connect = \"1m\";";
    example.publish("kikimora", "utils/bento.nix", on, typo)?;
    let refused = start_unit(&guest).unwrap_err().to_string();
    assert!(refused.contains("tiemouts"), "{refused}");
    let failing = states::await_word(&example.appliance, "kikimora", "failing")?;
    assert_eq!(failing["reported"]["outcome"], "build_failed");
    example.publish("kikimora", "utils/bento.nix", typo, on)?;

    // One without the client is refused, unless the machine's configuration has said before that it may leave.
    example.edit(configuration, mark, "")?;
    let free = "enable = true; guard = false;";
    example.publish("kikimora", "utils/bento.nix", on, off)?;
    let refused = start_unit(&guest).unwrap_err().to_string();
    assert!(refused.contains("never be updated again"), "{refused}");
    states::await_word(&example.appliance, "kikimora", "failing")?;
    example.publish("kikimora", "utils/bento.nix", off, free)?;
    start_unit(&guest)?;

    // That it removes its own unit doesn't stop it, either: it ends well, and its report arrives.
    example.publish("kikimora", "utils/bento.nix", free, off)?;
    start_unit(&guest)?;
    states::await_word(&example.appliance, "kikimora", "up-to-date")?;
    assert_ne!(
        guest.run(["test", "-e", "/etc/bento/client.toml"])?.code(),
        0
    );
    assert_eq!(
        property(&guest, "bento-update.service", "LoadState")?,
        "not-found"
    );
    Ok(())
}

// Issue 10, line 25.
#[test]
fn a_machine_that_waits_for_its_key_or_its_server_is_not_degraded() -> Result<()> {
    let guest = Guest::boot()?;
    stop_timers(&guest)?;
    // Nobody listens there.
    let site = format!(
        r#"{{ outputs = {{ ... }}: {{ module.services.bento-client = {{
          enable = true;
          name = "kikimora";
          servers = [ {{ address = "127.0.0.1"; port = 1; hostKeys = [ "{KEY}" ]; }} ];
        }}; }}; }}"#
    );
    guest.put_file(SITE, "644", site)?;
    guest.put_file("/root/config/flake.nix", "644", flake("kikimora"))?;
    let configuration = configuration("1", "");
    guest.put_file("/root/config/configuration.nix", "644", configuration)?;
    let switch = "nix build --no-write-lock-file --out-link /root/result \
        path:/root/config#nixosConfigurations.kikimora.config.system.build.toplevel &&
        /root/result/bin/switch-to-configuration switch";
    // Issue 10, line 23: its state lies on another disk.
    guest
        .shell("mkdir -m 700 /srv/disk; ln -s /srv/disk /var/lib/bento")?
        .success()?;
    guest.shell(switch)?.success()?;

    let journal = || -> Result<String> {
        let show = ["journalctl", "--no-pager", "--unit", "bento-update"];
        Ok(guest.run(show)?.success()?.stdout)
    };
    let is_said = |words: &str| -> Result<()> {
        start_unit(&guest)?;
        assert_ne!(
            property(&guest, "bento-update.service", "ActiveState")?,
            "failed"
        );
        let status = guest.run(["bento-client", "status"])?.success()?.stdout;
        for said in [status, journal()?] {
            assert!(said.contains(words), "{words:?} isn't in {said}");
        }
        Ok(())
    };
    is_said("this machine has no key yet")?;
    let key = "ssh-keygen -q -t ed25519 -N '' -f /var/lib/bento/id_ed25519";
    guest.shell(key)?.success()?;
    is_said("127.0.0.1:1 can't be reached")?;
    let running = guest.run(["systemctl", "is-system-running"])?;
    assert_eq!(running.stdout.trim(), "running");

    // Settings that can't be used are a fault.
    let broken = "rm /etc/bento/client.toml; echo nonsense >/etc/bento/client.toml";
    guest.shell(broken)?.success()?;
    assert!(start_unit(&guest).is_err());
    Ok(())
}

#[test]
fn a_machine_without_a_flake_is_built_from_its_channels() -> Result<()> {
    let example = Example::new()?;
    let guest = example.join("pi", "")?;
    let first = guest
        .run(["readlink", "-f", "/run/current-system"])?
        .success()?
        .stdout;
    let renamed = "\"pi-2\"; services.bento-client.name = \"pi\"";
    example.publish("pi", "hosts/pi/configuration.nix", "\"pi\"", renamed)?;
    start_unit(&guest)?;
    states::await_word(&example.appliance, "pi", "up-to-date")?;
    assert_eq!(guest.read_file("/etc/hostname")?.trim(), "pi-2");
    let second = guest
        .run(["readlink", "-f", "/run/current-system"])?
        .success()?
        .stdout;
    assert_ne!(first, second);
    Ok(())
}

#[test]
fn one_flake_gives_each_of_two_machines_the_system_of_its_name() -> Result<()> {
    let example = Example::new()?;
    let alice = example.join("alice", NIX_ARGS)?;
    let bob = example.join("bob", NIX_ARGS)?;
    let systems = [&alice, &bob].map(|guest| guest.run(["readlink", "-f", "/run/current-system"]));
    let [alices, bobs] = systems;
    assert_ne!(alices?.success()?.stdout, bobs?.success()?.stdout);
    // One edit reaches both.
    let before = states::of(&example.appliance, "alice")?["published"].clone();
    example.publish(
        "bob",
        "hosts/desks/configuration.nix",
        "system.stateVersion",
        "environment.etc.shared.text = \"both\";\n  system.stateVersion",
    )?;
    assert_ne!(
        states::of(&example.appliance, "alice")?["published"],
        before
    );
    for (name, guest) in [("alice", &alice), ("bob", &bob)] {
        start_unit(guest)?;
        states::await_word(&example.appliance, name, "up-to-date")?;
        assert_eq!(guest.read_file("/etc/shared")?, "both");
    }
    Ok(())
}
