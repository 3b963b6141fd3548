use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bento_protocol::HostName;
use clap::Args;

use super::super::fleet_folder::FleetFolderOption;
use super::super::question::Consent;
use super::settings_file::SettingsFile;
use crate::fleet::{Fleet, edit};
use crate::listing::sentence;
use crate::release::{self, FOLDER};
use crate::tree::SECRETS;

/// Take machines out of the fleet; their files stay
#[derive(Debug, Args)]
pub struct Remove {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<HostName>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    folder: FleetFolderOption,
}

impl Remove {
    /// Says what will happen, asks, and edits `fleet.toml`.
    ///
    /// # Errors
    /// When there is no such machine, nobody could answer, or the file can't be edited.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let folder = self.folder.find()?;
        let file = SettingsFile::open(&folder)?;
        let edited = edit::remove(file.text(), &self.names);
        if edited.is_ok() {
            let names = sentence(&self.names);
            let goes = if self.names.len() == 1 {
                "will be no machine of this fleet any more. As soon as the appliance reads that, its sessions end, and \
                 its account, what is published for it, and its reports go. It goes on running what it has."
            } else {
                "will be no machines of this fleet any more. As soon as the appliance reads that, their sessions end, \
                 and their accounts, what is published for them, and their reports go. They go on running what they \
                 have."
            };
            writeln!(output, "{names} {goes}")?;
            output.flush()?;
            if !self.consent.ask(&format!("Remove {names}?"))? {
                writeln!(output, "Nothing is changed.")?;
                return Ok(());
            }
        }
        let before = file.reading()?.fleet;
        let after = file.replace(edited)?;
        for name in &self.names {
            release::forget(&folder, name)
                .with_context(|| format!("what {FOLDER} records of {name} can't be removed"))?;
        }
        writeln!(output, "{} removed.", sentence(&self.names))?;
        let left = self.left_over(&folder, &before, &after.fleet);
        if !left.is_empty() {
            let left: Vec<_> = left.iter().map(|path| path.display()).collect();
            writeln!(
                output,
                "Left over, and no other machine's: {}",
                sentence(&left)
            )?;
        }
        if !after.problems.is_empty() {
            writeln!(
                output,
                "As long as fleet.toml has errors, the appliance removes nobody: `bento check` names them."
            )?;
        }
        Ok(())
    }

    /// What was only there for them, relative to the fleet folder.
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
        remove: Remove,
    }

    fn remove(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let line = ["remove", "--fleet", folder.to_str().unwrap()];
        let line = line.into_iter().chain(arguments.iter().copied());
        let mut output = Vec::new();
        Line::try_parse_from(line)?.remove.run(&mut output)?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[test]
    fn who_goes_leaves_files_that_are_named_unless_another_uses_them() {
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
        assert!(said.contains("their sessions end"), "{said}");
        let left = "Left over, and no other machine's: bento-secrets/b and hosts/a\n";
        assert!(said.ends_with(left), "{said}");
        assert!(path("hosts/a/flake.nix").exists() && path("bento-secrets/b/key").exists());
        assert!(!path(".bento/approved/a.json").exists() && !path(".bento/built/b.json").exists());
        assert!(path(".bento/built/c.json").exists());
        let rest = format!("{server}\n[hosts.c]\nsource = \"hosts/desks\"\n");
        assert_eq!(fs::read_to_string(path("fleet.toml")).unwrap(), rest);
    }
}
