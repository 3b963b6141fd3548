//! Builds the system that a staged generation describes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use bento_protocol::{HostName, Policy, SystemPath, Terms};

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

/// What is built: a generation as it was published, or a working copy of it.
#[derive(Debug, Clone)]
pub(crate) struct Source<'a> {
    /// The folder that Nix builds.
    pub(crate) config: &'a Path,
    /// What the fleet says about its use.
    pub(crate) policy: &'a Policy,
    /// With what Nix logs in where the inputs are private.
    pub(crate) netrc: Option<PathBuf>,
}

impl<'a> Source<'a> {
    /// A generation as it was published.
    pub(crate) fn published(state: &State, staged: &'a Staged) -> Self {
        let netrc = state.secrets_of(&staged.id()).join("netrc");
        Source {
            config: &staged.config,
            policy: staged.policy(),
            netrc: netrc.is_file().then_some(netrc),
        }
    }

    /// Hands the netrc to a command of Nix. Where a daemon builds, it reads the same file, as root.
    pub(crate) fn hand_over_netrc(&self, command: &mut Command) {
        if let Some(netrc) = &self.netrc {
            command.args(["--option", "netrc-file"]).arg(netrc);
        }
    }
}

/// Why there is no system.
#[derive(Debug)]
pub struct BuildError {
    /// What failed, and where.
    pub error: anyhow::Error,
    /// Whether the same may succeed later, though nothing changes in the generation.
    pub is_passing: bool,
}

impl BuildError {
    /// A failure that lies in the configuration itself.
    fn of_the_configuration(error: anyhow::Error) -> Self {
        BuildError {
            error,
            is_passing: false,
        }
    }
}

/// An error of this machine: that of a disk or of a missing program is no fault of the generation.
impl From<anyhow::Error> for BuildError {
    fn from(error: anyhow::Error) -> Self {
        BuildError {
            error,
            is_passing: true,
        }
    }
}

/// The version of the Nix in PATH.
pub(crate) fn nix_version() -> Option<String> {
    let output = Command::new("nix").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // `nix (Nix) 2.18.1`, `nix (Lix, like Nix) 2.91.1`
    let version = text.lines().next()?.split_whitespace().last()?;
    Some(version.to_owned())
}

/// Whether a configuration is a flake. A flake wins over a configuration.nix.
pub(crate) fn is_flake(config: &Path) -> bool {
    config.join("flake.nix").is_file()
}

/// Whether all that a configuration is built from is pinned: a flake with its lock file. What else there is may move
/// by itself, so that what failed may succeed later.
pub(crate) fn has_lock(config: &Path) -> bool {
    is_flake(config) && config.join("flake.lock").is_file()
}

/// Builds, and gives the store path of the system. The result stays linked from the state folder.
pub(crate) fn build(
    settings: &Settings,
    state: &State,
    source: &Source<'_>,
    tail: &mut Tail,
    line: &mut dyn FnMut(&str),
) -> Result<SystemPath, BuildError> {
    let kind = kind(source.config).map_err(BuildError::of_the_configuration)?;
    let result = state.result();
    // A link that an earlier build left must not pass for this one's.
    durable::remove_if_there(&result)
        .with_context(|| format!("can't remove {}", result.display()))?;
    run(command(&kind, settings, source, &result), tail, line)?;
    system(&result)
}

/// Runs a command of Nix to its good end.
pub(crate) fn run(
    command: Command,
    tail: &mut Tail,
    line: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    // What was said before, perhaps by another attempt, is no reason of this one's.
    let mut said = Tail::default();
    let status = process::run(command, None, &mut |text| {
        said.push(text);
        tail.push(text);
        line(text);
    })?;
    if status.success() {
        return Ok(());
    }
    let essence = nix_error::essence(said.lines());
    let is_killed = status.signal().is_some();
    Err(BuildError {
        error: match (essence.is_empty(), is_killed) {
            (true, _) => anyhow!("{program} ended with {status} and said nothing"),
            (false, true) => anyhow!("{program} ended with {status}: {essence}"),
            (false, false) => anyhow!("{essence}"),
        },
        is_passing: is_killed || nix_error::is_passing(said.lines()),
    })
}

/// Finds out what there is to build.
fn kind(config: &Path) -> anyhow::Result<Kind> {
    if is_flake(config) {
        return Ok(Kind::Flake(config.to_owned()));
    }
    let classic = config.join("configuration.nix");
    if classic.is_file() {
        return Ok(Kind::Classic(classic));
    }
    Err(anyhow!(
        "there is neither a flake.nix nor a configuration.nix in {}: this machine's folder of the fleet must have one \
         of them at its top",
        config.display()
    ))
}

fn command(kind: &Kind, settings: &Settings, source: &Source<'_>, result: &Path) -> Command {
    let terms = source.policy.terms();
    let mut command = match kind {
        Kind::Flake(folder) => {
            let mut command = flake_command(&["build"]);
            command
                .arg(installable(folder, &settings.name, terms))
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
    command.arg(result);
    source.hand_over_netrc(&mut command);
    command
        .args(terms.nix_args.as_slice())
        .args(settings.nix_args.as_slice());
    command
}

/// A command of `nix` that knows flakes, whatever its nix.conf says.
pub(crate) fn flake_command(words: &[&str]) -> Command {
    let mut command = Command::new("nix");
    command
        .args(["--extra-experimental-features", "nix-command flakes"])
        .args(words);
    command
}

fn installable(folder: &Path, host: &HostName, terms: &Terms) -> String {
    let attribute = match &terms.attribute {
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
fn system(result: &Path) -> Result<SystemPath, BuildError> {
    let path = fs::canonicalize(result)
        .with_context(|| format!("the build left no result at {}", result.display()))?;
    let shown = path.display();
    if !path.join("bin/switch-to-configuration").is_file() {
        return Err(BuildError::of_the_configuration(anyhow!(
            "what was built isn't a NixOS system: {shown} has no bin/switch-to-configuration"
        )));
    }
    let text = path
        .to_str()
        .with_context(|| format!("the path {shown} isn't text"))?;
    Ok(text.parse().map_err(anyhow::Error::new)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source<'a>(policy: &'a Policy, netrc: Option<&str>) -> Source<'a> {
        Source {
            config: Path::new("/state/config"),
            policy,
            netrc: netrc.map(PathBuf::from),
        }
    }

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
        let policy = terms.into();
        let command = command(
            &Kind::Flake("/state/config".into()),
            &settings(),
            &source(&policy, Some("/state/secrets/netrc")),
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
        let command = command(
            &kind,
            &settings(),
            &source(&Policy::default(), None),
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
    fn what_is_said_decides_whether_it_may_pass_and_a_signal_always_may() {
        let mut tail = Tail::default();
        tail.push("error: unable to download 'https://a/x': HTTP error 503");
        let mut said = Vec::new();
        let mut fail = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            run(command, &mut tail, &mut |line| said.push(line.to_owned())).unwrap_err()
        };
        let own = fail("echo \"error: undefined variable 'pkgz'\" >&2; exit 1");
        assert!(!own.is_passing, "{own:?}");
        assert_eq!(own.error.to_string(), "error: undefined variable 'pkgz'");
        assert!(fail("echo 'error: writing to file: No space left on device'; exit 1").is_passing);
        let killed = fail("echo \"error: undefined variable 'pkgz'\"; kill -9 $$");
        assert!(killed.is_passing, "{killed:?}");
        assert!(killed.error.to_string().contains("signal: 9"), "{killed:?}");
        let silent = fail("exit 3");
        assert!(!silent.is_passing, "{silent:?}");
        assert!(
            silent.error.to_string().contains("said nothing"),
            "{silent:?}"
        );
        assert_eq!(said.len(), 3);
        assert_eq!(tail.lines().count(), 4);
    }

    #[test]
    fn only_a_flake_with_a_lock_file_is_pinned() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("flake.lock"), "{}").unwrap();
        assert!(!has_lock(folder.path()));
        fs::write(folder.path().join("flake.nix"), "").unwrap();
        assert!(has_lock(folder.path()));
        fs::remove_file(folder.path().join("flake.lock")).unwrap();
        assert!(!has_lock(folder.path()));
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
