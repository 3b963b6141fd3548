//! `bento init --existing`: a repository with one flake for all machines becomes a fleet that evaluates.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use bento_tests::files::names;
use bento_tests::process::Output;

use crate::env::BuildEnv;

/// Three machines, one with a name that isn't one in the fleet; the system of each depends on its own folder and on the
/// modules, and reads nothing else.
const FLAKE: &str = r#"{
  outputs = { self }: {
    nixosConfigurations = builtins.mapAttrs (name: files: {
      config.system.build.toplevel = derivation {
        inherit name;
        system = "PLATFORM";
        builder = "/bin/sh";
        PATH = "/usr/bin:/bin";
        own = import (files + "/value.nix");
        common = import ./modules/common.nix;
        secret = "${./secrets}";
        args = [ "-euc" "mkdir -p $out/bin; echo > $out/bin/switch-to-configuration" ];
      };
    }) {
      CORE-PW = ./hosts/CORE-PW;
      moon = ./hosts/moon;
      "sun.example.org" = ./hosts/sun.example.org;
    };
  };
}
"#;

fn git(folder: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(folder)
        .args(["-c", "user.name=x", "-c", "user.email=x@example.org"]);
    let ended = git.args(arguments).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

fn repository() -> BuildEnv {
    let env = BuildEnv::new(&[]);
    std::fs::remove_file(env.fleet().join("fleet.toml")).unwrap();
    let platform = format!("{}-linux", std::env::consts::ARCH);
    env.write("flake.nix", &FLAKE.replace("PLATFORM", &platform));
    env.write("flake.lock", crate::env::LOCK);
    env.write("README.md", "mine");
    env.write("modules/common.nix", "\"common\"");
    for machine in ["CORE-PW", "moon", "sun.example.org"] {
        env.write(
            &format!("hosts/{machine}/value.nix"),
            &format!("\"{machine}\""),
        );
    }
    env.write("secrets/token.age", "age-encryption.org/v1\n");
    symlink("/etc/hostname", env.fleet().join("modules/broken")).unwrap();
    git(&env.fleet(), &["init", "-q"]);
    git(&env.fleet(), &["add", "."]);
    git(&env.fleet(), &["commit", "-qm", "mine"]);
    env
}

// Issue 10, line 6.
#[test]
fn a_repository_with_a_flake_for_all_machines_becomes_a_fleet_that_builds() {
    let env = repository();
    for wrong in [&["init", "."][..], &["check"]] {
        let ended = env.bento(wrong).with(1);
        ended.saying("has a flake but no fleet.toml: run `bento init --existing` in that folder");
    }
    let before = names(&env.fleet()).unwrap();
    let said = env
        .bento(&["init", "--existing", "--address", "10.0.0.1"])
        .with(0);
    let said = said
        .saying("3 machines, from nixosConfigurations.")
        .saying("CORE-PW is named core-pw in the fleet")
        .saying("Not published: README.md.")
        .saying("Can't be published: modules/broken: ");
    let mut after = names(&env.fleet()).unwrap();
    after.retain(|name| name != "fleet.toml");
    assert_eq!(before, after, "only fleet.toml is written");
    let toml = env.read("fleet.toml");
    for line in [
        "address = \"10.0.0.1\"",
        "  \"/hosts/{name}/\",",
        "  \"/secrets/*.age\",",
        "  \"/hosts/CORE-PW/\",",
        "attribute = \"CORE-PW\"",
        "[hosts.sun]",
        "attribute = \"sun.example.org\"",
    ] {
        assert!(toml.contains(line), "{line:?} isn't in {toml}");
    }
    assert!(
        said.stdout.contains("core-pw  generation "),
        "{}",
        said.stdout
    );
    // New folders are private until include names them.
    env.write("private/key", "secret");
    env.write("secrets/wifi.env", "secret");
    env.bento(&["check", "--json", "--offline"])
        .with(0)
        .saying("\"files\": 5");
    env.bento(&["build"]).with(0).saying("3 built.");
    let again = env.bento(&["init", "--existing"]).with(1);
    again.saying("fleet.toml already exists, and init never overwrites");
}

// Issue 10, line 6.
#[test]
fn without_nix_the_folders_name_the_machines() {
    let env = repository();
    let mut command = env.command(&["init", "--existing"]);
    let ended = Output::of(command.env("PATH", "/nowhere")).with(0);
    ended.saying("3 machines, by the names in hosts/.");
    env.bento(&["build"]).with(0).saying("3 built.");
}
