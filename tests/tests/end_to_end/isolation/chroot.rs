//! Inside: what a machine sees, and what it can do there.

use std::fs;
use std::path::Path;

use anyhow::Result;
use bento_protocol::ReportName;

use super::{DOMOVOIS, IsolationEnv, SECRET, all_are_refused};
use crate::{reports, states};

#[test]
fn a_machine_sees_its_own_generation_and_nothing_else() -> Result<()> {
    let env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
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
                format!("get {path} {}", env.own("stolen")),
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
    kikimora.sftp(&format!("-get -R / {}", env.own("all")))?;
    let everything = read_all(&env.folder.path().join("all"))?;
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
    let env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
    let listing = "ls -lna /\nls -lna /config\nls -lna /delta";
    let before = (kikimora.sftp(listing)?.success()?.stdout, kikimora.pull()?);
    let file = env.own("file");
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
    let after = (kikimora.sftp(listing)?.success()?.stdout, kikimora.pull()?);
    assert_eq!(after, before);
    Ok(())
}

#[test]
fn a_report_is_left_once_and_never_touched_again() -> Result<()> {
    let env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
    // As long as somebody could still be writing it, the beginning of a report stays where it is.
    let session = kikimora.log_in()?;
    let report = reports::success(session.poll()?);
    let name = ReportName {
        run: report.run,
        attempt: 1,
    };
    fs::write(env.own("half"), [0x1f, 0x8b, 8])?;
    let (half, path) = (env.own("half"), format!("/logs/{name}"));
    kikimora.sftp(&format!("put {half} {path}"))?.success()?;
    let own = |name: &str| env.own(name);
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
    let domovoi = env.machine("domovoi");
    all_are_refused(&domovoi, &[format!("get {path} {}", own("again"))])?;

    // The next attempt is whole, and counts.
    let attempt = ReportName { attempt: 2, ..name };
    session.put(&format!("/logs/{attempt}"), &reports::packed(&report)?)?;
    states::await_word(&env.appliance, "kikimora", "up-to-date")?;
    assert_eq!(states::word(&env.appliance, "domovoi")?, "new");
    Ok(())
}

#[test]
fn a_machine_cannot_fill_the_disk() -> Result<()> {
    let env = IsolationEnv::new()?;
    fs::write(env.own("huge"), vec![0; 5 << 20])?;
    let kikimora = env.machine("kikimora");
    let put = kikimora.sftp(&format!("put {} /logs/huge", env.own("huge")))?;
    assert_ne!(put.code(), 0, "{}", put.stdout);
    // It may leave what is shorter.
    fs::write(env.own("large"), vec![0; 3 << 20])?;
    kikimora
        .sftp(&format!("put {} /logs/large", env.own("large")))?
        .success()?;
    Ok(())
}
