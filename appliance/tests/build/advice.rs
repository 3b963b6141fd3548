//! Runs the commands in the advice of `bento check`.

use std::fs;

use bento_tests::process::Output;

use crate::env::BuildEnv;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";
const KEY_TWO: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDQwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw";

/// The commands in a text, between backticks.
fn commands(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

impl BuildEnv {
    /// Runs a command in the fleet folder.
    fn shell(&self, command: &str) -> Output {
        let bento = std::path::Path::new(env!("CARGO_BIN_EXE_bento"));
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", bento.parent().unwrap().display());
        let mut shell = self.environment("sh");
        shell.args(["-c", command]).env("PATH", path);
        shell.env("NIX_CONFIG", "experimental-features = nix-command flakes");
        Output::of(shell.current_dir(self.fleet()))
    }
}

// Issue 10, lines 2 and 37.
#[test]
fn every_command_that_check_prints_works() {
    let env = BuildEnv::new(&["kikimora", "desk"]);
    for host in ["kikimora", "desk"] {
        env.flake(host, ":");
    }
    let toml = env.read("fleet.toml");
    let keyed = toml.replace(
        "[hosts.kikimora]",
        &format!("[hosts.kikimora]\nkeys = [\"{KEY}\"]"),
    );
    assert_ne!(toml, keyed);
    env.write("fleet.toml", &keyed);
    fs::remove_file(env.fleet().join("hosts/kikimora/flake.lock")).unwrap();
    env.write("hosts/desk/flake.lock", "not a lock");
    env.write("hosts/desk/default.nix", "import ./gone.nix");
    let user = format!("# sftp_users\n{{ username = \"t470\"; key = \"{KEY_TWO}\"; }}\n");
    env.write("fleet.nix", &user);
    let said = env.bento(&["check", "--quiet", "--offline"]).with(0).stdout;
    let mut typed = commands(&said);
    typed.sort();
    let add = format!("bento host add t470 --key \"{KEY_TWO}\"");
    assert_eq!(
        typed,
        [
            "bento build --dry-run desk",
            &add,
            "nix flake lock ./hosts/desk",
            "nix flake lock ./hosts/kikimora"
        ]
    );
    fs::remove_file(env.fleet().join("hosts/desk/flake.lock")).unwrap();
    // Locked before it is built.
    typed.reverse();
    for command in &typed {
        let ended = env.shell(command);
        assert_eq!(ended.code(), 0, "{command}: {}", ended.stdout);
    }
    assert!(env.read("fleet.toml").contains("[hosts.t470]"));
}
