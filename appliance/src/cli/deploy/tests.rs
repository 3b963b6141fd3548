use std::fs;

use bento_protocol::SystemPath;
use clap::Parser;

use super::*;
use crate::publication::Publications;
use crate::store::paths::State;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    deploy: DeployCommand,
}

/// A fleet folder with two machines that share a folder and one of its own, and the state of an appliance.
struct Appliance {
    fleet: tempfile::TempDir,
    state: tempfile::TempDir,
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

impl Appliance {
    fn new(publish: &str) -> Self {
        let appliance = Appliance {
            fleet: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
        };
        let hosts =
            "[hosts.alice]\nsource = \"desks\"\n[hosts.bob]\nsource = \"desks\"\n[hosts.pi]\n";
        let text = format!("[server]\naddress = \"x\"\n[publish]\n{publish}\n{hosts}");
        appliance.write("fleet.toml", &text);
        appliance.write("desks/flake.nix", "{}");
        appliance.write("hosts/pi/configuration.nix", "{}");
        fs::create_dir(State::new(appliance.state.path()).hosts()).unwrap();
        appliance
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.fleet.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn preview(&self) -> Preview {
        Preview::make(self.fleet.path(), &[]).unwrap()
    }

    fn made(&self, name: &str) -> GenerationId {
        let preview = self.preview();
        let host_preview = preview.machines[&host(name)].as_ref().unwrap();
        host_preview.manifest.generation()
    }

    /// Publishes the generations of the fleet folder.
    fn publish(&self) {
        let gid = rustix::process::getgid().as_raw();
        let preview = self.preview();
        for host_preview in preview.machines.values().flatten() {
            let (manifest, tree) = (&host_preview.manifest, &host_preview.tree);
            let state = State::new(self.state.path()).host(manifest.host());
            let publications = Publications::of(&state);
            let prepared = publications.stage(manifest, None, tree, &preview.folder, gid);
            publications.switch(prepared.unwrap()).unwrap();
        }
    }

    fn built(&self, name: &str) {
        let system: SystemPath = format!("/nix/store/{}-nixos", "0".repeat(32))
            .parse()
            .unwrap();
        let build = Build {
            format: Format,
            generation: self.made(name),
            system,
            comparable: true,
            at: Timestamp::now(),
        };
        build.write(self.fleet.path(), &host(name)).unwrap();
    }

    fn approved(&self, name: &str) -> Option<GenerationId> {
        let folder = &self.preview().folder;
        let approval = Approval::of(folder, &host(name)).unwrap();
        approval.map(|approval| approval.generation)
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> DeployCommand {
        let folders = [("--fleet", &self.fleet), ("--state", &self.state)];
        let folders = folders.map(|(option, folder)| [option, folder.path().to_str().unwrap()]);
        let line = ["deploy"].into_iter().chain(folders.into_iter().flatten());
        Line::parse_from(line.chain(arguments.iter().copied())).deploy
    }

    /// Deploys without building; returns the success and the output.
    fn deploy(&self, arguments: &[&str]) -> (bool, String) {
        let deploy = self.arguments(&[arguments, &["--no-build"]].concat());
        let mut output = Vec::new();
        let is_good = deploy.run(&mut output).unwrap();
        (is_good, String::from_utf8(output).unwrap())
    }
}

// Issue 10, line 39.
#[test]
fn a_machine_with_a_syntax_error_is_left_out_and_the_others_are_approved() {
    let appliance = Appliance::new("when = \"deploy\"");
    appliance.write("hosts/pi/configuration.nix", "{ a = 1 }");
    let (is_good, said) = appliance.deploy(&["--yes"]);
    assert!(!is_good);
    assert!(
        said.contains("error: hosts/pi/configuration.nix:1:9: pi: syntax error"),
        "{said}"
    );
    assert_eq!(appliance.approved("pi"), None);
    assert!(appliance.approved("alice").is_some(), "{said}");
    let (is_good, said) = appliance.deploy(&["--yes", "pi"]);
    assert!(
        !is_good && said.ends_with("Nothing was approved: correct the errors first.\n"),
        "{said}"
    );
}

#[test]
fn only_the_shown_generations_of_the_named_machines_are_approved() {
    let appliance = Appliance::new("when = \"deploy\"");
    let (is_good, said) = appliance.deploy(&["--yes", "alice", "bob"]);
    assert!(is_good);
    assert!(
        said.starts_with("alice, bob\n  new: 1 file\nApproved for 2 machines. "),
        "{said}"
    );
    for name in ["alice", "bob"] {
        assert_eq!(appliance.approved(name), Some(appliance.made(name)));
    }
    assert_eq!(appliance.approved("pi"), None);
    let (_, said) = appliance.deploy(&["--yes", "alice"]);
    assert!(said.contains("Already approved"), "{said}");

    appliance.publish();
    let (is_good, said) = appliance.deploy(&[]);
    assert!(is_good);
    assert_eq!(said, "Nothing to do: no changes.\n");
}

#[test]
fn equal_changes_of_machines_are_shown_once() {
    let appliance = Appliance::new("when = \"deploy\"");
    for number in 0..6 {
        appliance.write(&format!("desks/{number}.nix"), "{}");
    }
    appliance.publish();
    for number in 0..6 {
        appliance.write(&format!("desks/{number}.nix"), "{ }");
    }
    appliance.write("desks/more.nix", "{}");
    fs::remove_file(appliance.fleet.path().join("hosts/pi/configuration.nix")).unwrap();
    appliance.write("hosts/pi/flake.nix", "{}");
    appliance.write("hosts/pi/REBOOT", "");
    let (is_good, said) = appliance.deploy(&["--dry-run"]);
    assert!(is_good);
    let desks = "alice, bob\n  changed: config/0.nix, config/1.nix, config/2.nix, config/3.nix, config/4.nix and 1 more\n  \
                 added: config/more.nix\n";
    assert!(said.starts_with(desks), "{said}");
    let pi = "  added: config/REBOOT, config/flake.nix\n  removed: config/configuration.nix\n  settings in fleet.toml\n";
    assert!(said.contains(pi), "{said}");
    assert!(said.contains("it would be for 3 machines"), "{said}");
    assert!(
        !appliance.fleet.path().join(".bento").exists(),
        "a dry run leaves nothing"
    );
}

#[test]
fn warnings_are_shown_for_the_deployed_machines_only() {
    let appliance = Appliance::new("when = \"deploy\"");
    appliance.write("hosts/pi/configuration.nix", "../../far.nix");
    appliance.write("desks/flake.nix", &"../near.nix\n".repeat(12));
    let warning = "warning: hosts/pi/configuration.nix:1: ../../far.nix is outside of hosts/pi";
    let (is_good, said) = appliance.deploy(&["--yes", "pi"]);
    assert!(is_good && said.starts_with(warning), "{said}");
    assert_eq!(said.matches("warning:").count(), 1, "{said}");
    assert_eq!(appliance.approved("pi"), Some(appliance.made("pi")));
    let (_, said) = appliance.deploy(&["--dry-run"]);
    let last = "warning: 3 more: run `bento check` for all\n";
    assert!(said.contains(last), "{said}");
    assert_eq!(said.matches("warning:").count(), 11, "{said}");
    appliance.publish();
    let (_, said) = appliance.deploy(&[]);
    assert_eq!(said, "Nothing to do: no changes.\n");
}

#[test]
fn a_machine_with_a_problem_is_left_out_and_the_others_are_approved() {
    let appliance = Appliance::new("when = \"deploy\"");
    std::os::unix::fs::symlink("/nowhere", appliance.fleet.path().join("hosts/pi/dangling"))
        .unwrap();
    let (is_good, said) = appliance.deploy(&["--yes"]);
    assert!(!is_good);
    assert!(said.starts_with("error: hosts/pi/dangling: pi: "), "{said}");
    assert_eq!(appliance.approved("pi"), None);
    assert_eq!(appliance.approved("alice"), Some(appliance.made("alice")));
}

#[test]
fn a_problem_of_the_whole_fleet_stops_everything() {
    let appliance = Appliance::new("when = \"deploy\"\nwho = \"me\"");
    let (is_good, said) = appliance.deploy(&["--yes"]);
    assert!(!is_good);
    assert!(
        said.ends_with("Nothing was approved: correct the errors first.\n"),
        "{said}"
    );
    assert!(!appliance.fleet.path().join(".bento").exists());
}

#[test]
fn without_approvals_nothing_is_approved() {
    let appliance = Appliance::new("when = \"change\"");
    let (is_good, said) = appliance.deploy(&[]);
    assert!(is_good);
    assert!(said.contains("Nothing to approve: "), "{said}");
    assert!(!appliance.fleet.path().join(".bento").exists());
}

#[test]
fn with_require_build_only_built_machines_are_approved() {
    let appliance = Appliance::new("when = \"deploy\"\nrequire_build = true");
    appliance.built("bob");
    let (is_good, said) = appliance.deploy(&["--yes"]);
    assert!(!is_good);
    assert!(
        said.contains("error: alice isn't built, and fleet.toml has require_build = true"),
        "{said}"
    );
    let approved = ["alice", "bob", "pi"].map(|name| appliance.approved(name).is_some());
    assert_eq!(approved, [false, true, false]);
    appliance.write("desks/flake.nix", "{ }");
    let (_, said) = appliance.deploy(&["--yes", "bob"]);
    assert!(
        said.ends_with("Nothing was approved.\n"),
        "it was built of another generation: {said}"
    );
}

#[test]
fn a_change_after_the_preview_is_not_approved() {
    let appliance = Appliance::new("when = \"deploy\"");
    let preview = appliance.preview();
    let mut output = Vec::new();
    let mut deployment = Deployment {
        folder: appliance.fleet.path(),
        fleet: appliance.preview().fleet.unwrap(),
        preview,
        changes: Vec::new(),
        is_good: true,
        output: &mut output,
    };
    deployment
        .compare(&appliance.arguments(&[]).appliance)
        .unwrap();
    assert_eq!(deployment.changes.len(), 3);
    deployment.require_same().unwrap();
    appliance.write("hosts/pi/configuration.nix", "{ }");
    let error = deployment.require_same().unwrap_err().to_string();
    assert!(
        error.contains("of pi have changed in the meantime"),
        "{error}"
    );
}

#[test]
fn without_an_appliance_the_approvals_are_compared() {
    let appliance = Appliance::new("when = \"deploy\"");
    appliance.deploy(&["--yes"]);
    fs::remove_dir_all(appliance.state.path()).unwrap();
    let (_, said) = appliance.deploy(&["--yes"]);
    assert!(said.starts_with(
        "Can't ask the appliance for the published generations, so this compares with the last approved ones: "
    ));
    assert!(said.ends_with("Nothing to do: no changes.\n"), "{said}");
    let before = appliance.made("pi");
    appliance.write("hosts/pi/configuration.nix", "{ }");
    let (is_good, said) = appliance.deploy(&["--yes"]);
    assert!(is_good);
    let ids = format!(
        "pi  {} → {}\n",
        before.short(),
        appliance.made("pi").short()
    );
    assert!(said.contains(&ids), "{said}");
    assert_eq!(appliance.approved("pi"), Some(appliance.made("pi")));
}

#[test]
fn without_an_appliance_or_an_approval_a_machine_is_new() {
    let appliance = Appliance::new("when = \"deploy\"");
    fs::remove_dir_all(appliance.state.path()).unwrap();
    let (_, said) = appliance.deploy(&["--dry-run"]);
    assert!(said.contains("\n  new: no recorded generation\n"), "{said}");
}

#[test]
fn a_machine_that_is_paused_is_named() {
    let appliance =
        Appliance::new("when = \"deploy\"\n[hosts.leshy]\npaused = true\nsource = \"desks\"");
    let (_, said) = appliance.deploy(&["--yes", "leshy"]);
    assert!(
        said.contains(
            "leshy is paused: it keeps its current generation until `bento host resume leshy`"
        ),
        "{said}"
    );
}

#[test]
fn a_machine_with_faulty_settings_keeps_no_other_from_being_deployed() {
    let appliance = Appliance::new("when = \"deploy\"");
    let settings = fs::read_to_string(appliance.fleet.path().join("fleet.toml")).unwrap();
    let faulty = settings.replace("[hosts.pi]\n", "[hosts.pi]\nkeys = [\"nonsense\"]\n");
    appliance.write("fleet.toml", &faulty);
    let (is_good, said) = appliance.deploy(&["--yes"]);
    assert!(!is_good && said.contains("error: fleet.toml:"), "{said}");
    assert_eq!(appliance.approved("alice"), Some(appliance.made("alice")));
    assert_eq!(appliance.approved("pi"), None);
}
