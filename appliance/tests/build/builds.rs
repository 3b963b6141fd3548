use std::fs;
use std::path::Path;

use bento_appliance::release::{Build, FolderRecord};
use bento_protocol::Format;
use jiff::Timestamp;

use bento_tests::files::names;
use bento_tests::process::Output;

use crate::env::BuildEnv;

/// A record of an old build.
fn old_record(env: &BuildEnv, host: &str, generation: &str) -> Build {
    let build = Build {
        format: Format,
        generation: generation.parse().unwrap(),
        system: "/nix/store/old-system".parse().unwrap(),
        comparable: true,
        at: Timestamp::UNIX_EPOCH,
    };
    build.write(&env.fleet(), &host.parse().unwrap()).unwrap();
    build
}

#[test]
fn a_system_is_recorded_for_its_generation_and_kept_in_the_store() {
    let env = BuildEnv::new(&["locked", "moving", "open", "whole"]);
    env.flake("moving", ":");
    env.write("hosts/moving/SELF_UPDATE", "");
    env.flake("locked", ":");
    env.flake("open", ":");
    fs::remove_file(env.fleet().join("hosts/open/flake.lock")).unwrap();
    // The fleet folder itself is a flake: what a build leaves there must not make another generation.
    let toml = env.read("fleet.toml");
    env.write(
        "fleet.toml",
        &(toml + "source = \".\"\nattribute = \"locked\"\nexclude = [\"hosts\"]\n"),
    );
    env.write("flake.nix", &env.read("hosts/locked/flake.nix"));
    env.write("flake.lock", crate::env::LOCK);
    let before = env.generation("whole");

    env.bento(&["build"]).with(0).saying("4 built.");
    assert_eq!(env.leftovers(), [""; 0]);
    assert_eq!(env.generation("whole"), before);
    let comparable = [
        ("locked", true),
        ("moving", false),
        ("open", false),
        ("whole", true),
    ];
    for (host, comparable) in comparable {
        let record = env.record(host).unwrap();
        assert_eq!(record.generation, env.generation(host), "{host}");
        assert_eq!(record.comparable, comparable, "{host}");
        let system = Path::new(record.system.as_str());
        assert!(system.join("bin/switch-to-configuration").exists());
        let link = env.fleet().join(".bento/systems").join(host);
        assert_eq!(fs::read_link(&link).unwrap(), system);
    }
    let mut collect = env.environment("nix-store");
    let collected = collect.arg("--gc").output().unwrap();
    assert!(collected.status.success(), "{collected:?}");
    assert!(Path::new(env.record("locked").unwrap().system.as_str()).exists());
    let ignored = env.read(".bento/.gitignore");
    assert!(ignored.contains("\n/systems/\n/logs/\n"), "{ignored}");

    let record = env.read(".bento/built/locked.json");
    env.bento(&["build", "locked"]).with(0);
    assert_eq!(env.read(".bento/built/locked.json"), record);
}

#[test]
fn a_failed_build_is_printed_and_leaves_no_record_and_the_others_continue() {
    let env = BuildEnv::new(&["good", "bad", "worse", "ugly", "empty"]);
    env.flake("good", ":");
    env.flake("bad", "echo it broke; exit 3");
    env.flake("worse", "exit 4");
    env.flake("ugly", ":");
    let flake = env.read("hosts/ugly/flake.nix");
    env.write("hosts/ugly/flake.nix", &flake.replace(".ugly.", ".pretty."));
    env.write("hosts/empty/README", "");
    old_record(&env, "bad", &env.generation("bad").to_string());
    let other = old_record(&env, "worse", &"b".repeat(64));

    let ended = env.bento(&["build", "--jobs", "1"]).with(1);
    let ended = ended
        .saying("good: built ")
        .saying("> it broke")
        .saying("the flake has no nixosConfigurations.ugly: it has pretty")
        .saying("error: hosts/empty: empty: holds neither a flake.nix nor a configuration.nix")
        .saying("1 built, 3 failed");
    assert_eq!(env.record("bad"), None);
    assert_eq!(env.record("worse"), Some(other));
    assert_eq!(env.record("ugly"), None);
    assert!(
        ended.stdout.contains(".bento/logs/bad.log"),
        "{}",
        ended.stdout
    );
    let log = env.read(".bento/logs/bad.log");
    assert!(log.contains("system-of-bad> it broke"), "{log}");
    assert_eq!(env.leftovers(), [""; 0]);

    env.flake("bad", ":");
    env.bento(&["build", "bad"]).with(0);
    assert!(env.record("bad").is_some());
    assert!(!env.fleet().join(".bento/logs/bad.log").exists());
}

#[test]
fn a_problem_is_printed_and_stops_only_its_machine() {
    let env = BuildEnv::new(&["good", "missing"]);
    env.flake("good", ":");
    let ended = env.bento(&["build", "--json"]).with(1);
    assert!(
        ended
            .stderr
            .contains("error: hosts/missing: missing: isn't there")
    );
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let outcomes: Vec<_> = (0..2)
        .map(|index| json["hosts"][index]["outcome"].as_str())
        .collect();
    assert_eq!(outcomes, [Some("built"), Some("unpublishable")]);
    assert_eq!(json["problems"][0]["host"], "missing");
    assert!(env.record("good").is_some());
    env.bento(&["build", "nobody"])
        .with(1)
        .saying("no machine nobody");
}

#[test]
fn a_dry_run_builds_and_records_nothing() {
    let env = BuildEnv::new(&["good", "bad"]);
    env.flake("good", ":");
    env.flake("bad", ":");
    env.write("hosts/bad/flake.nix", "{ outputs = _: nonsense; }");
    let old = old_record(&env, "bad", &env.generation("bad").to_string());
    env.bento(&["build", "--dry-run"])
        .with(1)
        .saying("good: evaluated in ")
        .saying(": 1 to build")
        .saying("undefined variable 'nonsense'")
        .saying("1 evaluated, 1 failed.");
    assert_eq!(env.record("good"), None);
    assert_eq!(env.record("bad"), Some(old));
    assert!(!env.fleet().join(".bento/systems").exists());
}

#[test]
fn systems_are_copied_to_every_reachable_store() {
    let env = BuildEnv::new(&["good"]);
    env.flake("good", ":");
    let cache = format!("file://{}", env.path("cache").display());
    let stores = ["--copy-to", "file:///proc/nowhere", "--copy-to", &cache];
    env.bento(&[&["build"][..], &stores].concat())
        .with(1)
        .saying("can't copy to file:///proc/nowhere:")
        .saying("1 built.");
    let system = env.record("good").unwrap().system;
    let hash = &system.as_str().rsplit('/').next().unwrap()[..32];
    assert!(
        names(&env.path("cache"))
            .unwrap()
            .contains(&format!("{hash}.narinfo"))
    );
}

#[test]
fn a_folder_without_a_flake_is_built_with_the_channels_of_the_current_user() {
    let env = BuildEnv::new(&["pi"]);
    env.write("hosts/pi/configuration.nix", "{ }");
    let system = format!(
        "{{ configuration ? <nixos-config> }}: {{ config.system.build.toplevel = derivation {{ name = \"system\"; system = \"{}-linux\"; builder = \
         \"/bin/sh\"; PATH = \"/usr/bin:/bin\"; inherit configuration; args = [ \"-euc\" \
         \"mkdir -p $out/bin; echo > $out/bin/switch-to-configuration\" ]; }}; }}",
        std::env::consts::ARCH
    );
    env.write("../nixpkgs/nixos/default.nix", &system);
    let mut command = env.command(&["build"]);
    command.env(
        "NIX_PATH",
        format!("nixpkgs={}", env.path("nixpkgs").display()),
    );
    Output::of(&mut command).with(0);
    assert!(!env.record("pi").unwrap().comparable);
}

#[test]
fn without_nix_the_error_says_so() {
    let env = BuildEnv::new(&["good"]);
    env.flake("good", ":");
    for command in ["build", "flake-update"] {
        let mut command = env.command(&[command]);
        let ended = Output::of(command.env("PATH", env.path("nowhere")));
        ended.with(1).saying("needs Nix");
    }
}
