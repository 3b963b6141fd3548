use std::fs;
use std::path::Path;

use bento_appliance::release::{Build, FolderRecord};
use bento_protocol::Format;
use jiff::Timestamp;

use crate::ground::{Ground, names};

/// A record of an old build.
fn old_record(ground: &Ground, host: &str, generation: &str) -> Build {
    let build = Build {
        format: Format,
        generation: generation.parse().unwrap(),
        system: "/nix/store/old-system".parse().unwrap(),
        comparable: true,
        at: Timestamp::UNIX_EPOCH,
    };
    build
        .write(&ground.fleet(), &host.parse().unwrap())
        .unwrap();
    build
}

#[test]
fn a_system_is_recorded_for_its_generation_and_kept_in_the_store() {
    let ground = Ground::new(&["locked", "moving", "open", "whole"]);
    ground.flake("moving", ":");
    ground.write("hosts/moving/SELF_UPDATE", "");
    ground.flake("locked", ":");
    ground.flake("open", ":");
    fs::remove_file(ground.fleet().join("hosts/open/flake.lock")).unwrap();
    // The fleet folder itself is a flake: what a build leaves there must not make another generation.
    let toml = ground.read("fleet.toml");
    ground.write(
        "fleet.toml",
        &(toml + "source = \".\"\nattribute = \"locked\"\nexclude = [\"hosts\"]\n"),
    );
    ground.write("flake.nix", &ground.read("hosts/locked/flake.nix"));
    ground.write("flake.lock", crate::ground::LOCK);
    let before = ground.generation("whole");

    ground.bento(&["build"]).with(0).saying("4 built.");
    assert_eq!(ground.leftovers(), [""; 0]);
    assert_eq!(ground.generation("whole"), before);
    let comparable = [
        ("locked", true),
        ("moving", false),
        ("open", false),
        ("whole", true),
    ];
    for (host, comparable) in comparable {
        let record = ground.record(host).unwrap();
        assert_eq!(record.generation, ground.generation(host), "{host}");
        assert_eq!(record.comparable, comparable, "{host}");
        let system = Path::new(record.system.as_str());
        assert!(system.join("bin/switch-to-configuration").exists());
        let link = ground.fleet().join(".bento/systems").join(host);
        assert_eq!(fs::read_link(&link).unwrap(), system);
    }
    let mut collect = ground.environment("nix-store");
    let collected = collect.arg("--gc").output().unwrap();
    assert!(collected.status.success(), "{collected:?}");
    assert!(Path::new(ground.record("locked").unwrap().system.as_str()).exists());
    let ignored = ground.read(".bento/.gitignore");
    assert!(ignored.contains("\n/systems/\n/logs/\n"), "{ignored}");

    let record = ground.read(".bento/built/locked.json");
    ground.bento(&["build", "locked"]).with(0);
    assert_eq!(ground.read(".bento/built/locked.json"), record);
}

#[test]
fn a_failed_build_is_printed_and_leaves_no_record_and_the_others_continue() {
    let ground = Ground::new(&["good", "bad", "worse", "ugly", "empty"]);
    ground.flake("good", ":");
    ground.flake("bad", "echo it broke; exit 3");
    ground.flake("worse", "exit 4");
    ground.flake("ugly", ":");
    let flake = ground.read("hosts/ugly/flake.nix");
    ground.write("hosts/ugly/flake.nix", &flake.replace(".ugly.", ".pretty."));
    ground.write("hosts/empty/README", "");
    old_record(&ground, "bad", &ground.generation("bad").to_string());
    let other = old_record(&ground, "worse", &"b".repeat(64));

    let ended = ground.bento(&["build", "--jobs", "1"]).with(1);
    let ended = ended
        .saying("good: built ")
        .saying("> it broke")
        .saying("the flake has no nixosConfigurations.ugly: it has pretty")
        .saying("error: hosts/empty: empty: holds neither a flake.nix nor a configuration.nix")
        .saying("1 built, 3 failed");
    assert_eq!(ground.record("bad"), None);
    assert_eq!(ground.record("worse"), Some(other));
    assert_eq!(ground.record("ugly"), None);
    assert!(ended.text.contains(".bento/logs/bad.log"), "{}", ended.text);
    let log = ground.read(".bento/logs/bad.log");
    assert!(log.contains("system-of-bad> it broke"), "{log}");
    assert_eq!(ground.leftovers(), [""; 0]);

    ground.flake("bad", ":");
    ground.bento(&["build", "bad"]).with(0);
    assert!(ground.record("bad").is_some());
    assert!(!ground.fleet().join(".bento/logs/bad.log").exists());
}

#[test]
fn a_problem_is_printed_and_stops_only_its_machine() {
    let ground = Ground::new(&["good", "missing"]);
    ground.flake("good", ":");
    let ended = ground.bento(&["build", "--json"]).with(1);
    assert!(
        ended
            .complaints
            .contains("error: hosts/missing: missing: isn't there")
    );
    let json: serde_json::Value = serde_json::from_str(&ended.text).unwrap();
    let outcomes: Vec<_> = (0..2)
        .map(|index| json["hosts"][index]["outcome"].as_str())
        .collect();
    assert_eq!(outcomes, [Some("built"), Some("unpublishable")]);
    assert_eq!(json["problems"][0]["host"], "missing");
    assert!(ground.record("good").is_some());
    ground
        .bento(&["build", "nobody"])
        .with(1)
        .saying("no machine nobody");
}

#[test]
fn a_dry_run_builds_and_records_nothing() {
    let ground = Ground::new(&["good", "bad"]);
    ground.flake("good", ":");
    ground.flake("bad", ":");
    ground.write("hosts/bad/flake.nix", "{ outputs = _: nonsense; }");
    let old = old_record(&ground, "bad", &ground.generation("bad").to_string());
    ground
        .bento(&["build", "--dry-run"])
        .with(1)
        .saying("good: evaluated in ")
        .saying(": 1 to build")
        .saying("undefined variable 'nonsense'")
        .saying("1 evaluated, 1 failed.");
    assert_eq!(ground.record("good"), None);
    assert_eq!(ground.record("bad"), Some(old));
    assert!(!ground.fleet().join(".bento/systems").exists());
}

#[test]
fn systems_are_copied_to_every_reachable_store() {
    let ground = Ground::new(&["good"]);
    ground.flake("good", ":");
    let cache = format!("file://{}", ground.path("cache").display());
    let stores = ["--copy-to", "file:///proc/nowhere", "--copy-to", &cache];
    ground
        .bento(&[&["build"][..], &stores].concat())
        .with(1)
        .saying("can't copy to file:///proc/nowhere:")
        .saying("1 built.");
    let system = ground.record("good").unwrap().system;
    let hash = &system.as_str().rsplit('/').next().unwrap()[..32];
    assert!(names(&ground.path("cache")).contains(&format!("{hash}.narinfo")));
}

#[test]
fn a_folder_without_a_flake_is_built_with_the_channels_of_the_current_user() {
    let ground = Ground::new(&["pi"]);
    ground.write("hosts/pi/configuration.nix", "{ }");
    let system = format!(
        "{{ configuration ? <nixos-config> }}: {{ config.system.build.toplevel = derivation {{ name = \"system\"; system = \"{}-linux\"; builder = \
         \"/bin/sh\"; PATH = \"/usr/bin:/bin\"; inherit configuration; args = [ \"-euc\" \
         \"mkdir -p $out/bin; echo > $out/bin/switch-to-configuration\" ]; }}; }}",
        std::env::consts::ARCH
    );
    ground.write("../nixpkgs/nixos/default.nix", &system);
    let mut command = ground.command(&["build"]);
    command.env(
        "NIX_PATH",
        format!("nixpkgs={}", ground.path("nixpkgs").display()),
    );
    crate::ground::Ended::of(command.output().unwrap()).with(0);
    assert!(!ground.record("pi").unwrap().comparable);
}

#[test]
fn without_nix_the_error_says_so() {
    let ground = Ground::new(&["good"]);
    ground.flake("good", ":");
    for command in ["build", "flake-update"] {
        let mut command = ground.command(&[command]);
        let ended = command
            .env("PATH", ground.path("nowhere"))
            .output()
            .unwrap();
        crate::ground::Ended::of(ended).with(1).saying("needs Nix");
    }
}
