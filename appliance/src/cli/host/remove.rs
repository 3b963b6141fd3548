use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bento_protocol::{Format, HostName};
use clap::Args;
use jiff::Timestamp;

use super::super::completion;
use super::super::fleet_folder::FleetFolderOption;
use super::super::prompt::ConfirmOption;
use super::settings_file::SettingsFile;
use crate::fleet::{Fleet, edit};
use crate::release::{self, FOLDER, FolderRecord, Forgotten};
use crate::scan::SECRETS;
use crate::text::list::sentence;

/// Remove machines from the fleet; their files stay
///
/// Their sessions end at once, and their generations are removed. Their reports are kept for a week: a machine that is
/// added again within the week, with the same name and one of its keys, continues as before. `bento status` lists
/// removed machines.
#[derive(Debug, Args)]
pub struct RemoveCommand {
    /// The machines
    #[arg(required = true, value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    /// Remove their reports at once; also for machines that were removed before
    #[arg(long)]
    forget: bool,
    #[command(flatten)]
    confirm: ConfirmOption,
    #[command(flatten)]
    folder: FleetFolderOption,
}

impl RemoveCommand {
    /// Explains the removal, asks, and edits `fleet.toml`.
    ///
    /// # Errors
    /// When there is no such machine, no terminal for the prompt, or the file can't be edited.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let folder = self.folder.find()?;
        let file = SettingsFile::open(&folder)?;
        let before = file.reading()?;
        let is_there = |name: &&HostName| {
            before.fleet.hosts.contains_key(*name) || before.faulty.contains(name)
        };
        // A machine that was removed before can only be forgotten.
        let gone = |name: &&HostName| self.forget && !is_there(name);
        let names: Vec<_> = self
            .names
            .iter()
            .filter(|name| !gone(name))
            .cloned()
            .collect();
        let edited = edit::remove(file.text(), &names);
        if edited.is_ok() {
            let text = self.explain();
            writeln!(output, "{text}")?;
            output.flush()?;
            let question = format!("Remove {}?", sentence(&self.names));
            if !self.confirm.ask(&question)? {
                writeln!(output, "Nothing was changed.")?;
                return Ok(());
            }
        }
        let before = before.fleet;
        let after = file.replace(edited)?;
        for name in &self.names {
            self.record(&folder, name)
                .with_context(|| format!("can't change the records of {name} in {FOLDER}"))?;
        }
        writeln!(output, "{} removed.", sentence(&self.names))?;
        let left = self.left_over(&folder, &before, &after.fleet);
        if !left.is_empty() {
            let left: Vec<_> = left.iter().map(|path| path.display()).collect();
            writeln!(
                output,
                "Not used by other machines, and not removed: {}",
                sentence(&left)
            )?;
        }
        if !after.problems.is_empty() {
            writeln!(
                output,
                "The appliance removes no machine while fleet.toml has errors: run `bento check` to see them."
            )?;
        }
        Ok(())
    }

    /// The effects of the removal.
    fn explain(&self) -> String {
        let names = sentence(&self.names);
        let (its, account) = match self.names.len() {
            1 => ("its", "account"),
            _ => ("their", "accounts"),
        };
        let reports = match self.forget {
            true => format!("It removes {its} reports at once, too."),
            false => format!(
                "It keeps {its} reports for a week: a machine that is added again in it with the same key continues as before."
            ),
        };
        format!(
            "Removing {names}: the appliance ends {its} sessions, and removes {its} {account} and publications. {reports} \
             Running systems are unchanged."
        )
    }

    /// Removes the records of a machine, and, with `--forget`, records that.
    fn record(&self, folder: &Path, name: &HostName) -> std::io::Result<()> {
        release::forget(folder, name)?;
        if self.forget {
            let forgotten = Forgotten {
                format: Format,
                at: Timestamp::now(),
            };
            forgotten.write(folder, name)?;
        }
        Ok(())
    }

    /// The files that only these machines used, relative to the fleet folder.
    fn left_over(&self, folder: &Path, before: &Fleet, after: &Fleet) -> Vec<PathBuf> {
        let source = |name: &HostName| Some(before.hosts.get(name)?.source.as_path().to_owned());
        let is_used = |path: &PathBuf| {
            let sources = after.hosts.values().map(|host| host.source.as_path());
            path == Path::new(".")
                || sources.into_iter().any(|source| {
                    source == Path::new(".") || source.starts_with(path) || path.starts_with(source)
                })
        };
        let paths = self.names.iter().flat_map(|name| {
            let source = source(name).filter(|source| !is_used(source));
            let secrets = Path::new(SECRETS).join(name.as_str());
            source.into_iter().chain([secrets])
        });
        let mut paths: Vec<_> = paths
            .filter(|path| folder.join(path).symlink_metadata().is_ok())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        remove: RemoveCommand,
    }

    fn remove(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let line = ["remove", "--fleet", folder.to_str().unwrap()];
        let line = line.into_iter().chain(arguments.iter().copied());
        let mut output = Vec::new();
        Line::try_parse_from(line)?.remove.run(&mut output)?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[test]
    fn files_of_a_removed_machine_are_listed_unless_another_uses_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let server = "[server]\naddress = \"x\"\n";
        let text = format!(
            "{server}\n[hosts.a]\n\n[hosts.b]\nsource = \"hosts/desks\"\n\n[hosts.c]\nsource = \"hosts/desks\"\n"
        );
        fs::write(path("fleet.toml"), &text).unwrap();
        for file in [
            "hosts/a/flake.nix",
            "hosts/desks/flake.nix",
            "bento-secrets/b/key",
            ".bento/approved/a.json",
            ".bento/built/b.json",
            ".bento/built/c.json",
        ] {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), "x").unwrap();
        }
        let unknown = remove(folder.path(), &["a", "d", "--yes"]).unwrap_err();
        assert!(
            format!("{unknown:#}").contains("no machine d"),
            "{unknown:#}"
        );
        assert_eq!(fs::read_to_string(path("fleet.toml")).unwrap(), text);
        let said = remove(folder.path(), &["a", "b", "--yes"]).unwrap();
        assert!(said.contains("ends their sessions"), "{said}");
        assert!(said.contains("reports for a week"), "{said}");
        let left = "Not used by other machines, and not removed: bento-secrets/b and hosts/a\n";
        assert!(said.ends_with(left), "{said}");
        assert!(path("hosts/a/flake.nix").exists() && path("bento-secrets/b/key").exists());
        assert!(!path(".bento/approved/a.json").exists() && !path(".bento/built/b.json").exists());
        assert!(path(".bento/built/c.json").exists());
        let rest = format!("{server}\n[hosts.c]\nsource = \"hosts/desks\"\n");
        assert_eq!(fs::read_to_string(path("fleet.toml")).unwrap(), rest);
    }

    // Issue 10, line 13.
    #[test]
    fn a_machine_that_was_removed_before_can_be_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let server = "[server]\naddress = \"x\"\n";
        let text = format!("{server}\n[hosts.a]\n\n[hosts.b]\n");
        fs::write(folder.path().join("fleet.toml"), text).unwrap();
        let fleet = crate::scan::FleetFolder::open(folder.path()).unwrap();
        let is_forgotten = |name: &str| {
            Forgotten::of(&fleet, &name.parse().unwrap())
                .unwrap()
                .is_some()
        };
        remove(folder.path(), &["a", "--yes"]).unwrap();
        assert!(!is_forgotten("a"));
        assert!(
            remove(folder.path(), &["a", "--yes"]).is_err(),
            "it is gone"
        );
        let said = remove(folder.path(), &["a", "b", "--forget", "--yes"]).unwrap();
        assert!(
            said.contains("removes their reports at once") && !said.contains("week"),
            "{said}"
        );
        assert!(is_forgotten("a") && is_forgotten("b"));
        assert_eq!(
            fs::read_to_string(folder.path().join("fleet.toml"))
                .unwrap()
                .trim(),
            server.trim()
        );
    }
}
