//! What Nix is told.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use bento_protocol::{HostName, Terms};

use crate::configuration::Kind;
use crate::version::Version;

/// A build of a machine's system.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// What is built.
    pub kind: &'a Kind,
    /// Whose system it is.
    pub host: &'a HostName,
    /// What the fleet says about its use.
    pub terms: &'a Terms,
    /// Where `<nixpkgs>` is for what isn't a flake; none where the environment says so.
    pub nix_path: Option<&'a str>,
    /// With what Nix logs in where the inputs are private.
    pub netrc: Option<&'a Path>,
    /// Further arguments, of whoever builds.
    pub arguments: &'a [String],
    /// The link that leads to the result, and keeps it from being collected as garbage.
    pub result: &'a Path,
}

impl Order<'_> {
    /// The command that builds it.
    pub fn command(&self) -> Command {
        let mut command = match self.kind {
            Kind::Flake(folder) => {
                let mut command = flake_command(&["build"]);
                command
                    .arg(installable(folder, attribute(self.host, self.terms)))
                    .args(["--no-write-lock-file", "--print-build-logs", "--out-link"]);
                command
            }
            Kind::Classic(file) => {
                let mut configuration = OsString::from("nixos-config=");
                configuration.push(file);
                let mut command = Command::new("nix-build");
                if let Some(nix_path) = self.nix_path {
                    command.env("NIX_PATH", nix_path);
                }
                command
                    .args([
                        "<nixpkgs/nixos>",
                        "-A",
                        "config.system.build.toplevel",
                        "-I",
                    ])
                    .arg(configuration)
                    .arg("--out-link");
                command
            }
        };
        command.arg(self.result);
        hand_over_netrc(&mut command, self.netrc);
        command
            .args(self.terms.nix_args.as_slice())
            .args(self.arguments);
        command
    }
}

/// Hands a netrc to a command of Nix. Where a daemon builds, it reads the same file, as root.
fn hand_over_netrc(command: &mut Command, netrc: Option<&Path>) {
    if let Some(netrc) = netrc {
        command.args(["--option", "netrc-file"]).arg(netrc);
    }
}

/// A command of `nix` that knows flakes, whatever its nix.conf says.
pub fn flake_command(words: &[&str]) -> Command {
    let mut command = Command::new("nix");
    command
        .args(["--extra-experimental-features", "nix-command flakes"])
        .args(words);
    command
}

/// A flake in a folder, as Nix names it. Nix before 2.19 takes the path as it is, later ones decode it: only a plain
/// path, without spaces and signs that mean something in a URL, is the same to both.
pub fn reference(folder: &Path) -> String {
    format!("path:{}", folder.display())
}

/// What the system of a machine is called in its flake.
pub fn attribute<'a>(host: &'a HostName, terms: &'a Terms) -> &'a str {
    match &terms.attribute {
        Some(attribute) => attribute.as_str(),
        None => host.as_str(),
    }
}

fn installable(folder: &Path, attribute: &str) -> String {
    format!(
        "{}#nixosConfigurations.\"{attribute}\".config.system.build.toplevel",
        reference(folder)
    )
}

/// Moves the lock file of the flake in a folder on: these inputs, or all if none is named.
pub fn update_lock(version: Option<&Version>, folder: &Path, inputs: &[String]) -> Command {
    let names_inputs = version.is_none_or(Version::updates_single_inputs);
    let mut command = match (names_inputs, inputs) {
        (true, inputs) => {
            let mut command = flake_command(&["flake", "update"]);
            command.args(inputs).arg("--flake");
            command
        }
        (false, []) => flake_command(&["flake", "update"]),
        (false, inputs) => {
            let mut command = flake_command(&["flake", "lock"]);
            for input in inputs {
                command.args(["--update-input", input]);
            }
            command
        }
    };
    command.arg(reference(folder));
    command
}

/// Adds the netrc, and what the arguments of builds say about Nix's settings, such as access tokens, to a command that
/// doesn't build. Arguments of other kinds are for builds alone.
pub fn add_options(command: &mut Command, netrc: Option<&Path>, arguments: &[&[String]]) {
    hand_over_netrc(command, netrc);
    for arguments in arguments {
        let mut arguments = *arguments;
        while let Some((first, rest)) = arguments.split_first() {
            arguments = rest;
            if let ("--option", [name, value, rest @ ..]) = (first.as_str(), rest) {
                command.args(["--option", name, value]);
                arguments = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
        words.map(str::to_owned).into()
    }

    fn arguments(command: &Command) -> Vec<&str> {
        command
            .get_args()
            .map(|argument| argument.to_str().unwrap())
            .collect()
    }

    fn command_of(kind: &Kind, terms: &Terms, netrc: Option<&Path>) -> Command {
        let order = Order {
            kind,
            host: &"kikimora".parse().unwrap(),
            terms,
            nix_path: Some("nixpkgs=/elsewhere"),
            netrc,
            arguments: &words(["--fallback"]),
            result: Path::new("/state/result"),
        };
        order.command()
    }

    #[test]
    fn a_flake_is_built_by_its_attribute_with_the_own_arguments_last() {
        let terms = Terms {
            attribute: Some("web.1".parse().unwrap()),
            nix_args: words(["--option", "cores", "1"]).try_into().unwrap(),
            ..Terms::default()
        };
        let netrc = Path::new("/state/secrets/netrc");
        let command = command_of(&Kind::Flake("/state/config".into()), &terms, Some(netrc));
        assert_eq!(command.get_program(), "nix");
        assert_eq!(
            arguments(&command)[3..],
            [
                "path:/state/config#nixosConfigurations.\"web.1\".config.system.build.toplevel",
                "--no-write-lock-file",
                "--print-build-logs",
                "--out-link",
                "/state/result",
                "--option",
                "netrc-file",
                "/state/secrets/netrc",
                "--option",
                "cores",
                "1",
                "--fallback",
            ]
        );
    }

    #[test]
    fn a_classic_configuration_is_built_from_the_stated_channels() {
        let kind = Kind::Classic("/state/config/configuration.nix".into());
        let command = command_of(&kind, &Terms::default(), None);
        assert_eq!(command.get_program(), "nix-build");
        assert!(arguments(&command).contains(&"nixos-config=/state/config/configuration.nix"));
        let (name, value) = command.get_envs().next().unwrap();
        assert_eq!(
            (name.to_str(), value.unwrap().to_str()),
            (Some("NIX_PATH"), Some("nixpkgs=/elsewhere"))
        );
    }

    #[test]
    fn a_lock_file_is_moved_in_the_words_of_the_nix_that_is_there() {
        let words = |version, inputs: &[&str]| {
            let version = Version::from(version);
            let inputs: Vec<_> = inputs.iter().copied().map(str::to_owned).collect();
            let command = update_lock(Some(&version), Path::new("/state/working"), &inputs);
            arguments(&command)[2..].join(" ")
        };
        let flake = "path:/state/working";
        assert_eq!(words("2.8.0", &[]), format!("flake update {flake}"));
        assert_eq!(
            words("2.8.0", &["a", "b"]),
            format!("flake lock --update-input a --update-input b {flake}")
        );
        assert_eq!(
            words("2.26.3", &[]),
            format!("flake update --flake {flake}")
        );
        assert_eq!(
            words("2.26.3", &["a", "b"]),
            format!("flake update a b --flake {flake}")
        );
    }

    #[test]
    fn the_settings_of_nix_go_along_and_what_is_for_builds_does_not() {
        let mut command = Command::new("nix");
        let netrc = Path::new("/state/netrc");
        let own = words(["--fallback", "--option", "access-tokens", "a=b", "-L"]);
        add_options(&mut command, Some(netrc), &[&own, &[]]);
        assert_eq!(
            arguments(&command),
            [
                "--option",
                "netrc-file",
                "/state/netrc",
                "--option",
                "access-tokens",
                "a=b"
            ]
        );
    }
}
