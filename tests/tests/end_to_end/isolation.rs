//! Promise 1: a machine sees only itself. Tried with OpenSSH's own clients, which ask for whatever they are told to.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bento_protocol::ReportName;
use bento_tests::{Appliance, Fleet, Options, process, wait};
use tempfile::TempDir;

use crate::machine::Machine;
use crate::{reports, states};

const DOMOVOIS: &str = "what only domovoi may know";
const SECRET: &str = "what nobody may see in plain";

/// Two machines and the folder of one of them, in which it keeps what it gets hold of.
struct Ground {
    fleet: Fleet,
    appliance: Appliance,
    folder: TempDir,
}

impl Ground {
    fn new() -> Result<Self> {
        let mut fleet = Fleet::new()?;
        fleet.host("kikimora", |host| {
            host.file("configuration.nix", "kikimora's")?;
            host.secret("token", SECRET)?;
            Ok(())
        })?;
        fleet.host("domovoi", |host| {
            host.file("configuration.nix", DOMOVOIS)?;
            host.secret("token", DOMOVOIS)?;
            Ok(())
        })?;
        let appliance = Appliance::start(fleet.path(), Options::default())?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("file"), "written by kikimora")?;
        Ok(Ground {
            fleet,
            appliance,
            folder,
        })
    }

    fn machine(&self, name: &str) -> Machine {
        Machine::of(&self.fleet, name, &self.appliance)
    }

    /// A path in the machine's own folder.
    fn own(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// What OpenSSH's client says when a server refuses something, or doesn't offer it at all.
const REFUSALS: [&str; 5] = [
    "Permission denied",
    "not found",
    "No such file",
    "Server does not support",
    "Failure",
];

/// Each of these commands must be refused.
fn all_are_refused(machine: &Machine, commands: &[String]) -> Result<()> {
    for (command, said) in commands.iter().zip(machine.sftp_each(commands)?) {
        let is_refused = REFUSALS.iter().any(|refusal| said.contains(refusal));
        assert!(is_refused, "`{command}` wasn't refused: {said:?}");
    }
    Ok(())
}

#[test]
fn a_machine_sees_its_own_generation_and_nothing_else() -> Result<()> {
    let ground = Ground::new()?;
    let kikimora = ground.machine("kikimora");
    let at_the_top = "bundle.tar.gz config delta generation last_change_date logs manifest.json";
    for folder in ["/", "..", "/..", "/../../..", "config/../.."] {
        let listed = kikimora
            .sftp(&format!("ls -1a {folder}"))?
            .success()?
            .stdout;
        let names: Vec<_> = listed
            .lines()
            .filter(|line| !line.starts_with("sftp> "))
            .map(|line| line.rsplit('/').next().unwrap_or_default())
            .filter(|name| !matches!(*name, "." | ".."))
            .collect();
        assert_eq!(names.join(" "), at_the_top, "in {folder}");
    }
    let elsewhere = [
        "/etc/passwd",
        "/etc/shadow",
        "/run/bento/keys/kikimora",
        "/proc/self/environ",
        "/dev/null",
        "/state/keys/ssh_host_ed25519_key",
        "/state/hosts/domovoi/current/manifest.json",
        "../../../../domovoi/current/manifest.json",
        "/config/../../../domovoi/current/config/configuration.nix",
        "/secrets/token",
        "/published.json",
        "../published.json",
    ];
    let commands: Vec<_> = elsewhere
        .iter()
        .flat_map(|path| {
            [
                format!("get {path} {}", ground.own("stolen")),
                format!("ls {path}"),
            ]
        })
        .chain([
            "cd /state".to_owned(),
            "df /".to_owned(),
            "ls /logs".to_owned(),
        ])
        .collect();
    all_are_refused(&kikimora, &commands)?;

    // All there is to be had, with what can't be read left out.
    kikimora.sftp(&format!("-get -R / {}", ground.own("all")))?;
    let everything = read_all(&ground.folder.path().join("all"))?;
    assert!(everything.contains("kikimora's"), "{everything}");
    for unseen in [DOMOVOIS, SECRET, "domovoi"] {
        assert!(
            !everything.contains(unseen),
            "{unseen:?} is in {everything}"
        );
    }
    // The secret does come, in the archive.
    assert_eq!(kikimora.pull()?.text("secrets/token"), SECRET);
    Ok(())
}

/// All files below a folder, one after the other.
fn read_all(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        text += &if path.is_dir() {
            read_all(&path)?
        } else {
            String::from_utf8_lossy(&fs::read(&path)?).into_owned()
        };
    }
    Ok(text)
}

#[test]
fn a_machine_changes_nothing_of_what_it_sees() -> Result<()> {
    let ground = Ground::new()?;
    let kikimora = ground.machine("kikimora");
    let looks = "ls -lna /\nls -lna /config\nls -lna /delta";
    let before = (kikimora.sftp(looks)?.success()?.stdout, kikimora.pull()?);
    let file = ground.own("file");
    let mut commands: Vec<String> = [
        "rm /manifest.json",
        "rm /generation",
        "rm /config/configuration.nix",
        "rmdir /logs",
        "rmdir /delta",
        "rename /manifest.json /other",
        "rename /config /other",
        "rename /logs /other",
        "rename /manifest.json /logs/manifest.json",
        "mkdir /new",
        "mkdir /config/new",
        "ln /manifest.json /other",
        "ln /manifest.json /logs/manifest.json",
        "ln -s /etc/passwd /other",
        "ln -s /etc/passwd /config/other",
        "copy /manifest.json /other",
        "chmod 777 /",
        "chmod 777 /config",
        "chmod 777 /logs",
        "chmod 666 /config/configuration.nix",
        "chown 10000 /config",
        "chgrp 10000 /config",
    ]
    .map(str::to_owned)
    .into();
    for target in [
        "/new",
        "/generation",
        "/manifest.json",
        "/last_change_date",
        "/config/new",
        "/config/configuration.nix",
        "/delta/new",
    ] {
        commands.push(format!("put {file} {target}"));
    }
    all_are_refused(&kikimora, &commands)?;
    let after = (kikimora.sftp(looks)?.success()?.stdout, kikimora.pull()?);
    assert_eq!(after, before);
    Ok(())
}

#[test]
fn a_report_is_left_once_and_never_touched_again() -> Result<()> {
    let ground = Ground::new()?;
    let kikimora = ground.machine("kikimora");
    // As long as somebody could still be writing it, the beginning of a report stays where it is.
    let session = kikimora.log_in()?;
    let report = reports::success(session.poll()?);
    let name = ReportName {
        run: report.run,
        attempt: 1,
    };
    fs::write(ground.own("half"), [0x1f, 0x8b, 8])?;
    let (half, path) = (ground.own("half"), format!("/logs/{name}"));
    kikimora.sftp(&format!("put {half} {path}"))?.success()?;
    let own = |name: &str| ground.own(name);
    all_are_refused(
        &kikimora,
        &[
            "ls /logs".to_owned(),
            "ls /logs/*".to_owned(),
            format!("get {path} {}", own("again")),
            format!("put {half} {path}"),
            format!("put {} {path}", own("file")),
            // Continues at the end of what is there.
            format!("reput {} {path}", own("file")),
            format!("rm {path}"),
            format!("rename {path} /logs/other"),
            format!("rename {path} /other"),
            format!("ln {path} /logs/other"),
            format!("ln -s {path} /logs/other"),
            format!("copy {path} /logs/other"),
            format!("chmod 666 {path}"),
            format!("chown 0 {path}"),
            format!("chgrp 0 {path}"),
            "mkdir /logs/folder".to_owned(),
            "ln -s /state /logs/state".to_owned(),
        ],
    )?;
    let domovoi = ground.machine("domovoi");
    all_are_refused(&domovoi, &[format!("get {path} {}", own("again"))])?;

    // The next attempt is whole, and counts.
    let attempt = ReportName { attempt: 2, ..name };
    session.put(&format!("/logs/{attempt}"), &reports::packed(&report)?)?;
    states::await_word(&ground.appliance, "kikimora", "up-to-date")?;
    assert_eq!(states::word(&ground.appliance, "domovoi")?, "new");
    Ok(())
}

#[test]
fn a_machine_cannot_fill_the_disk() -> Result<()> {
    let ground = Ground::new()?;
    fs::write(ground.own("huge"), vec![0; 5 << 20])?;
    let kikimora = ground.machine("kikimora");
    let put = kikimora.sftp(&format!("put {} /logs/huge", ground.own("huge")))?;
    assert_ne!(put.code(), 0, "{}", put.stdout);
    // It may leave what is shorter.
    fs::write(ground.own("large"), vec![0; 3 << 20])?;
    kikimora
        .sftp(&format!("put {} /logs/large", ground.own("large")))?
        .success()?;
    Ok(())
}

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
