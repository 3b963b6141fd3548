//! Builds the system that a staged generation describes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bento_protocol::{HostName, Policy, SystemPath};

use crate::durable;
use crate::generations::Staged;
use crate::nix_error;
use crate::process;
use crate::settings::Settings;
use crate::state::State;
use crate::tail::Tail;

/// What Nix is given to build.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// An attribute of the flake in this folder.
    Flake(PathBuf),
    /// `<nixpkgs/nixos>` with this configuration.nix.
    Classic(PathBuf),
}

/// The version of the Nix in PATH.
pub(crate) fn nix_version() -> Option<String> {
    let output = Command::new("nix").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().rsplit(' ').next().map(str::to_owned)
}

/// Builds, and gives the store path of the system. The result stays linked from the state folder.
pub(crate) fn build(
    settings: &Settings,
    state: &State,
    staged: &Staged,
    tail: &mut Tail,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<SystemPath> {
    let kind = kind(&staged.config)?;
    let result = state.result();
    // A link that an earlier build left must not pass for this one's.
    durable::remove_if_there(&result)
        .with_context(|| format!("can't remove {}", result.display()))?;
    let command = command(&kind, settings, staged.policy(), &result);
    let program = command.get_program().to_string_lossy().into_owned();
    let status = process::run(command, None, &mut |text| {
        tail.push(text);
        line(text);
    })?;
    if !status.success() {
        let essence = nix_error::essence(tail.lines());
        if essence.is_empty() {
            bail!("{program} ended with {status} and said nothing");
        }
        bail!("{essence}");
    }
    system(&result)
}

/// Finds out what there is to build: a flake wins over a configuration.nix.
fn kind(config: &Path) -> anyhow::Result<Kind> {
    if config.join("flake.nix").is_file() {
        return Ok(Kind::Flake(config.to_owned()));
    }
    let classic = config.join("configuration.nix");
    if classic.is_file() {
        return Ok(Kind::Classic(classic));
    }
    bail!(
        "there is neither a flake.nix nor a configuration.nix in {}: this machine's folder of the fleet must have one \
         of them at its top",
        config.display()
    )
}

fn command(kind: &Kind, settings: &Settings, policy: &Policy, result: &Path) -> Command {
    let mut command = match kind {
        Kind::Flake(folder) => {
            let mut command = Command::new("nix");
            command
                .args([
                    "--extra-experimental-features",
                    "nix-command flakes",
                    "build",
                ])
                .arg(installable(folder, &settings.name, policy))
                .args(["--no-write-lock-file", "--print-build-logs", "--out-link"]);
            command
        }
        Kind::Classic(file) => {
            let mut configuration = OsString::from("nixos-config=");
            configuration.push(file);
            let mut command = Command::new("nix-build");
            command
                .env("NIX_PATH", &settings.nix_path)
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
    command
        .arg(result)
        .args(policy.terms().nix_args.as_slice())
        .args(settings.nix_args.as_slice());
    command
}

fn installable(folder: &Path, host: &HostName, policy: &Policy) -> String {
    let attribute = match &policy.terms().attribute {
        Some(attribute) => attribute.as_str(),
        None => host.as_str(),
    };
    // The folder's name needs no escaping: State holds only plain paths.
    format!(
        "path:{}#nixosConfigurations.\"{attribute}\".config.system.build.toplevel",
        folder.display()
    )
}

/// The system to which the result leads.
fn system(result: &Path) -> anyhow::Result<SystemPath> {
    let path = fs::canonicalize(result)
        .with_context(|| format!("the build left no result at {}", result.display()))?;
    let shown = path.display();
    if !path.join("bin/switch-to-configuration").is_file() {
        bail!("what was built isn't a NixOS system: {shown} has no bin/switch-to-configuration");
    }
    let text = path
        .to_str()
        .with_context(|| format!("the path {shown} isn't text"))?;
    Ok(text.parse()?)
}

#[cfg(test)]
mod tests {
    use bento_protocol::Terms;

    use super::*;

    fn settings() -> Settings {
        let text = "name = \"kikimora\"\nnix_args = [\"--fallback\"]\nnix_path = \"nixpkgs=/elsewhere\"\n\
                    [[servers]]\naddress = \"a\"\nhost_keys = [\"ssh-ed25519 \
                    AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti\"]\n";
        Settings::parse(text).unwrap()
    }

    fn arguments(command: &Command) -> Vec<&str> {
        command
            .get_args()
            .map(|argument| argument.to_str().unwrap())
            .collect()
    }

    #[test]
    fn a_flake_is_built_by_its_attribute_with_the_own_arguments_last() {
        let terms = Terms {
            attribute: Some("web.1".to_owned().try_into().unwrap()),
            nix_args: vec!["--option".into(), "cores".into(), "1".into()]
                .try_into()
                .unwrap(),
            ..Terms::default()
        };
        let kind = Kind::Flake("/state/config".into());
        let command = command(
            &kind,
            &settings(),
            &terms.into(),
            Path::new("/state/result"),
        );
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
                "cores",
                "1",
                "--fallback",
            ]
        );
    }

    #[test]
    fn a_classic_configuration_is_built_from_the_stated_channels() {
        let kind = Kind::Classic("/state/config/configuration.nix".into());
        let command = command(
            &kind,
            &settings(),
            &Policy::default(),
            Path::new("/state/result"),
        );
        assert_eq!(command.get_program(), "nix-build");
        assert!(arguments(&command).contains(&"nixos-config=/state/config/configuration.nix"));
        let (name, value) = command.get_envs().next().unwrap();
        assert_eq!(
            (name.to_str(), value.unwrap().to_str()),
            (Some("NIX_PATH"), Some("nixpkgs=/elsewhere"))
        );
    }

    #[test]
    fn a_flake_wins_and_nothing_is_an_error_that_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let error = kind(folder.path()).unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
        let classic = folder.path().join("configuration.nix");
        fs::write(&classic, "").unwrap();
        assert_eq!(kind(folder.path()).unwrap(), Kind::Classic(classic));
        fs::write(folder.path().join("flake.nix"), "").unwrap();
        assert_eq!(
            kind(folder.path()).unwrap(),
            Kind::Flake(folder.path().into())
        );
    }
}
