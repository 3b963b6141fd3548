use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bento_protocol::Outcome;

use crate::env::{ClientEnv, flake, generation, with};
use crate::publisher::{Archive, Generation};

/// A machine that has version 1.
fn updated() -> (ClientEnv, Generation) {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    (env, first)
}

fn only_a_delta(publication: &Path, old: &Generation, delta: &[u8]) {
    let name = format!("delta/{}.tar.gz", old.manifest.generation());
    fs::write(publication.join(name), delta).unwrap();
}

#[test]
fn a_delta_is_enough() {
    let (mut env, first) = updated();
    let second = generation(with(
        with(flake("2"), "config/new", "new"),
        "secrets/token",
        "hush",
    ));
    let delta = second.delta_from(&first);
    let build = format!(
        "generations/{}/config/build.sh",
        first.manifest.generation()
    );
    let inode = fs::metadata(env.state(&build)).unwrap().ino();
    env.server.publish_as(&second, |publication| {
        only_a_delta(publication, &first, &delta)
    });
    let ended = env.update().with(0).without_complaint();
    assert!(ended.stdout.contains("as a delta"), "{}", ended.stdout);
    assert_eq!(env.running().as_deref(), Some("2"));
    let config = env.state(&format!(
        "generations/{}/config",
        second.manifest.generation()
    ));
    assert_eq!(fs::metadata(config.join("build.sh")).unwrap().ino(), inode);
    for (name, mode) in [("", 0o755), ("build.sh", 0o755), ("new", 0o644)] {
        let metadata = fs::metadata(config.join(name)).unwrap();
        assert_eq!(
            (metadata.mtime(), metadata.mode() & 0o7777),
            (1, mode),
            "{name:?}"
        );
    }
    // A file that goes, and a secret that stays.
    let third = generation(with(flake("2"), "secrets/token", "hush"));
    let delta = third.delta_from(&second);
    env.server.publish_as(&third, |publication| {
        only_a_delta(publication, &second, &delta)
    });
    env.update().with(0).without_complaint();
    assert!(
        !env.state(&format!(
            "generations/{}/config/new",
            third.manifest.generation()
        ))
        .exists()
    );
    assert_eq!(
        fs::read_to_string(env.state("secrets/token")).unwrap(),
        "hush"
    );
}

#[test]
fn without_a_delta_the_bundle_is_taken() {
    let (mut env, _) = updated();
    env.publish(flake("2"), &[]);
    let ended = env.update().with(0).without_complaint();
    assert!(ended.stdout.contains("as a bundle"), "{}", ended.stdout);
    assert_eq!(env.running().as_deref(), Some("2"));
}

#[test]
fn a_file_that_was_damaged_here_does_not_survive_a_delta() {
    let (mut env, first) = updated();
    let damaged = format!(
        "generations/{}/config/build.sh",
        first.manifest.generation()
    );
    let original = fs::read_to_string(env.state(&damaged)).unwrap();
    // Of the same size, as a failing disk would do it.
    fs::write(
        env.state(&damaged),
        original.replacen("nixos-version", "nixos-vers10n", 1),
    )
    .unwrap();
    let second = env.publish(flake("2"), &[&first]);
    env.update()
        .with(0)
        .complaining("the bundle is fetched: ")
        .complaining("was changed");
    let whole = env.state(&format!(
        "generations/{}/config/build.sh",
        second.manifest.generation()
    ));
    assert_eq!(fs::read_to_string(whole).unwrap(), original);
    assert_eq!(env.running().as_deref(), Some("2"));
}

#[test]
fn a_delta_that_was_tampered_with_is_replaced_by_the_bundle() {
    let (mut env, first) = updated();
    let second = generation(flake("2"));
    let other = generation(flake("3"));
    let bundle = second.bundle();
    let delta = other.delta_from(&first);
    env.server.publish_as(&second, |publication| {
        only_a_delta(publication, &first, &delta);
        fs::write(publication.join("bundle.tar.gz"), &bundle).unwrap();
    });
    env.update().with(0).complaining("was polled");
    assert_eq!(env.running().as_deref(), Some("2"));
}

#[test]
fn a_bundle_that_was_tampered_with_changes_nothing_and_is_reported() {
    let (mut env, first) = updated();
    let second = generation(flake("2"));
    let mut tampered = Archive::new();
    tampered.add(
        "manifest.json",
        &serde_json::to_vec(&second.manifest).unwrap(),
    );
    for file in second.manifest.files() {
        let bytes = second.bytes(file);
        let evil = bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
        let is_target = file.path().as_str() == "config/version";
        tampered.add(file.path().as_str(), if is_target { &evil } else { bytes });
    }
    let tampered = tampered.finish();
    env.server.publish_as(&second, |publication| {
        fs::write(publication.join("bundle.tar.gz"), &tampered).unwrap();
    });
    env.update()
        .with(6)
        .complaining("config/version has the digest");
    assert_eq!(
        env.state_names("generations"),
        [first.manifest.generation().to_string()]
    );
    assert_eq!(
        env.state_names("secrets.d"),
        [first.manifest.generation().to_string()]
    );
    let report = env.last_report();
    // Issue 10, line 32.
    assert_eq!(report.outcome, Outcome::PullFailed);
    assert_eq!(report.generation, second.manifest.generation());
    assert!(report.error.unwrap().contains("has the digest"));
    assert_eq!(env.running().as_deref(), Some("1"));

    // It is tried at every run, and reported once.
    env.update().with(6).complaining("has the digest");
    assert_eq!(env.reports().len(), 2);
}

#[test]
fn a_transfer_that_is_cut_changes_nothing() {
    let (mut env, first) = updated();
    let mut contents = flake("2");
    let noise: String = (0..200_000_u64)
        .map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string())
        .collect();
    contents = with(contents, "config/data", &noise);
    env.publish(contents, &[]);
    // After so many bytes the proxy kills its own process group, which is all of it.
    let cut = "exec bash -c 'exec 3<>/dev/tcp/%h/%p; \
               (dd bs=1 count=300000 status=none <&3; echo dead line >&2; kill -9 0) & cat >&3'";
    let settings = env.settings(&env.server.host_key, &format!("proxy_command = \"{cut}\""));
    env.write_settings(&settings);
    env.update()
        .with(4)
        .complaining("reading /bundle.tar.gz failed")
        .complaining("(the proxy command said: dead line)");
    assert_eq!(
        env.state_names("generations"),
        [first.manifest.generation().to_string()]
    );
    assert_eq!(env.running().as_deref(), Some("1"));
    // Reported at once, over another connection.
    assert_eq!(env.reports().len(), 2);

    env.write_settings(&env.settings(&env.server.host_key, ""));
    env.update().with(0);
    assert_eq!(env.running().as_deref(), Some("2"));
    // Issue 10, line 32.
    let outcomes: Vec<_> = env.reports().iter().map(|it| it.outcome).collect();
    let expected = [Outcome::Switched, Outcome::PullFailed, Outcome::Switched];
    assert_eq!(outcomes, expected);
}
