//! What `bento build` builds is what the machine builds.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use bento_appliance::build;
use bento_appliance::build::{BuildOptions, BuildOutcome, Screen};
use bento_appliance::preview::Preview;
use bento_protocol::SystemPath;

use crate::env::{ClientEnv, classic, flake, host, with};
use crate::publisher::{Content, Generation};

/// In which a process finds what it is to build.
const FLEET: &str = "BENTO_TEST_FLEET";

/// A system that has in it all that Nix sees of a configuration.
const FLAKE: &str = "{ outputs = { self }: { nixosConfigurations.desk.config.system.build.toplevel =\n\
    derivation ((import ./system.nix ./.).drvAttrs // { whole = \"${self}\"; time = toString self.lastModified;\n\
    places = toString ./utils; overlay = import ./common/overlays; }); }; }";
// Outside of a flake, Nix 2.8 doesn't follow a default.nix that it finds by itself.
const CLASSIC: &str = "derivation ((import ./system.nix ./.).drvAttrs // { whole = \"${./.}\";\n\
    overlay = import ./common/overlays/default.nix; })";

/// Builds as an administrator does, and writes down the system beside the fleet.
fn build(fleet: &Path) {
    let preview = Preview::make(fleet, &[]).unwrap();
    let options = BuildOptions {
        jobs: BuildOptions::default_jobs(),
        dry_run: false,
        copy_to: Vec::new(),
        verbose: false,
    };
    let mut output = io::stderr();
    let mut screen = Screen::new(&mut output, None, false);
    let results = build::build(&preview, fleet, &options, &mut screen).unwrap();
    match &results.machines[&host()] {
        BuildOutcome::Built { system, .. } => {
            fs::write(fleet.with_extension("system"), system.as_str()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// Lets a process of its own build that has this machine's Nix: what a program inherits can't be changed in one of many
/// threads.
fn built_by_administrator(env: &ClientEnv, fleet: &Path) -> SystemPath {
    let itself = env::current_exe().unwrap();
    let nixpkgs = format!("nixpkgs={}", env.path("nixpkgs").display());
    let mut command: Command = env.environment(itself.to_str().unwrap());
    let output = command
        .args([
            "--exact",
            "--nocapture",
            "by_administrator::what_is_built_by_hand_is_what_the_machine_builds",
        ])
        .env("NIX_PATH", nixpkgs)
        .env(FLEET, fleet)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let system = fs::read_to_string(fleet.with_extension("system")).unwrap();
    system.parse().unwrap()
}

/// Writes a fleet whose files have other modes and owners than those that are published.
fn write_fleet(fleet: &Path, contents: &[Content]) {
    let folder = fleet.join("hosts/kikimora");
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    let toml = "[server]\naddress = \"x\"\n[hosts.kikimora]\nattribute = \"desk\"\n";
    fs::write(fleet.join("fleet.toml"), toml).unwrap();
    for content in contents {
        let path = folder.join(content.path.strip_prefix("config/").unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if content.symlink {
            symlink(String::from_utf8(content.bytes.clone()).unwrap(), &path).unwrap();
            continue;
        }
        fs::write(&path, &content.bytes).unwrap();
        let mode = if content.executable { 0o700 } else { 0o660 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir_all(fleet.join("utils")).unwrap();
    fs::write(fleet.join("utils/common.nix"), "{ }").unwrap();
    symlink("../../utils", folder.join("utils")).unwrap();
    fs::create_dir_all(fleet.join("bento-secrets/kikimora")).unwrap();
    fs::write(fleet.join("bento-secrets/kikimora/password"), "hush").unwrap();
}

/// Symlinks as people have them: an overlay with relative imports, a folder, one that leads nowhere. Issue 10, line 3.
fn symlinks() -> Vec<Content> {
    vec![
        Content::symlink(
            "config/common/overlays/default.nix",
            "../../pkgs/default.nix",
        ),
        Content::symlink("config/common/pkgs", "../pkgs"),
        Content::symlink("config/dotfiles/theme", "../.local/theme"),
        Content::new("config/pkgs/default.nix", "import ./hello.nix"),
        Content::new("config/pkgs/hello.nix", "\"hello\""),
    ]
}

/// What the appliance would publish of it.
fn published(fleet: &Path) -> Generation {
    let preview = Preview::make(fleet, &[]).unwrap();
    let host_preview = preview.machines[&host()].as_ref().unwrap();
    let contents = host_preview.tree.files().map(|file| match &file.symlink {
        Some(link) => Content::symlink(file.path.as_str(), link.target()),
        None => Content {
            executable: file.stamp.is_executable(),
            ..Content::new(
                file.path.as_str(),
                fs::read(fleet.join(&file.real)).unwrap(),
            )
        },
    });
    let policy = host_preview.manifest.policy().clone();
    let generation = Generation::new(&host(), policy, contents.collect());
    assert_eq!(
        generation.manifest.generation(),
        host_preview.manifest.generation()
    );
    assert_eq!(host_preview.tree.secrets().len(), 1);
    generation
}

#[test]
fn what_is_built_by_hand_is_what_the_machine_builds() {
    if let Some(fleet) = env::var_os(FLEET) {
        return build(Path::new(&fleet));
    }
    for (kind, contents) in [
        ("flake", with(flake("1.1"), "config/flake.nix", FLAKE)),
        (
            "classic",
            with(classic("1.1"), "config/configuration.nix", CLASSIC),
        ),
    ] {
        let mut env = ClientEnv::new();
        let fleet = env.path(kind);
        let contents = [contents, symlinks()].concat();
        write_fleet(&fleet, &contents);
        env.server.publish(&published(&fleet), &[]);
        env.update().with(0);
        env.is_wholly_on("1.1");
        let by_machine = env.last_report().system.built;
        assert_eq!(
            Some(built_by_administrator(&env, &fleet)),
            by_machine,
            "{kind}"
        );
    }
}
