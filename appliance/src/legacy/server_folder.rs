//! The folder of a bento 2022 server.

use std::fs;
use std::path::Path;

use anyhow::bail;

use crate::fleet::FILE_NAME;

/// A variable of its settings, which distinguishes them from other scripts of that name.
const VARIABLE: &str = "REMOTE_IP=";

/// Refuses the folder of a bento 2022 server.
///
/// # Errors
/// When it is one; the error has the lines that make it a fleet.
pub(crate) fn refuse_legacy_folder(folder: &Path) -> anyhow::Result<()> {
    // The file that its script needs. In a folder above, it may be another user's pipe.
    let settings = folder.join("config.sh");
    if !settings.is_file() || !folder.join("hosts").is_dir() {
        return Ok(());
    }
    let settings = fs::read_to_string(settings).unwrap_or_default();
    let is_of_it = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(VARIABLE);
    if !settings.lines().any(is_of_it) {
        return Ok(());
    }
    let value = |line: &str| Some(line.trim().strip_prefix(VARIABLE)?.to_owned());
    let address = settings.lines().find_map(value);
    let address = address
        .as_deref()
        .map(|address| address.trim_matches(['"', '\'']));
    // Other values need a shell.
    let is_plain = |address: &&str| {
        let is_of_an_address = |c: char| c.is_ascii_alphanumeric() || ".:-".contains(c);
        !address.is_empty() && address.chars().all(is_of_an_address)
    };
    let address = address.filter(is_plain).unwrap_or("bento.example.org");
    bail!(
        "{} is the folder of a bento 2022 server. To make it a fleet, create a {FILE_NAME} with these two lines, and run \
         `bento check` for a list of machines to enrol:\n\n[server]\naddress = \"{address}\"",
        folder.display()
    );
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FileType, Mode};

    use super::*;
    use crate::cli::fleet_folder::FleetFolderOption;

    #[test]
    fn the_folder_of_a_2022_server_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let option = FleetFolderOption {
            fleet: Some(folder.path().to_owned()),
        };
        let error = || option.find().unwrap_err().to_string();
        for (settings, address) in [
            ("CHROOT_DIR=/home/chroot\nREMOTE_IP=10.0.0.1\n", "10.0.0.1"),
            (
                "#REMOTE_IP=no\n REMOTE_IP=\"vps.example.net\"\n",
                "vps.example.net",
            ),
            ("REMOTE_IP=$(dig +short vps)\n", "bento.example.org"),
            ("REMOTE_IP=\n", "bento.example.org"),
        ] {
            fs::write(folder.path().join("config.sh"), settings).unwrap();
            fs::remove_dir(folder.path().join("hosts")).ok();
            assert!(
                error().ends_with("create one with `bento init`"),
                "{}",
                error()
            );
            fs::create_dir(folder.path().join("hosts")).unwrap();
            let lines = format!("\n\n[server]\naddress = \"{address}\"");
            assert!(error().ends_with(&lines), "{settings}: {}", error());
        }
        let settings = folder.path().join("config.sh");
        fs::write(&settings, "export EDITOR=vi\n").unwrap();
        assert!(error().ends_with("`bento init`"), "{}", error());
        fs::remove_file(&settings).unwrap();
        // Opening it would block.
        let (here, pipe, mode) = (rustix::fs::CWD, FileType::Fifo, Mode::RUSR);
        rustix::fs::mknodat(here, &settings, pipe, mode, 0).unwrap();
        assert!(error().ends_with("`bento init`"), "{}", error());
        fs::write(folder.path().join(FILE_NAME), "[server]\naddress = \"x\"\n").unwrap();
        assert_eq!(option.find().unwrap(), folder.path());
    }
}
