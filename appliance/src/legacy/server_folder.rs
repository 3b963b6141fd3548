//! The folder of a bento 2022 server, which is nearly a fleet.

use std::fs;
use std::path::Path;

use anyhow::bail;

use crate::fleet::FILE_NAME;

/// What its settings say of the server; a script of that name may be for anything.
const VARIABLE: &str = "REMOTE_IP=";

/// Refuses the folder of a bento 2022 server, which needs little to become a fleet.
///
/// # Errors
/// When it is one: with what it needs.
pub(crate) fn refuse_legacy_folder(folder: &Path) -> anyhow::Result<()> {
    // How its script knows its folder. Above the one in which somebody stands, it may be a pipe that anybody made.
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
    // Anything else would be for a shell to work out.
    let is_plain = |address: &&str| {
        let is_of_an_address = |c: char| c.is_ascii_alphanumeric() || ".:-".contains(c);
        !address.is_empty() && address.chars().all(is_of_an_address)
    };
    let address = address.filter(is_plain).unwrap_or("bento.example.org");
    bail!(
        "{} is the folder of a bento 2022 server. It becomes a fleet with a {FILE_NAME} of these two lines, after \
         which `bento check` names the machines to enrol:\n\n[server]\naddress = \"{address}\"",
        folder.display()
    );
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FileType, Mode};

    use super::*;
    use crate::cli::fleet_folder::FleetFolderOption;

    #[test]
    fn the_folder_of_a_server_of_2022_is_told_what_makes_it_a_fleet() {
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
            let told = format!("\n\n[server]\naddress = \"{address}\"");
            assert!(error().ends_with(&told), "{settings}: {}", error());
        }
        let settings = folder.path().join("config.sh");
        fs::write(&settings, "export EDITOR=vi\n").unwrap();
        assert!(error().ends_with("`bento init`"), "{}", error());
        fs::remove_file(&settings).unwrap();
        // It would hold up whoever opens it.
        let (here, pipe, mode) = (rustix::fs::CWD, FileType::Fifo, Mode::RUSR);
        rustix::fs::mknodat(here, &settings, pipe, mode, 0).unwrap();
        assert!(error().ends_with("`bento init`"), "{}", error());
        fs::write(folder.path().join(FILE_NAME), "[server]\naddress = \"x\"\n").unwrap();
        assert_eq!(option.find().unwrap(), folder.path());
    }
}
