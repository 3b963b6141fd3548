use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bento_protocol::HostName;
use clap::Args;

use super::super::completion;
use super::super::fleet_folder::FleetFolderOption;
use super::settings_file::SettingsFile;
use crate::fleet::{self, FILE_NAME, Fleet, Host, When, edit};
use crate::preview::Preview;
use crate::release::{self, FOLDER};
use crate::scan::SECRETS;
use crate::text::list::sentence;

/// The most lines with the old name that are listed.
const NAMED: usize = 10;

/// Rename a machine
///
/// Its folders in hosts and bento-secrets are renamed, too. The appliance serves both names until you remove
/// renamed_from from fleet.toml: the machine logs in with its old name until it runs a system with the new name.
#[derive(Debug, Args)]
pub struct RenameCommand {
    /// The current name
    #[arg(add = completion::machines())]
    old: HostName,
    /// The new name
    new: HostName,
    #[command(flatten)]
    folder: FleetFolderOption,
}

/// A file or folder to rename, from and to, relative to the fleet folder.
type Move = (PathBuf, PathBuf);

impl RenameCommand {
    /// Moves its files, and edits `fleet.toml`.
    ///
    /// # Errors
    /// When there is no such machine, the new name is taken, or a file can't be moved or written; then nothing is
    /// changed.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let folder = self.folder.find()?;
        let file = SettingsFile::open(&folder)?;
        let before = file.reading()?.fleet;
        let host = before.hosts.get(&self.old).with_context(|| {
            let old = &self.old;
            format!("{FILE_NAME} has no machine {old} with valid settings: run `bento check` for details")
        })?;
        let (text, moves) = self
            .plan(&folder, file.text(), &before, host)
            .with_context(|| format!("{FILE_NAME} is unchanged"))?;
        for (done, (from, to)) in moves.iter().enumerate() {
            fs::rename(folder.join(from), folder.join(to)).or_else(|error| {
                undo(&folder, &moves[..done])?;
                let from = from.display();
                Err(error).with_context(|| format!("can't rename {from}; nothing was changed"))
            })?;
        }
        if let Err(error) = file.replace(Ok(text)) {
            undo(&folder, &moves)?;
            return Err(error);
        }
        release::forget(&folder, &self.old)
            .with_context(|| format!("can't remove the records of {} in {FOLDER}", self.old))?;
        self.print_summary(&folder, &before, &moves, output)
    }

    /// The new text of `fleet.toml`, and the files to move.
    fn plan(
        &self,
        folder: &Path,
        text: &str,
        before: &Fleet,
        host: &Host,
    ) -> anyhow::Result<(String, Vec<Move>)> {
        let mut text = edit::rename(text, &self.old, &self.new)?;
        let renamed = |text: &str| {
            let mut hosts = fleet::read(text).ok()?.fleet.hosts;
            hosts.remove(&self.new)
        };
        let mut new = renamed(&text).context("its settings aren't valid under the new name")?;
        let source = host.source.as_path();
        let others = before.hosts.iter().filter(|(name, _)| **name != self.old);
        let mut sources = others.map(|(_, other)| other.source.as_path());
        let is_shared = sources.any(|other| other.starts_with(source) || source.starts_with(other));
        if new.source != host.source && is_shared && source != Path::new(".") {
            text = edit::set_source(&text, &self.new, &host.source)?;
            new = renamed(&text).unwrap_or(new);
        }
        // The flake still uses the old name.
        if host.terms.attribute.is_none() && folder.join(source).join("flake.nix").is_file() {
            text = edit::set_attribute(&text, &self.new, self.old.as_str())?;
        }
        let secrets = Path::new(SECRETS);
        let mut moves = vec![
            (source.to_owned(), new.source.as_path().to_owned()),
            (
                secrets.join(self.old.as_str()),
                secrets.join(self.new.as_str()),
            ),
        ];
        let included = host.include.iter().zip(&new.include);
        let is_path = |pattern: &str| !pattern.contains(['*', '?', '[', '!', '\\']);
        moves.extend(included.filter(|(old, _)| is_path(old)).map(|(old, now)| {
            let path = |pattern: &str| {
                let below = source.join(pattern.trim_matches('/'));
                below.strip_prefix(".").map(Path::to_owned).unwrap_or(below)
            };
            (path(old), path(now))
        }));
        moves.retain(|(from, to)| from != to && folder.join(from).symlink_metadata().is_ok());
        for (_, to) in &moves {
            ensure!(
                folder.join(to).symlink_metadata().is_err(),
                "{} already exists: move it away first",
                to.display()
            );
        }
        Ok((text, moves))
    }

    fn print_summary(
        &self,
        folder: &Path,
        before: &Fleet,
        moves: &[Move],
        output: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let (old, new) = (&self.old, &self.new);
        writeln!(output, "Renamed {old} to {new} in {FILE_NAME}.")?;
        let moved = moves
            .iter()
            .map(|(from, to)| format!("{} to {}", from.display(), to.display()));
        let moved: Vec<_> = moved.collect();
        if !moved.is_empty() {
            writeln!(output, "Moved {}.", sentence(moved))?;
        }
        let paths = match moves {
            [] => "",
            _ => ", and in paths to the moved files",
        };
        writeln!(
            output,
            "\nChange the name in its configuration, too: in networking.hostName and \
             services.bento-client.name{paths}."
        )?;
        let mentions = self.mentions(folder);
        for mention in mentions.iter().take(NAMED) {
            writeln!(output, "    {mention}")?;
        }
        if mentions.len() > NAMED {
            writeln!(output, "    … and {} more", mentions.len() - NAMED)?;
        }
        if before.publish.when == When::Deploy {
            writeln!(output, "\nThen run `bento deploy {new}`.")?;
        }
        writeln!(
            output,
            "\nIt logs in as {old} until it runs a system with the new name; the appliance serves both names, and \
             status shows one machine. When `bento logs {new}` shows an update by that system, remove renamed_from from \
             {FILE_NAME}."
        )?;
        Ok(())
    }

    /// The lines in its Nix files that contain the old name.
    fn mentions(&self, folder: &Path) -> Vec<String> {
        let preview = Preview::make(folder, std::slice::from_ref(&self.new)).ok();
        let machine = preview.and_then(|mut preview| preview.machines.remove(&self.new)?);
        let mut mentions = Vec::new();
        for file in machine.iter().flat_map(|machine| machine.tree.config()) {
            let text = fs::read_to_string(folder.join(&file.real)).unwrap_or_default();
            let is_nix = file.path.rest().ends_with(".nix");
            for (index, line) in text.lines().enumerate().filter(|_| is_nix) {
                if has_word(line, self.old.as_str()) {
                    let (file, number) = (file.real.display(), index + 1);
                    mentions.push(format!("{file}:{number}: {}", line.trim()));
                }
            }
        }
        mentions
    }
}

/// Moves files back.
fn undo(folder: &Path, moves: &[Move]) -> anyhow::Result<()> {
    for (from, to) in moves.iter().rev() {
        if let Err(error) = fs::rename(folder.join(to), folder.join(from)) {
            bail!(
                "can't move {} back to {}: {error}",
                to.display(),
                from.display()
            );
        }
    }
    Ok(())
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || "-_".contains(char);
    line.match_indices(word).any(|(at, _)| {
        let (before, behind) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_part) && !behind.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        rename: RenameCommand,
    }

    fn rename(folder: &Path, old: &str, new: &str) -> anyhow::Result<String> {
        let line = ["rename", "--fleet", folder.to_str().unwrap(), old, new];
        let mut output = Vec::new();
        Line::try_parse_from(line)?.rename.run(&mut output)?;
        Ok(String::from_utf8(output).unwrap())
    }

    fn fleet_of(text: &str, files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(FILE_NAME, &format!("[server]\naddress = \"x\"\n\n{text}"));
        for file in files {
            write(file, "{\n  networking.hostName = \"moon\";\n}\n");
        }
        folder
    }

    // Issue 10, line 28.
    #[test]
    fn folders_get_the_new_name_and_the_flake_keeps_the_old_one() {
        let files = [
            "hosts/moon/flake.nix",
            "bento-secrets/moon/key",
            "hosts/sun/flake.nix",
        ];
        let text = "# mine\n[hosts.moon] # the one\npaused = true\n\n[hosts.sun]\n";
        let folder = fleet_of(text, &files);
        let said = rename(folder.path(), "moon", "luna").unwrap();
        for part in [
            "Moved hosts/moon to hosts/luna and bento-secrets/moon to bento-secrets/luna.",
            "    hosts/luna/flake.nix:2: networking.hostName = \"moon\";",
            "It logs in as moon until",
        ] {
            assert!(said.contains(part), "{part:?} isn't in {said}");
        }
        let path = |name: &str| folder.path().join(name);
        let after = fs::read_to_string(path(FILE_NAME)).unwrap();
        let table = "# mine\n[hosts.luna] # the one\npaused = true\nrenamed_from = \"moon\"\nattribute = \"moon\"\n\n[hosts.sun]\n";
        assert!(after.ends_with(table), "{after}");
        assert!(path("hosts/luna/flake.nix").exists() && path("bento-secrets/luna/key").exists());
        assert!(!path("hosts/moon").exists() && !path("bento-secrets/moon").exists());
        let taken = rename(folder.path(), "luna", "sun").unwrap_err();
        assert!(
            format!("{taken:#}").contains("has a machine sun already"),
            "{taken:#}"
        );
        fs::create_dir(path("hosts/star")).unwrap();
        let there = rename(folder.path(), "luna", "star").unwrap_err();
        assert!(
            format!("{there:#}").contains("hosts/star already exists"),
            "{there:#}"
        );
        assert_eq!(fs::read_to_string(path(FILE_NAME)).unwrap(), after);
    }

    // Issue 10, line 28.
    #[test]
    fn with_a_flake_at_the_root_its_part_moves_and_a_shared_folder_stays() {
        let defaults = "[defaults]\nsource = \".\"\nexclude = [\"*\"]\ninclude = [\"/flake.nix\", \"/hosts/{name}/\"]\n";
        let text = format!(
            "{defaults}[hosts.moon]\n[hosts.sun]\n[hosts.a]\nsource = \"hosts/b\"\n[hosts.b]\nsource = \"hosts/b\"\n"
        );
        let files = [
            "flake.nix",
            "hosts/moon/default.nix",
            "hosts/sun/default.nix",
            "hosts/b/flake.nix",
        ];
        let folder = fleet_of(&text, &files);
        rename(folder.path(), "moon", "luna").unwrap();
        assert!(folder.path().join("hosts/luna/default.nix").exists());
        rename(folder.path(), "b", "c").unwrap();
        assert!(
            folder.path().join("hosts/b/flake.nix").exists(),
            "a has it, too"
        );
        let preview = Preview::make(folder.path(), &[]).unwrap();
        let fleet = preview.fleet.unwrap();
        let host = |name: &str| &fleet.hosts[&name.parse().unwrap()];
        assert_eq!(
            host("luna").terms.attribute.as_ref().unwrap().as_str(),
            "moon"
        );
        assert_eq!(host("c").source.to_string(), "hosts/b");
        assert!(preview.machines[&"luna".parse().unwrap()].is_some());
    }
}
