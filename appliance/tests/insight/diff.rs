//! `bento diff`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bento_appliance::release::{Build, FolderRecord};
use bento_protocol::{Digest, Format, Outcome};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::env::{InsightEnv, printed, refusal, success};

const SYSTEM: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-system";

#[test]
fn the_running_generation_is_compared_with_the_published_one() {
    let env = InsightEnv::new(&["kikimora", "domovoi"]);
    env.write("bento-secrets/kikimora/wifi", "password");
    let first = env.publish("kikimora");
    env.report("kikimora", &success(first, SYSTEM));
    let new = env.publish("domovoi");
    for text in ["two\n", "3\n", "4\n", "5\n", "6\n", "7\n", "8\n", "nine\n"] {
        env.write("hosts/kikimora/flake.nix", text);
        env.publish("kikimora");
    }
    env.write("bento-secrets/kikimora/wifi", "passphrase");
    let last = env.publish("kikimora");
    // A failure doesn't change the running system.
    let mut failure = success(last, SYSTEM);
    failure.outcome = Outcome::BuildFailed;
    failure.system.built = None;
    env.report("kikimora", &failure);

    let expected = format!(
        "\
kikimora: {} → {}
changed config/flake.nix
--- config/flake.nix
+++ config/flake.nix
@@ -1 +1 @@
-one
+nine
changed secrets/wifi: a secret, not shown

domovoi: {} is its first generation: it has never reported
",
        first.short(),
        last.short(),
        new.short()
    );
    assert_eq!(printed(&mut env.here(&["diff", "--no-packages"])), expected);
    assert_eq!(
        printed(&mut env.elsewhere(&["diff", "--no-packages"])),
        expected
    );

    let json = printed(&mut env.elsewhere(&["diff", "--json", "kikimora"]));
    assert!(
        !json.contains("password") && !json.contains("passphrase"),
        "{json}"
    );
    for secret in ["password", "passphrase"] {
        let digest = Digest::of(secret).to_string();
        assert!(
            !json.contains(&digest),
            "a short secret can be guessed by its digest: {json}"
        );
    }
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["hosts"].as_array().unwrap().len(), 1);
    let files = json["hosts"][0]["changes"]["files"].as_array().unwrap();
    let secret = json!({ "executable": false });
    let change = json!({ "path": "secrets/wifi", "before": secret, "after": secret });
    assert!(files.contains(&change), "{json}");
    let texts: Vec<_> = json["contents"].as_object().unwrap().values().collect();
    let has = |text: &str| texts.iter().any(|content| content["text"] == text);
    assert!(has("one\n") && has("nine\n") && texts.len() == 2, "{json}");

    env.report("kikimora", &success(last, SYSTEM));
    let now = printed(&mut env.here(&["diff", "kikimora"]));
    assert_eq!(now, "kikimora runs the published generation\n");
}

#[test]
fn a_machine_that_needs_a_reboot_gets_a_caveat() {
    let env = InsightEnv::new(&["kikimora"]);
    let mut staged = success(env.publish("kikimora"), SYSTEM);
    staged.outcome = Outcome::Staged;
    staged.system.running = None;
    env.report("kikimora", &staged);
    env.write("hosts/kikimora/flake.nix", "two\n");
    env.publish("kikimora");
    let text = printed(&mut env.here(&["diff"]));
    let doubt = format!(
        "kikimora installed {}, but hasn't reported that it runs it\n",
        staged.generation.short()
    );
    assert!(text.contains(&doubt), "{text}");
}

#[test]
fn an_unknown_machine_is_one_error_with_advice() {
    let env = InsightEnv::new(&["kikimora"]);
    let said = refusal(&mut env.here(&["diff", "leshy"]));
    assert_eq!(
        said,
        "bento: there is no machine leshy in the fleet: `bento host list` lists the machines\n"
    );
    let said = refusal(&mut env.nowhere(&["diff"]));
    assert!(
        said.starts_with("bento: no appliance runs here: run this in its container"),
        "{said}"
    );
}

/// A Nix whose store is in the environment.
struct Nix(Vec<(&'static str, PathBuf)>);

impl Nix {
    fn new(env: &InsightEnv) -> Self {
        let places = [
            ("NIX_STORE_DIR", "nix/store"),
            ("NIX_STATE_DIR", "nix/state"),
            ("NIX_LOG_DIR", "nix/log"),
            ("NIX_CONF_DIR", "nix/conf"),
        ];
        let nix = Nix(places.map(|(name, path)| (name, env.path(path))).into());
        fs::create_dir_all(env.path("nix/conf")).unwrap();
        let settings = "build-users-group =\nsubstituters =\n";
        fs::write(env.path("nix/conf/nix.conf"), settings).unwrap();
        nix
    }

    fn command(&self, mut command: Command) -> Command {
        command.envs(self.0.iter().map(|(name, path)| (name, path)));
        command
    }

    /// Adds a folder with one file to the store; gives its path there.
    fn add(&self, env: &InsightEnv, name: &str) -> String {
        let folder = env.path("to-add").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), name).unwrap();
        let mut add = self.command(Command::new("nix-store"));
        printed(add.arg("--add").arg(folder)).trim().to_owned()
    }
}

#[test]
fn machines_with_the_same_two_systems_are_compared_once() {
    let env = InsightEnv::new(&["domovoi", "kikimora", "leshy"]);
    let store = [("NIX_STORE_DIR", env.path("store"))];
    let [old, new, other] = ["old", "new", "other"].map(|name| {
        let system = env.path("store").join(format!("{}-{name}", "0".repeat(32)));
        fs::create_dir_all(&system).unwrap();
        system.to_str().unwrap().to_owned()
    });
    for (name, runs) in [("domovoi", &old), ("kikimora", &old), ("leshy", &other)] {
        env.report(name, &success(env.publish(name), runs));
        env.write(&format!("hosts/{name}/flake.nix"), "two\n");
        let build = Build {
            format: Format,
            generation: env.publish(name),
            system: new.parse().unwrap(),
            comparable: true,
            at: Timestamp::now(),
        };
        let name = name.parse().unwrap();
        build.write(&env.path("fleet"), &name).unwrap();
    }
    let tool = "#!/bin/sh\n[ \"$1\" = --version ] || echo \"nvd $*\"\n";
    let tools = env.program("tools/nvd", tool);
    let path = format!("{}:/usr/bin:/bin", tools.parent().unwrap().display());
    let output = printed(env.elsewhere(&["diff"]).envs(store).env("PATH", path));
    let expected = format!(
        "packages of domovoi, kikimora:\nnvd --color never diff {old} {new}\n\
         packages of leshy:\nnvd --color never diff {other} {new}\n"
    );
    assert!(output.ends_with(&expected), "{output}");
}

#[test]
fn packages_are_compared_by_nix_on_the_machine_of_the_administrator() {
    let env = InsightEnv::new(&["kikimora"]);
    let nix = Nix::new(&env);
    let [old, new] = ["linux-6.1", "linux-6.6"].map(|name| nix.add(&env, name));
    env.report("kikimora", &success(env.publish("kikimora"), &old));
    env.write("hosts/kikimora/flake.nix", "two\n");
    let generation = env.publish("kikimora");
    let diff = || printed(&mut nix.command(env.elsewhere(&["diff"])));
    let why = diff();
    assert!(
        why.ends_with(
            "can't compare packages of kikimora: the system of the published generation is unknown: run `bento build \
             kikimora` here\n"
        ),
        "{why}"
    );
    let mut build = Build {
        format: Format,
        generation,
        system: new.parse().unwrap(),
        comparable: true,
        at: Timestamp::now(),
    };
    let name = "kikimora".parse().unwrap();
    build.write(&env.path("fleet"), &name).unwrap();
    let output = diff();
    assert!(
        output.ends_with("packages of kikimora:\nlinux: 6.1 → 6.6\n"),
        "{output}"
    );

    // A path that Nix would evaluate as a flake isn't a system.
    let flake = env.path("flake");
    fs::create_dir(&flake).unwrap();
    fs::write(
        flake.join("flake.nix"),
        "{ outputs = _: throw \"evaluated\"; }",
    )
    .unwrap();
    build.system = flake.to_str().unwrap().parse().unwrap();
    build.write(&env.path("fleet"), &name).unwrap();
    let why = diff();
    assert!(why.contains("isn't in the local store"), "{why}");

    let without = printed(
        nix.command(env.elsewhere(&["diff"]))
            .env("PATH", "/bin/none"),
    );
    assert!(
        without.ends_with("Can't compare packages: Nix isn't installed here.\n"),
        "{without}"
    );

    let tool = "#!/bin/sh\n[ \"$1\" = --version ] || echo \"nvd $*\"\n";
    let tools = env.program("tools/nvd", tool);
    let path = format!("{}:/usr/bin:/bin", tools.parent().unwrap().display());
    build.system = new.parse().unwrap();
    build.write(&env.path("fleet"), &name).unwrap();
    let output = printed(nix.command(env.elsewhere(&["diff"])).env("PATH", path));
    assert!(
        output.ends_with(&format!("nvd --color never diff {old} {new}\n")),
        "{output}"
    );
}
