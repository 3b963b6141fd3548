use std::fs;

use clap::Parser;

use super::*;
use crate::fleet::{self, FILE_NAME};
use crate::preview::Preview;

const ONE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R root@a";
const TWO: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const FLEET: &str =
    "# mine\n[server]\naddress = \"bento.example.org\" # dialled\n\n[hosts.b]\nkeys = []\n";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    add: AddCommand,
}

fn add(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let line = ["add", "--fleet", folder.to_str().unwrap()];
    let line = line.into_iter().chain(arguments.iter().copied());
    let mut output = Vec::new();
    Line::try_parse_from(line)?.add.run(&mut output)?;
    Ok(String::from_utf8(output).unwrap())
}

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join(FILE_NAME)).unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE_NAME), FLEET).unwrap();
    folder
}

#[test]
fn a_machine_is_added_and_the_rest_of_the_file_stays() {
    let folder = folder();
    let output = add(folder.path(), &["a", "--key", ONE]).unwrap();
    let one = text(folder.path());
    assert_eq!(one, format!("{FLEET}\n[hosts.a]\nkeys = [\"{ONE}\"]\n"));
    let first = "bento-client bootstrap --name a --server bento.example.org:2222 --host-key";
    for part in [first, "Put its configuration in hosts/a.", "name = \"a\";"] {
        assert!(output.contains(part), "{output}");
    }
    let again = add(folder.path(), &["a", "--key", ONE]).unwrap();
    assert!(
        again.starts_with("a already has this key") && again.contains(first),
        "{again}"
    );
    assert_eq!(text(folder.path()), one);
    let other = add(folder.path(), &["a", "--key", ONE, "--key", TWO]).unwrap();
    assert!(
        other.contains("If the machine was installed again") && !other.contains("hostKeys"),
        "{other}"
    );
}

#[test]
fn keys_are_added_to_an_existing_machine() {
    let folder = folder();
    let file = folder.path().join("b.pub");
    fs::write(&file, format!("{TWO}\n")).unwrap();
    let arguments = [
        "b",
        "--key",
        ONE,
        "--key",
        file.to_str().unwrap(),
        "--source",
        "hosts/desks",
    ];
    add(folder.path(), &arguments).unwrap();
    let reading = fleet::read(&text(folder.path())).unwrap();
    let host = &reading.fleet.hosts[&"b".parse().unwrap()];
    assert_eq!(host.keys, [ONE, TWO].map(|key| key.parse().unwrap()));
    assert_eq!(host.source.to_string(), "hosts/desks");
}

// Issue 10, line 7.
#[test]
fn settings_equal_to_the_defaults_are_not_written() {
    let folder = folder();
    let defaults = "[defaults]\nsource = \".\"\nexclude = [\"*\"]\ninclude = [\"/flake.*\", \"/hosts/{name}/\"]\n";
    let text = FLEET.replace("[hosts.b]", &format!("{defaults}\n[hosts.b]"));
    fs::write(folder.path().join(FILE_NAME), &text).unwrap();
    for (path, text) in [("flake.nix", "{ }"), ("hosts/b/default.nix", "{ }")] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let output = add(folder.path(), &["a", "--key", ONE, "--source", "."]).unwrap();
    assert!(
        output.contains("Put its configuration in hosts/a."),
        "{output}"
    );
    let added = format!("{text}\n[hosts.a]\nkeys = [\"{ONE}\"]\n");
    assert_eq!(super::tests::text(folder.path()), added);
    fs::create_dir(folder.path().join("hosts/a")).unwrap();
    fs::write(folder.path().join("hosts/a/default.nix"), "{ }").unwrap();
    let output = add(folder.path(), &["a", "--key", ONE, "--source", "./"]).unwrap();
    assert!(!output.contains("Put its configuration"), "{output}");
    assert_eq!(super::tests::text(folder.path()), added);
    let preview = Preview::make(folder.path(), &[]).unwrap();
    assert!(preview.problems.is_empty(), "{:?}", preview.problems);
    for name in ["a", "b"] {
        let seen = preview.machines[&name.parse().unwrap()].as_ref().unwrap();
        let files = seen
            .manifest
            .files()
            .iter()
            .map(|file| file.path().to_string());
        let own = format!("config/hosts/{name}/default.nix");
        assert_eq!(files.collect::<Vec<_>>(), ["config/flake.nix", &own]);
    }
    let other = add(
        folder.path(),
        &["a", "--key", ONE, "--source", "hosts/{name}"],
    )
    .unwrap();
    assert!(other.contains("already has this key"), "{other}");
    let differs = format!("{added}source = \"hosts/{{name}}\"\n");
    assert_eq!(super::tests::text(folder.path()), differs);
}

#[test]
fn host_keys_come_from_the_fleet_or_the_appliance() {
    let folder = folder();
    let unknown = add(folder.path(), &["a", "--key", ONE]).unwrap();
    assert!(
        unknown.contains("--host-key \"<the host key>\""),
        "{unknown}"
    );
    assert!(unknown.contains("bento host-key"), "{unknown}");
    // The command is `echo KEY bento host-key`: a key with a comment.
    let bare: Vec<_> = TWO.split(' ').collect();
    let admin = format!("admin = [\"echo\", \"{}\", \"{}\"]", bare[0], bare[1]);
    let asked = FLEET.replace("\n\n", &format!("\n{admin}\n\n"));
    fs::write(folder.path().join(FILE_NAME), asked).unwrap();
    let asked = add(folder.path(), &["a", "--key", ONE]).unwrap();
    assert!(
        asked.contains(&format!("hostKeys = [ \"{TWO}\" ];")),
        "{asked}"
    );
    let other = ONE.trim_end_matches(" root@a");
    let pinned = format!("port = 22\nhost_keys = [\"{ONE}\", \"{TWO}\"]\n{admin}");
    let text = FLEET
        .replace("\n\n", &format!("\n{pinned}\n\n"))
        .replace("bento.example.org", "fe80::1");
    fs::write(folder.path().join(FILE_NAME), text).unwrap();
    let both = add(folder.path(), &["a", "--key", ONE]).unwrap();
    let line = format!("--server [fe80::1]:22 --host-key \"{other}\" --host-key \"{TWO}\"\n");
    assert!(both.contains(&line), "{both}");
}

#[test]
fn an_edit_that_breaks_the_fleet_is_refused() {
    let folder = folder();
    add(folder.path(), &["a", "--key", ONE]).unwrap();
    let before = text(folder.path());
    let refused = add(folder.path(), &["b", "--key", ONE])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("a: the key SHA256:") && refused.contains("is b's already"),
        "{refused}"
    );
    assert!(add(folder.path(), &["Bad", "--key", ONE]).is_err());
    assert!(add(folder.path(), &["c", "--key", "nonsense"]).is_err());
    assert!(add(folder.path(), &["c", "--key", ONE, "--source", "../x"]).is_err());
    assert!(
        add(folder.path(), &["c"]).is_err(),
        "a machine without a key can't connect"
    );
    assert_eq!(text(folder.path()), before);
}
