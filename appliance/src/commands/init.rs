use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

/// Write a fleet that works as it is: examples of every kind of machine, to be replaced by your own
#[derive(Debug, Args)]
pub struct Init {
    /// The folder, made if it isn't there
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The name or address at which the machines will reach the appliance
    #[arg(long, default_value = EXAMPLE_ADDRESS)]
    address: String,
    /// The port at which they will
    #[arg(long, default_value_t = EXAMPLE_PORT)]
    port: u16,
}

const EXAMPLE_ADDRESS: &str = "bento.example.org";
const EXAMPLE_PORT: u16 = 2222;

/// Every file of the example, by its path in the fleet folder.
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

impl Init {
    /// Writes the example.
    ///
    /// # Errors
    /// When anything of it is there already, in which case nothing is written, or when it can't be written.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let names = FILES.iter().chain(&LINKS).map(|(path, _)| *path);
        let there: Vec<_> = names
            .filter(|path| fs::symlink_metadata(self.folder.join(path)).is_ok())
            .collect();
        if !there.is_empty() {
            bail!(
                "{} holds {} already, and init never overwrites: choose another folder",
                self.folder.display(),
                there.join(", ")
            );
        }
        for (path, text) in FILES {
            let text = text.replace(EXAMPLE_ADDRESS, &self.address);
            let text = text.replace(
                &format!("port = {EXAMPLE_PORT}"),
                &format!("port = {}", self.port),
            );
            self.create(path, |path| fs::write(path, text))?;
        }
        for (path, target) in LINKS {
            self.create(path, |path| symlink(target, path))?;
        }
        let folder = self.folder.display();
        writeln!(
            output,
            "{folder} now holds a fleet: kikimora, alice and bob are flake machines, pi is a classic one."
        )?;
        writeln!(output, "Next: read README.md there.")?;
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
            .with_context(|| format!("{} can't be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet;
    use crate::tree::{FleetFolder, HostTree};

    fn init(folder: &Path) -> anyhow::Result<()> {
        let init = Init {
            folder: folder.to_owned(),
            address: "10.0.0.1".into(),
            port: 2022,
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
