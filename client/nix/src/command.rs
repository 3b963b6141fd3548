//! Command lines of Nix.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use bento_protocol::{HostName, Terms};

use crate::configuration::Kind;
use crate::version::Version;

/// The build of a machine's system.
#[derive(Debug, Clone, Copy)]
pub struct SystemBuild<'a> {
    /// The flake or configuration.nix to build.
    pub kind: &'a Kind,
    /// The machine.
    pub host: &'a HostName,
    /// The machine's settings in the fleet.
    pub terms: &'a Terms,
    /// `NIX_PATH` for a build without a flake; none: that of the environment.
    pub nix_path: Option<&'a str>,
    /// Credentials for private inputs.
    pub netrc: Option<&'a Path>,
    /// Further arguments from the caller.
    pub arguments: &'a [String],
    /// The link to the result, which keeps it from garbage collection.
    pub result: &'a Path,
}

impl SystemBuild<'_> {
    /// The command of the build.
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
        pass_netrc(&mut command, self.netrc);
        command
            .args(self.terms.nix_args.as_slice())
            .args(self.arguments);
        command
    }
}

/// Passes a netrc to a command of Nix. A build daemon reads the same file, as root.
fn pass_netrc(command: &mut Command, netrc: Option<&Path>) {
    if let Some(netrc) = netrc {
        command.args(["--option", "netrc-file"]).arg(netrc);
    }
}

/// A command of `nix` with flakes enabled, whatever nix.conf says.
pub fn flake_command(words: &[&str]) -> Command {
    let mut command = Command::new("nix");
    command
        .args(["--extra-experimental-features", "nix-command flakes"])
        .args(words);
    command
}

/// The reference of a flake in a folder. Nix before 2.19 takes the path literally, later versions decode it as a URL:
/// so the path must be plain, without spaces and characters with a meaning in a URL.
pub fn reference(folder: &Path) -> String {
    format!("path:{}", folder.display())
}

/// The attribute of a machine's system in its flake.
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

/// The command that updates the lock file of the flake in a folder: these inputs, or all if none is named.
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

/// Adds the netrc, and the `--option` arguments of builds, such as access tokens, to a command that doesn't build.
/// Other arguments are for builds only.
pub fn add_options(command: &mut Command, netrc: Option<&Path>, arguments: &[&[String]]) {
    pass_netrc(command, netrc);
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
        let build = SystemBuild {
            kind,
            host: &"kikimora".parse().unwrap(),
            terms,
            nix_path: Some("nixpkgs=/elsewhere"),
            netrc,
            arguments: &words(["--fallback"]),
            result: Path::new("/state/result"),
        };
        build.command()
    }

    #[test]
    fn a_flake_is_built_by_its_attribute_with_the_callers_arguments_last() {
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
    fn a_lock_file_is_updated_with_the_arguments_of_the_installed_nix() {
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
    fn options_of_nix_are_added_and_arguments_for_builds_are_not() {
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
