use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use bento_protocol::{Outcome, Policy, Terms};

use crate::env::{CURRENT, ClientEnv, broken, classic, flake, generation, host, is_anywhere, with};
use crate::publisher::{Content, Generation};

#[test]
fn a_machine_comes_to_run_what_is_published_and_says_so() {
    let mut env = ClientEnv::new();
    let generation = env.publish(flake("1"), &[]);
    let before = fs::canonicalize(env.path(CURRENT)).unwrap();
    let ended = env.update().with(0).without_complaint();
    assert_eq!(env.running().as_deref(), Some("1"));
    assert_eq!(env.switches(), ["test 1", "boot 1"]);
    for phase in [
        "poll", "pull", "verify", "stage", "build", "arm", "activate", "confirm", "commit",
        "report",
    ] {
        assert!(
            ended.stdout.lines().any(|line| line.starts_with(phase)),
            "{phase} isn't in {}",
            ended.stdout
        );
    }
    assert!(
        ended.stdout.contains("system> building version 1"),
        "{}",
        ended.stdout
    );

    let report = env.last_report();
    let running = fs::canonicalize(env.path(CURRENT)).unwrap();
    assert_eq!(report.outcome, Outcome::Switched);
    assert_eq!(report.generation, generation.manifest.generation());
    assert_eq!(
        report.system.before.unwrap().as_str(),
        before.to_str().unwrap()
    );
    assert_eq!(report.system.built, report.system.running);
    assert_eq!(
        report.system.built.unwrap().as_str(),
        running.to_str().unwrap()
    );
    assert_eq!(report.error, None);
    assert!(
        report.log.contains("switching to version 1\n"),
        "{}",
        report.log
    );
    assert!(report.nix.is_some());
    assert_eq!(env.bootable().as_deref(), Some("1"));
    env.nothing_is_left();
}

#[test]
fn a_machine_that_runs_nothing_yet_cannot_go_back() {
    let mut env = ClientEnv::blank();
    env.publish(flake("1"), &[]);
    env.update()
        .with(0)
        .complaining("this update can't be rolled back");
    assert_eq!(env.running().as_deref(), Some("1"));
    assert_eq!(env.bootable().as_deref(), Some("1"));
    assert_eq!(env.last_report().system.before, None);
    env.nothing_is_left();
}

#[test]
fn nothing_new_does_nothing_and_reports_nothing() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.update().with(0);
    let ended = env.update().with(0).without_complaint();
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    assert!(
        ended.stdout.contains("is installed already"),
        "{}",
        ended.stdout
    );
    assert_eq!(env.switches(), ["test 1", "boot 1"]);
    assert_eq!(env.reports().len(), 1);
}

#[test]
fn a_switch_by_hand_stays_and_is_reported_once() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    env.publish(flake("2"), &[&first]);
    env.update().with(0);
    let first_system = env.reports()[0].system.built.clone().unwrap();
    let current = env.path(CURRENT);
    fs::remove_file(&current).unwrap();
    symlink(first_system.as_str(), &current).unwrap();
    for _ in 0..2 {
        env.update().with(0);
    }
    assert_eq!(env.running().as_deref(), Some("1"));
    assert_eq!(env.switches(), ["test 1", "boot 1", "test 2", "boot 2"]);
    assert_eq!(env.reports().len(), 3);
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.system.running, Some(first_system));
    assert_ne!(report.system.built, report.system.running);
}

#[test]
fn what_comes_to_the_same_system_is_not_activated_again() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let terms = Terms {
        nix_args: vec!["--fallback".into()].try_into().unwrap(),
        ..Terms::default()
    };
    let second = Generation::new(&host(), terms.into(), flake("1"));
    env.server.publish(&second, &[&first]);
    env.update().with(0);
    assert_eq!(env.switches(), ["test 1", "boot 1"]);
    let report = env.last_report();
    assert_eq!(report.generation, second.manifest.generation());
    assert_eq!(report.outcome, Outcome::Switched);
}

#[test]
fn a_machine_without_a_flake_is_built_from_its_channels() {
    let mut env = ClientEnv::new();
    env.publish(classic("1"), &[]);
    env.update().with(0).without_complaint();
    assert_eq!(env.running().as_deref(), Some("1"));
    // Without its channels it can't be: they are what the settings say, not what the environment has.
    env.publish(classic("2"), &[]);
    let settings = env.settings(&env.server.host_key, "");
    env.write_settings(&settings.replace("nixpkgs=", "other="));
    let ended = env.update().with(1);
    assert!(ended.stderr.contains("nixpkgs"), "{}", ended.stderr);
}

#[test]
fn the_policy_names_the_attribute_and_arguments() {
    let mut env = ClientEnv::new();
    let terms = Terms {
        attribute: Some("web.1".parse().unwrap()),
        nix_args: vec!["--option".into(), "cores".into(), "7".into()]
            .try_into()
            .unwrap(),
        ..Terms::default()
    };
    let renamed = include_str!("fixtures/flake.nix").replace("kikimora", "\"web.1\"");
    let build = format!(
        "{}\necho \"$NIX_BUILD_CORES cores\"\n",
        include_str!("fixtures/build.sh")
    );
    let contents = with(
        with(flake("1"), "config/flake.nix", &renamed),
        "config/build.sh",
        &build,
    );
    env.server
        .publish(&Generation::new(&host(), terms.into(), contents), &[]);
    let ended = env.update().with(0).without_complaint();
    assert!(ended.stdout.contains("7 cores"), "{}", ended.stdout);

    let policy: Policy =
        serde_json::from_str(r#"{"attribute":"web.1","colour\u001b":"red"}"#).unwrap();
    let contents = with(
        with(flake("2"), "config/flake.nix", &renamed),
        "config/build.sh",
        &build,
    );
    env.server
        .publish(&Generation::new(&host(), policy, contents), &[]);
    env.update().with(0).complaining(r#""colour\u{1b}""#);
}

#[test]
fn secrets_lie_at_a_stable_path_and_never_in_the_store() {
    let mut env = ClientEnv::new();
    let first = env.publish(with(flake("1"), "secrets/wg/key", "the first secret"), &[]);
    env.update().with(0);
    let key = env.state("secrets/wg/key");
    assert_eq!(fs::read_to_string(&key).unwrap(), "the first secret");
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(
        fs::metadata(env.state("secrets/")).unwrap().mode() & 0o7777,
        0o700
    );
    assert_eq!(
        fs::metadata(env.state("secrets.d")).unwrap().mode() & 0o7777,
        0o700
    );

    // A build that fails takes them back.
    let broken = broken("2");
    let second = env.publish(
        with(broken, "secrets/wg/key", "the second secret"),
        &[&first],
    );
    env.update().with(1);
    assert_eq!(fs::read_to_string(&key).unwrap(), "the first secret");

    env.publish(
        with(flake("3"), "secrets/wg/key", "the third secret"),
        &[&second],
    );
    env.update().with(0);
    assert_eq!(fs::read_to_string(&key).unwrap(), "the third secret");
    env.publish(flake("4"), &[]);
    env.update().with(0);
    assert!(!key.exists());
    assert!(!is_anywhere(&env.path("nix/store"), " secret"));
    assert!(!is_anywhere(&env.path("state"), " secret"));
}

#[test]
fn what_is_not_installed_any_more_is_not_kept() {
    let mut env = ClientEnv::new();
    let mut before: Option<Generation> = None;
    for version in ["1", "2", "3"] {
        let next = env.publish(flake(version), &before.iter().collect::<Vec<_>>());
        env.update().with(0);
        let id = next.manifest.generation().to_string();
        assert_eq!(env.state_names("generations"), [id.as_str()]);
        assert_eq!(env.state_names("secrets.d"), [id.as_str()]);
        before = Some(next);
    }
    // What failed stays beside what is installed, so that it needn't be pulled again.
    let broken = env.publish(broken("4"), &[]);
    fs::create_dir(env.state("generations/left.partial")).unwrap();
    env.update().with(1);
    let ids =
        [before.unwrap(), broken].map(|generation| generation.manifest.generation().to_string());
    let mut expected = ids.to_vec();
    expected.sort();
    assert_eq!(env.state_names("generations"), expected);
    assert_eq!(env.state_names("spool"), [""; 0]);
}

#[test]
fn a_generation_that_is_staged_is_not_pulled_again_unless_it_was_changed() {
    let mut env = ClientEnv::new();
    let contents = generation(with(flake("1"), "config/activation.sh", "exit 1"));
    env.server.publish(&contents, &[]);
    env.update().with(3);
    let publication = env.server.publication("kikimora");
    let bundle = publication.join("bundle.tar.gz");
    let aside = publication.join("aside");
    fs::rename(&bundle, &aside).unwrap();
    let ended = env.update_with(&["--retry"]).with(3);
    assert!(!ended.stdout.contains("pull"), "{}", ended.stdout);

    let staged = env.state(&format!(
        "generations/{}/config/extra.nix",
        contents.manifest.generation()
    ));
    fs::write(&staged, "{ }").unwrap();
    fs::rename(&aside, &bundle).unwrap();
    let ended = env
        .update_with(&["--retry"])
        .with(3)
        .complaining("is pulled again");
    assert!(ended.stdout.contains("as a bundle"), "{}", ended.stdout);
    assert!(!staged.exists());
}

#[test]
fn a_proxy_command_is_another_way_to_the_server() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    let proxy = "exec bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'";
    env.write_settings(&env.settings(
        &env.server.host_key,
        &format!("proxy_command = \"{proxy}\""),
    ));
    env.update().with(0).without_complaint();
    assert_eq!(env.running().as_deref(), Some("1"));
    // It is really used.
    env.write_settings(&env.settings(&env.server.host_key, "proxy_command = \"false\""));
    env.update()
        .with(4)
        .complaining("no SSH connection")
        .complaining("the proxy command ended with exit code 1, without a word");
}

#[test]
fn a_large_generation_comes_whole() {
    let mut env = ClientEnv::new();
    let mut contents = flake("1");
    let mut noise = 1_u32;
    let mut bytes = vec![0; 3 << 20];
    for byte in &mut bytes {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (noise >> 24) as u8;
    }
    contents.push(Content::new("config/data", bytes.clone()));
    let published = env.publish(contents, &[]);
    env.update().with(0);
    let data = env.state(&format!(
        "generations/{}/config/data",
        published.manifest.generation()
    ));
    assert!(fs::read(data).unwrap() == bytes);
}

// Issue 10, line 23. Whether Nix takes a flake through the link is up to its version; that of the guests doesn't.
#[test]
fn the_state_may_lie_on_another_disk_behind_a_link() {
    let mut env = ClientEnv::new();
    for (version, contents) in [("1", flake("1")), ("2", classic("2"))] {
        fs::create_dir_all(env.path("disk/bento")).unwrap();
        if version == "1" {
            symlink("disk/bento", env.path("state")).unwrap();
        }
        env.publish(with(contents, "secrets/token", version), &[]);
        env.update().with(0).without_complaint();
        env.is_wholly_on(version);
        let token = fs::read_to_string(env.state("secrets/token")).unwrap();
        assert_eq!(token, version);
    }
    env.ask("rollback", &[]).with(0);
    env.is_wholly_on("1");
}
