use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bento_protocol::HostName;
use clap::Args;

use super::super::completion;
use super::super::host_key;
use super::super::remote::ApplianceOption;
use super::instructions;
use super::keys::KeyArgument;
use super::settings_file::SettingsFile;
use crate::fleet::{Host, PublicKey, Server, SourceTemplate, edit};
use crate::text::list::sentence;

/// Enrol a machine: add its key to fleet.toml, and print the setup for the machine
#[derive(Debug, Args)]
pub struct AddCommand {
    /// The machine's name: lower-case letters, digits and hyphens
    #[arg(add = completion::machines())]
    name: HostName,
    /// Its public key as `bento-client bootstrap` prints it, or a file with such keys, or - for standard input; can be
    /// repeated
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<KeyArgument>,
    /// The folder of its configuration, relative to the fleet folder [default: source in [defaults], or hosts/NAME]
    #[arg(long, value_name = "DIR")]
    source: Option<SourceTemplate>,
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl AddCommand {
    /// Adds the machine, or adds keys to an existing machine.
    ///
    /// # Errors
    /// When `fleet.toml` can't be read or written, or would become invalid; then it is unchanged.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let folder = self.appliance.folder()?;
        let mut keys = Vec::new();
        for argument in &self.keys {
            keys.extend(argument.read(io::stdin())?);
        }
        let file = SettingsFile::open(&folder)?;
        let inherited = edit::inherited_keys(file.text(), &self.name);
        let edited = edit::enrol(file.text(), &self.name, &keys, self.source.as_ref());
        let known = self.known(&file);
        let reading = file.replace(edited)?;
        let new: Vec<_> = keys.iter().filter(|key| !known.contains(key)).collect();
        let new: Vec<_> = new.iter().map(|key| key.fingerprint()).collect();
        match new.len() {
            0 => writeln!(output, "{} already has this key.", self.name)?,
            1 => writeln!(output, "{} is enrolled with the key {}.", self.name, new[0])?,
            _ => writeln!(
                output,
                "{} is enrolled with the keys {}.",
                self.name,
                sentence(&new)
            )?,
        }
        if !inherited.is_empty() && !new.is_empty() {
            let kept: Vec<_> = inherited.iter().map(PublicKey::fingerprint).collect();
            writeln!(
                output,
                "Its keys from [defaults], {}, are now in its own list, too, because a machine's list replaces that of [defaults].",
                sentence(kept)
            )?;
        }
        let host = reading.fleet.hosts.get(&self.name);
        if let Some(place) = host.and_then(|host| missing(&folder, &self.name, host)) {
            writeln!(output, "Put its configuration in {}.", place.display())?;
        }
        output.flush()?;
        let server = &reading.fleet.server;
        let pinned = self.host_keys(server, output)?;
        for key in pinned
            .iter()
            .filter_map(|key| key.parse::<PublicKey>().ok())
        {
            writeln!(
                output,
                "\nThe appliance's host key has the fingerprint {}.",
                key.fingerprint()
            )?;
        }
        if known.is_empty() || new.is_empty() {
            let first = instructions::first_contact(&self.name, server, &pinned);
            let module = instructions::configuration(&self.name, server, &pinned);
            write!(
                output,
                "\nRun on {} as root; the first command is needed only once:\n\n{first}\n\
                 Add to its NixOS configuration:\n\n{module}",
                self.name
            )?;
        } else {
            let first = instructions::first_contact(&self.name, server, &pinned);
            write!(
                output,
                "\nIf the machine was installed again, run there as root:\n\n{first}"
            )?;
        }
        Ok(())
    }

    /// The machine's keys before the change.
    fn known(&self, file: &SettingsFile) -> Vec<PublicKey> {
        let reading = file.reading().ok();
        let host = reading.and_then(|mut reading| reading.fleet.hosts.remove(&self.name));
        host.map(|host| host.keys).unwrap_or_default()
    }

    /// The host keys for the machine: those in fleet.toml, or those of the appliance. If neither is known, prints how
    /// to get the key, and returns a placeholder.
    fn host_keys(&self, server: &Server, output: &mut dyn Write) -> anyhow::Result<Vec<String>> {
        let lines = |keys: &[PublicKey]| keys.iter().map(PublicKey::authorized_line).collect();
        if !server.host_keys.is_empty() {
            return Ok(lines(&server.host_keys));
        }
        let why = match self
            .appliance
            .find()
            .map(|appliance| host_key::keys_of(&appliance))
        {
            Ok(Ok(keys)) => return Ok(lines(&keys)),
            Ok(Err(error)) => format!(" ({error:#})"),
            // The fleet doesn't name an appliance.
            Err(_) => String::new(),
        };
        writeln!(
            output,
            "\nThe appliance's host key isn't known here{why}. Print it on the appliance's host with `podman exec bento bento \
             host-key`. Use it in place of <the host key> below, and add it to host_keys under [server] in fleet.toml, so \
             that it is known the next time."
        )?;
        Ok(vec!["<the host key>".to_owned()])
    }
}

/// The missing folder for a machine's configuration, if any: its source, or the path with its name in `include`, such
/// as `/hosts/{name}/` for a flake at the root.
fn missing(folder: &Path, name: &HostName, host: &Host) -> Option<PathBuf> {
    let source = host.source.as_path();
    if !folder.join(source).exists() {
        return Some(source.to_owned());
    }
    let is_its_own = |path: &&Path| {
        let mut parts = path.iter();
        parts.any(|part| Path::new(part).file_stem() == Some(name.as_str().as_ref()))
    };
    let paths = host
        .include
        .iter()
        .filter(|pattern| !pattern.contains(['*', '?', '[', '!']));
    let paths = paths.map(|pattern| Path::new(pattern.trim_matches('/')));
    let own: Vec<_> = paths.filter(is_its_own).collect();
    let is_there = |path: &&Path| folder.join(source).join(path).exists();
    let first = own.first().filter(|_| !own.iter().any(is_there));
    first.map(|path| {
        if source == Path::new(".") {
            path.to_path_buf()
        } else {
            source.join(path)
        }
    })
}

#[cfg(test)]
mod tests;
