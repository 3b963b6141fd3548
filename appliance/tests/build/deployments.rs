use std::fs;

use bento_appliance::release::{Approval, FolderRecord};
use bento_appliance::scan::FleetFolder;
use bento_protocol::GenerationId;

use crate::ground::{Ended, Ground};

fn deploy(ground: &Ground, publish: &str) -> Ended {
    let toml = ground.read("fleet.toml");
    let (head, hosts) = toml.split_once("[hosts.").unwrap();
    let (server, _) = head.split_once("[publish]").unwrap_or((head, ""));
    let text = format!("{server}[publish]\n{publish}\n[hosts.{hosts}");
    ground.write("fleet.toml", &text);
    ground.bento(&["deploy", "--yes"])
}

fn approved(ground: &Ground, host: &str) -> Option<GenerationId> {
    let folder = FleetFolder::open(&ground.fleet()).unwrap();
    let approval = Approval::of(&folder, &host.parse().unwrap()).unwrap();
    approval.map(|approval| approval.generation)
}

#[test]
fn a_failed_build_is_not_approved_and_the_others_are() {
    let ground = Ground::new(&["good", "bad"]);
    ground.flake("good", ":");
    ground.flake("bad", "exit 3");
    let ended = deploy(&ground, "when = \"deploy\"").with(1);
    ended
        .saying("bad: the build failed, so it wasn't approved")
        .saying("Approved for 1 machine.");
    assert_eq!(approved(&ground, "good"), Some(ground.generation("good")));
    assert_eq!(
        ground.record("good").unwrap().generation,
        ground.generation("good")
    );
    assert_eq!(approved(&ground, "bad"), None);
    // A built system isn't built again, and an approved one isn't asked for again.
    ground.flake("bad", ":");
    deploy(&ground, "when = \"deploy\"\nrequire_build = true")
        .with(0)
        .saying("Approved for 1 machine.");
    assert_eq!(approved(&ground, "bad"), Some(ground.generation("bad")));
}

#[test]
fn without_approvals_a_deployment_only_builds() {
    let ground = Ground::new(&["good", "bad"]);
    ground.flake("good", ":");
    ground.flake("bad", "exit 3");
    let ended = deploy(&ground, "when = \"change\"").with(1);
    ended
        .saying("bad: the build failed, but the appliance publishes it anyway")
        .saying("Nothing to approve");
    assert!(ground.record("good").is_some());
    assert!(!ground.fleet().join(".bento/approved").exists());
}

#[test]
fn without_nix_machines_that_need_a_build_are_not_approved() {
    let ground = Ground::new(&["good"]);
    ground.flake("good", ":");
    let toml = ground.read("fleet.toml");
    let without = |publish: &str| {
        ground.write("fleet.toml", &format!("{toml}[publish]\n{publish}\n"));
        let mut command = ground.command(&["deploy", "--yes"]);
        Ended::of(command.env("PATH", ground.path("home")).output().unwrap())
    };
    let ended = without("when = \"deploy\"\nrequire_build = true").with(1);
    ended
        .saying("Nix isn't installed here")
        .saying("error: good isn't built")
        .saying("Nothing was approved.");
    assert_eq!(approved(&ground, "good"), None);
    without("when = \"deploy\"")
        .with(0)
        .saying("Nix isn't installed here");
    assert_eq!(approved(&ground, "good"), Some(ground.generation("good")));
    fs::remove_dir_all(ground.fleet().join(".bento")).unwrap();
}
