//! What the repository has of Nix: parsed, evaluated and built by the real Nix, as far as that goes without nixpkgs.

mod nix;
mod settings;
mod units;

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bento_tests::appliance::CONFINEMENT;
use bento_tests::artifacts;
use bento_tests::process;
use serde_json::json;

use self::nix::Nix;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";

fn repository(path: &str) -> String {
    artifacts::repository().join(path).display().to_string()
}

/// A system with one of our modules and settings for it, evaluated on the stand-in for nixpkgs.
fn system(module: &str, settings: &str) -> String {
    format!(
        "(import {} {{ modules = [ {} {{ nixpkgs.hostPlatform = \"{ARCH}-linux\"; {settings} }} ]; }})",
        repository("tests/nixpkgs-stand-in/nixos/eval.nix"),
        repository(&format!("nixos/{module}.nix")),
    )
}

fn client(settings: &str) -> String {
    system(
        "client",
        &format!("services.bento-client = {{ enable = true; {settings} }};"),
    )
}

/// The smallest settings that make a client.
fn one_server() -> String {
    format!(
        "name = \"kikimora\"; servers = [ {{ address = \"127.0.0.1\"; port = 1; hostKeys = [ \"{KEY}\" ]; }} ];"
    )
}

#[test]
fn every_file_of_nix_parses() -> Result<()> {
    let nix = Nix::new()?;
    let mut files = Vec::new();
    for folder in ["nixos", "appliance", "tests/nixpkgs-stand-in"] {
        find_nix(&artifacts::repository().join(folder), &mut files)?;
    }
    files.push(artifacts::repository().join("flake.nix"));
    for file in [
        "nixos/client.nix",
        "nixos/appliance.nix",
        "nixos/package.nix",
        "nixos/image.nix",
    ] {
        assert!(
            files.contains(&artifacts::repository().join(file)),
            "{file} isn't in {files:?}"
        );
    }
    for file in files {
        let mut parse = nix.command("nix-instantiate");
        process::run(parse.arg("--parse").arg(file), process::SHORT)?.success()?;
    }
    Ok(())
}

fn find_nix(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_nix(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "nix") {
            found.push(path);
        }
    }
    Ok(())
}

/// Evaluating these systems must fail, and say so.
fn all_are_refused(nix: &Nix, systems: &[(String, &str)]) -> Result<()> {
    for (system, message) in systems {
        let output =
            nix.try_to_evaluate(&format!("{system}.config.system.build.toplevel.outPath"))?;
        assert_ne!(output.code(), 0, "{system} was taken");
        // Messages are broken into lines for a terminal.
        let said = output
            .stderr
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(said.contains(message), "{message:?} isn't in {said}");
    }
    Ok(())
}

#[test]
fn a_client_that_could_not_work_is_not_built() -> Result<()> {
    let nix = Nix::new()?;
    let good = client(&one_server());
    nix.evaluate(&format!("{good}.config.system.build.toplevel.outPath"))?;
    let with = |change: &str| client(&format!("{} {change}", one_server()));
    let beside = |more: &str| {
        let ours = format!(
            "services.bento-client = {{ enable = true; {} }};",
            one_server()
        );
        system("client", &format!("{ours} {more}"))
    };
    let secret_password = "users.users.alice.hashedPasswordFile = \"/var/lib/bento/secrets/alice\"; \
                           fileSystems.\"/var/lib/bento\".neededForBoot =";
    let good = beside(&format!("{secret_password} true;"));
    nix.evaluate(&format!("{good}.config.system.build.toplevel.outPath"))?;
    all_are_refused(
        &nix,
        &[
            (
                beside(&format!("{secret_password} false;")),
                "The password of alice is one of bento's secrets, which NixOS reads before it mounts /var/lib/bento",
            ),
            // Issue 10, line 24.
            (
                beside("nix.enable = false;"),
                "services.bento-client builds this machine's systems with Nix, but nix.enable is false",
            ),
            (
                client("name = \"kikimora\";"),
                "services.bento-client.servers is empty: without a server this machine would never be updated again",
            ),
            (
                client("name = \"kikimora\"; servers = [ { address = \"a.example.org\"; } ];"),
                "services.bento-client.servers: no hostKeys for a.example.org:2222",
            ),
            (
                client("servers = [ { address = \"a\"; hostKeys = [ \"ssh-ed25519 AAAA\" ]; } ];"),
                "is not of type",
            ),
            (
                with("identityFile = \"key\";"),
                "services.bento-client.identityFile is \"key\". It must be an absolute path",
            ),
            (
                client(&one_server().replace("kikimora", "Kikimora")),
                "services.bento-client.name is \"Kikimora\", which can't be a name in a fleet",
            ),
            // Issue 10, line 9.
            (
                client(&one_server().replace("kikimora", "CORE_PW0D2M1A.example.org")),
                "\"core-pw0d2m1a\"; there, set attribute = \"CORE_PW0D2M1A.example.org\"",
            ),
            (with("operation = \"test\";"), "is not of type `one of"),
            (
                with("health.checks.web.command = [ ];"),
                "is not of type `non-empty list of string'",
            ),
            (
                with("disk.keepSystems = 1;"),
                "is not of type `integer between 2",
            ),
            (
                with("intervall = \"hourly\";"),
                "`services.bento-client.intervall' does not exist",
            ),
        ],
    )
}

fn appliance(settings: &str) -> String {
    // The image is built by nixpkgs' means; here it only has to lie somewhere.
    let settings = format!("enable = true; image = \"/opt/bento.oci.tar\"; {settings}");
    system(
        "appliance",
        &format!("services.bento-appliance = {{ {settings} }};"),
    )
}

#[test]
fn the_appliance_of_the_module_is_confined_as_the_tests_have_it() -> Result<()> {
    let nix = Nix::new()?;
    let evaluated = nix.evaluate(&format!(
        "let config = {}.config; in {{
            service = config.systemd.services.bento-appliance.serviceConfig;
            user = config.users.users.bento;
            ports = config.networking.firewall.allowedTCPPorts;
        }}",
        appliance("fleet = \"/srv/fleet\"; port = 2022; openFirewall = true;")
    ))?;
    let service = &evaluated["service"];
    let start = service["ExecStart"].as_str().unwrap_or_default();
    let words: Vec<_> = start.split([' ', '=']).collect();
    let mut granted: Vec<_> = words
        .iter()
        .zip(words.iter().skip(1))
        .filter(|(option, _)| **option == "--cap-add")
        .map(|(_, name)| *name)
        .collect();
    let mut expected: Vec<&str> = CONFINEMENT
        .iter()
        .filter_map(|option| option.strip_prefix("--cap-add="))
        .flat_map(|names| names.split(','))
        .collect();
    granted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(granted, expected);
    for part in [
        "--read-only ",
        "--cap-drop=all ",
        "--security-opt=no-new-privileges ",
        "--sdnotify=container ",
        "--publish=2022:2222 ",
        "--volume=/srv/fleet:/config:ro ",
        "--volume=bento-state:/state ",
    ] {
        assert!(start.contains(part), "{part} isn't in {start}");
    }
    assert!(start.ends_with(" localhost/bento:latest"), "{start}");
    assert!(!start.contains("9470"), "{start}");
    let with_metrics = nix.evaluate(&format!(
        "{}.config.systemd.services.bento-appliance.serviceConfig.ExecStart",
        appliance("fleet = \"/srv/fleet\"; metricsPort = 9100;")
    ))?;
    let with_metrics = with_metrics.as_str().unwrap_or_default();
    assert!(
        with_metrics.contains(" --publish=127.0.0.1:9100:9470 ")
            && with_metrics.ends_with(" localhost/bento:latest serve --metrics=0.0.0.0:9470"),
        "{with_metrics}"
    );
    assert_eq!(service["Type"], "notify");
    assert_eq!(service["User"], "bento");
    assert_eq!(evaluated["user"]["autoSubUidGidRange"], true);
    assert_eq!(evaluated["ports"], json!([2022]));
    all_are_refused(
        &nix,
        &[
            (
                appliance("fleet = \"fleet\";"),
                "services.bento-appliance.fleet is \"fleet\". It must be an absolute path outside the Nix store",
            ),
            (
                appliance(""),
                "`services.bento-appliance.fleet' was accessed but has no value defined",
            ),
            (appliance("fleet = \"/srv/my fleet\";"), "is not of type"),
        ],
    )
}

#[test]
fn the_flake_offers_modules_and_packages() -> Result<()> {
    let nix = Nix::new()?;
    let offered = nix.evaluate(&format!(
        "let
            nixpkgs = (import {}/flake.nix).outputs {{ self = {0}; }};
            flake = (import {}).outputs {{ self = flake; inherit nixpkgs; }};
            names = builtins.attrNames;
        in {{
            modules = names flake.nixosModules;
            systems = names flake.packages;
            packages = names flake.packages.x86_64-linux;
            evaluated = (nixpkgs.lib.nixosSystem {{ modules = [
                flake.nixosModules.default
                {{ nixpkgs.hostPlatform = \"x86_64-linux\"; }}
            ]; }}).config.services.bento-client.enable;
        }}",
        repository("tests/nixpkgs-stand-in"),
        repository("flake.nix"),
    ))?;
    assert_eq!(
        offered["modules"],
        json!(["appliance", "client", "default"])
    );
    assert_eq!(offered["systems"], json!(["aarch64-linux", "x86_64-linux"]));
    assert_eq!(
        offered["packages"],
        json!(["bento", "bento-client", "bento-image", "default", "image"])
    );
    assert_eq!(offered["evaluated"], false);
    Ok(())
}
