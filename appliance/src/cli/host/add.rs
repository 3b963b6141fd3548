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

/// Enrol a machine: put its key into fleet.toml, and print what to type there
#[derive(Debug, Args)]
pub struct AddCommand {
    /// The machine's name: lower-case letters, digits and hyphens
    #[arg(add = completion::machines())]
    name: HostName,
    /// Its public key as `bento-client bootstrap` prints it, a file of such keys, or - for standard input; several may be
    /// given
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<KeyArgument>,
    /// Where its configuration lies, relative to the fleet folder [default: what [defaults] says, or hosts/NAME]
    #[arg(long, value_name = "DIR", value_parser = |text: &str| SourceTemplate::try_from(text.to_owned()))]
    source: Option<SourceTemplate>,
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl AddCommand {
    /// Adds the machine, or more keys to a machine that is there.
    ///
    /// # Errors
    /// When `fleet.toml` can't be read or written, or wouldn't be a fleet any more; it stays as it was then.
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
            0 => writeln!(output, "{} has this key already.", self.name)?,
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
                "What it had from [defaults], {}, is in its own list now, too: a machine's list replaces that one.",
                sentence(kept)
            )?;
        }
        let host = reading.fleet.hosts.get(&self.name);
        if let Some(place) = host.and_then(|host| missing(&folder, &self.name, host)) {
            writeln!(output, "Put its configuration into {}.", place.display())?;
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
                "\nOn {}, as root; the first line only if it was never run there:\n\n{first}\n\
                 In its NixOS configuration:\n\n{module}",
                self.name
            )?;
        } else {
            let first = instructions::first_contact(&self.name, server, &pinned);
            write!(
                output,
                "\nIf the new key is of a new installation, there, as root:\n\n{first}"
            )?;
        }
        Ok(())
    }

    /// The keys that it had.
    fn known(&self, file: &SettingsFile) -> Vec<PublicKey> {
        let reading = file.reading().ok();
        let host = reading.and_then(|mut reading| reading.fleet.hosts.remove(&self.name));
        host.map(|host| host.keys).unwrap_or_default()
    }

    /// The keys by which it is to know the appliance: those that the fleet pins, or those that the appliance has. None
    /// that is known is a placeholder, and how to come by it is said.
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
            // Nobody said where the appliance is.
            Err(_) => String::new(),
        };
        writeln!(
            output,
            "\nThe appliance's host key isn't known here{why}. Where it runs, `podman exec bento bento \
             host-key` prints it: put it in place of <the host key> below, and into host_keys under [server] in fleet.toml, from where \
             it is printed the next time."
        )?;
        Ok(vec!["<the host key>".to_owned()])
    }
}

/// Where a machine's configuration goes, if nothing is there yet: its source, or what `include` names after it, such as
/// `/hosts/{name}/` of a flake at the root.
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
