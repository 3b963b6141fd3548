mod existing;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bento_protocol::Address;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::fleet_folder::{flake_advice, is_unmanaged_flake};
use crate::legacy::server_folder::refuse_legacy_folder;

/// Create a fleet folder with an example of each kind of machine
///
/// Replace the examples with your own machines. With --existing, write only a fleet.toml for a folder that already
/// holds the flake of all machines.
#[derive(Debug, Args)]
pub struct InitCommand {
    /// The folder; it is created if it is missing
    #[arg(value_name = "DIR", env = "BENTO_DIR", default_value = ".", value_parser = folder())]
    folder: PathBuf,
    /// Write a fleet.toml for the machines of the flake in the folder, and print the files that each machine would get
    #[arg(long)]
    existing: bool,
    /// The name or address of the appliance, as the machines reach it
    #[arg(long, default_value = EXAMPLE_ADDRESS, value_parser = address)]
    address: Address,
    /// The port of the appliance, as the machines reach it
    #[arg(long, default_value_t = EXAMPLE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The GitHub account with the bento repository for the machines; replaces OWNER in all files
    #[arg(long, default_value = "OWNER", value_parser = owner)]
    owner: String,
}

/// Parses the name of a GitHub account, which is written to Nix files.
fn owner(text: &str) -> Result<String, String> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '-';
    match !text.is_empty() && text.chars().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err("an account name may only have letters, digits and hyphens".to_owned()),
    }
}

/// Parses the folder; an empty variable means the current one.
fn folder() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(|named| match named.is_empty() {
        true => PathBuf::from("."),
        false => PathBuf::from(named),
    })
}

/// Parses an address as `fleet.toml` does.
fn address(text: &str) -> Result<Address, String> {
    let address = text.parse::<Address>();
    address.map_err(|error| format!("{error}: give the address alone, and the port with --port"))
}

const EXAMPLE_ADDRESS: &str = "bento.example.org";
const EXAMPLE_PORT: u16 = 2222;

/// The files of the example, by their paths in the fleet folder.
const FILES: [(&str, &str); 11] = [
    ("fleet.toml", include_str!("init/fleet.toml")),
    ("README.md", include_str!("init/README.md")),
    (".gitignore", include_str!("init/gitignore")),
    (
        "hosts/kikimora/flake.nix",
        include_str!("init/hosts/kikimora/flake.nix"),
    ),
    (
        "hosts/kikimora/configuration.nix",
        include_str!("init/hosts/kikimora/configuration.nix"),
    ),
    (
        "hosts/desks/flake.nix",
        include_str!("init/hosts/desks/flake.nix"),
    ),
    (
        "hosts/desks/configuration.nix",
        include_str!("init/hosts/desks/configuration.nix"),
    ),
    (
        "hosts/pi/configuration.nix",
        include_str!("init/hosts/pi/configuration.nix"),
    ),
    ("utils/common.nix", include_str!("init/utils/common.nix")),
    ("utils/bento.nix", include_str!("init/utils/bento.nix")),
    (
        "bento-secrets/kikimora/wifi.env",
        include_str!("init/bento-secrets/kikimora/wifi.env"),
    ),
];

/// The symlinks by which machines share `utils`.
const LINKS: [(&str, &str); 3] = [
    ("hosts/kikimora/utils", "../../utils"),
    ("hosts/desks/utils", "../../utils"),
    ("hosts/pi/utils", "../../utils"),
];

impl InitCommand {
    /// Writes the example.
    ///
    /// # Errors
    /// When a file of it exists, in which case nothing is written, or when a file can't be written.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        if self.existing {
            return existing::init(&self.folder, &self.address, self.port, output);
        }
        if is_unmanaged_flake(&self.folder) {
            bail!("{}", flake_advice(&self.folder));
        }
        let names = FILES.iter().chain(&LINKS).map(|(path, _)| *path);
        let there: Vec<_> = names
            .filter(|path| fs::symlink_metadata(self.folder.join(path)).is_ok())
            .collect();
        if !there.is_empty() {
            refuse_legacy_folder(&self.folder)?;
            bail!(
                "{} already has {}, and init never overwrites files: choose another folder. For a folder with a flake of your \
                 machines, use `bento init --existing`",
                self.folder.display(),
                there.join(", ")
            );
        }
        for (path, text) in FILES {
            let text = text.replace(EXAMPLE_ADDRESS, self.address.as_str());
            let text = text.replace("OWNER/bento", &format!("{}/bento", self.owner));
            let text = text.replace(
                &format!("port = {EXAMPLE_PORT}"),
                &format!("port = {}", self.port),
            );
            self.create(path, |path| fs::write(path, text))?;
        }
        for (path, target) in LINKS {
            self.create(path, |path| symlink(target, path))?;
        }
        let folder = self.folder.canonicalize();
        let folder = folder.unwrap_or_else(|_| self.folder.clone());
        writeln!(
            output,
            "Created a fleet in {}: kikimora, alice and bob are machines with flakes, pi is one without.\n\n\
             Next, run there:\n\n    \
             bento check                      preview the next publication, and list problems\n    \
             podman exec bento bento host-key\n    \
                                              print the appliance's key: add it to host_keys in fleet.toml, for\n    \
                                              `host add`, and to utils/bento.nix\n    \
             bento host add NAME --key KEY    enrol a machine, and print its setup\n\n\
             README.md has the details.",
            folder.display()
        )?;
        Ok(())
    }

    fn create(
        &self,
        path: &str,
        write: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.folder.join(path);
        let parent = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent)
            .and_then(|()| write(&path))
            .with_context(|| format!("can't write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Findings;
    use crate::fleet;
    use crate::preview::Preview;
    use crate::scan::{FleetFolder, HostTree};

    fn init(folder: &Path) -> anyhow::Result<()> {
        let init = InitCommand {
            folder: folder.to_owned(),
            existing: false,
            address: "10.0.0.1".parse().unwrap(),
            port: 2022,
            owner: "somebody".to_owned(),
        };
        init.run(&mut Vec::new())
    }

    #[test]
    fn the_example_is_a_fleet_without_problems() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("fleet.toml")).unwrap();
        let reading = fleet::read(&text).unwrap();
        assert!(reading.problems.is_empty(), "{:?}", reading.problems);
        assert_eq!(
            (
                reading.fleet.server.address.as_str(),
                reading.fleet.server.port
            ),
            ("10.0.0.1", 2022)
        );
        assert!(
            fs::read_to_string(folder.path().join("utils/bento.nix"))
                .unwrap()
                .contains("port = 2022")
        );
        let opened = FleetFolder::open(folder.path()).unwrap();
        for (name, host) in &reading.fleet.hosts {
            let tree = HostTree::walk(&opened, name, host).unwrap();
            assert!(tree.has_config("utils/common.nix"), "{name} shares utils");
        }
    }

    // Issue 10, line 44.
    #[test]
    fn the_owner_of_bento_replaces_every_placeholder() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path()).unwrap();
        let mut named = 0;
        for (path, _) in FILES {
            let text = fs::read_to_string(folder.path().join(path)).unwrap();
            assert!(!text.contains("OWNER/bento"), "{path}");
            named += text.matches("somebody/bento").count();
        }
        assert!(named > 0);
    }

    #[test]
    fn an_invalid_address_is_refused_before_anything_is_written() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            init: InitCommand,
        }
        let parse = |option| <Line as clap::Parser>::try_parse_from(["init", "x", option]);
        for bad in ["--address=", "--address=a:22", "--address=a\"b", "--port=0"] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains("invalid value"), "{error}");
        }
        let error = parse("--address=a:22").unwrap_err().to_string();
        assert!(error.contains("the port with --port"), "{error}");
        assert!(parse("--address=2001:db8::1").is_ok());
        let text = "[server]\naddress = \"a:22\"\n";
        let refused = fleet::read(text).unwrap_err();
        assert!(
            refused[0]
                .to_string()
                .starts_with("fleet.toml:2: [server]: "),
            "{refused:?}"
        );
    }

    #[test]
    fn the_example_has_no_errors_and_no_warnings() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path()).unwrap();
        let preview = Preview::make(folder.path(), &[]).unwrap();
        assert!(preview.problems.is_empty(), "{:?}", preview.problems);
        assert!(preview.machines.values().all(Option::is_some));
        let findings = Findings::of(folder.path(), &preview);
        assert!(
            findings.errors.is_empty() && findings.warnings.is_empty(),
            "{findings:?}"
        );
    }

    #[test]
    fn commented_settings_are_valid_and_defaults_or_examples() {
        let text = FILES[0].1;
        // Each line that is a setting or a table without the #.
        let is_setting = |line: &&str| {
            let bare = line.trim_start_matches("# ");
            bare.starts_with('[')
                || bare
                    .split_once(" = ")
                    .is_some_and(|(key, _)| !key.contains(' '))
        };
        let all: Vec<_> = text
            .lines()
            .filter(is_setting)
            .map(|line| line.trim_start_matches("# "))
            .collect();
        let all = all.join("\n");
        let (before, notify) = all.split_once("[notify]").unwrap();
        let (notify, after) = notify.split_once("[defaults]").unwrap();
        for key in ["webhook", "timeout"] {
            assert!(notify.contains(&format!("{key} = ")), "{notify}");
        }
        let said = fleet::read(&format!("{before}[defaults]{after}")).unwrap();
        assert!(said.problems.is_empty(), "{:?}", said.problems);
        let mut fleet = said.fleet;
        assert!(!fleet.server.admin.is_empty());
        fleet.server.admin.clear();
        let window = fleet
            .hosts
            .values_mut()
            .map(|host| host.terms.reboot_window.take());
        assert!(window.into_iter().all(|window| window.is_some()));
        assert_eq!(fleet, fleet::read(text).unwrap().fleet);
        for key in [
            "include",
            "exclude",
            "paused",
            "silent_after",
            "reboot",
            "self_update",
            "nix_args",
            "source",
            "attribute",
            "renamed_from",
            "host_keys",
            "when",
            "require_build",
            "keys",
        ] {
            assert!(all.contains(&format!("\n{key} = ")), "{key} isn't shown");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("utils")).unwrap();
        fs::write(folder.path().join("utils/common.nix"), "mine").unwrap();
        assert!(
            init(folder.path())
                .unwrap_err()
                .to_string()
                .contains("utils/common.nix")
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
