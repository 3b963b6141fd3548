use std::fs;

use bento_appliance::release::{Approval, FolderRecord};
use bento_appliance::scan::FleetFolder;
use bento_protocol::GenerationId;

use bento_tests::process::Output;

use crate::env::BuildEnv;

fn deploy(env: &BuildEnv, publish: &str) -> Output {
    let toml = env.read("fleet.toml");
    let (head, hosts) = toml.split_once("[hosts.").unwrap();
    let (server, _) = head.split_once("[publish]").unwrap_or((head, ""));
    let text = format!("{server}[publish]\n{publish}\n[hosts.{hosts}");
    env.write("fleet.toml", &text);
    env.bento(&["deploy", "--yes"])
}

fn approved(env: &BuildEnv, host: &str) -> Option<GenerationId> {
    let folder = FleetFolder::open(&env.fleet()).unwrap();
    let approval = Approval::of(&folder, &host.parse().unwrap()).unwrap();
    approval.map(|approval| approval.generation)
}

#[test]
fn a_failed_build_is_not_approved_and_the_others_are() {
    let env = BuildEnv::new(&["good", "bad"]);
    env.flake("good", ":");
    env.flake("bad", "exit 3");
    let ended = deploy(&env, "when = \"deploy\"").with(1);
    ended
        .saying("bad: the build failed, so it wasn't approved")
        .saying("Approved for 1 machine.");
    assert_eq!(approved(&env, "good"), Some(env.generation("good")));
    assert_eq!(
        env.record("good").unwrap().generation,
        env.generation("good")
    );
    assert_eq!(approved(&env, "bad"), None);
    // A built system isn't built again, and an approved one isn't asked for again.
    env.flake("bad", ":");
    deploy(&env, "when = \"deploy\"\nrequire_build = true")
        .with(0)
        .saying("Approved for 1 machine.");
    assert_eq!(approved(&env, "bad"), Some(env.generation("bad")));
}

#[test]
fn without_approvals_a_deployment_only_builds() {
    let env = BuildEnv::new(&["good", "bad"]);
    env.flake("good", ":");
    env.flake("bad", "exit 3");
    let ended = deploy(&env, "when = \"change\"").with(1);
    ended
        .saying("bad: the build failed, but the appliance publishes it anyway")
        .saying("Nothing to approve");
    assert!(env.record("good").is_some());
    assert!(!env.fleet().join(".bento/approved").exists());
}

#[test]
fn without_nix_machines_that_need_a_build_are_not_approved() {
    let env = BuildEnv::new(&["good"]);
    env.flake("good", ":");
    let toml = env.read("fleet.toml");
    let without = |publish: &str| {
        env.write("fleet.toml", &format!("{toml}[publish]\n{publish}\n"));
        let mut command = env.command(&["deploy", "--yes"]);
        Output::of(command.env("PATH", env.path("home")))
    };
    let ended = without("when = \"deploy\"\nrequire_build = true").with(1);
    ended
        .saying("Nix isn't installed here")
        .saying("error: good isn't built")
        .saying("Nothing was approved.");
    assert_eq!(approved(&env, "good"), None);
    without("when = \"deploy\"")
        .with(0)
        .saying("Nix isn't installed here");
    assert_eq!(approved(&env, "good"), Some(env.generation("good")));
    fs::remove_dir_all(env.fleet().join(".bento")).unwrap();
}
