use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use bento_protocol::HostName;
use clap::Args;
use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::super::fleet_folder::{FleetFolderOption, read_settings};
use crate::durable;
use crate::fleet::{self, FILE_NAME, PublicKey, Server, SourcePath};
use crate::problem::Problem;

/// Enrol a machine: put its key into fleet.toml, and print what to type there
#[derive(Debug, Args)]
pub struct Add {
    /// The machine's name: lower-case letters, digits and hyphens
    name: HostName,
    /// The machine's public key, as `bento-client bootstrap` prints it
    #[arg(long, value_name = "KEY")]
    key: PublicKey,
    /// Where its configuration lies, relative to the fleet folder [default: hosts/<NAME>]
    #[arg(long, value_name = "DIR", value_parser = |text: &str| SourcePath::try_from(text.to_owned()))]
    source: Option<SourcePath>,
    #[command(flatten)]
    folder: FleetFolderOption,
}

impl Add {
    /// Adds the machine, or one more key to a machine that is there.
    ///
    /// # Errors
    /// When `fleet.toml` can't be read or written, or wouldn't be a fleet any more; it stays as it was then.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let folder = self.folder.find()?;
        let text = read_settings(&folder)?;
        let changed = self.edit(&text)?;
        let reading = fleet::read(&changed).map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(
                "{FILE_NAME} isn't changed, because it has errors:\n{}",
                problems.join("\n")
            )
        })?;
        // Lines move, so that a problem is known again by what it says. It may be another machine's: of two that share
        // a key, the later one is refused.
        let known = fleet::read(&text)
            .map(|reading| reading.problems)
            .unwrap_or_default();
        let is_new = |problem: &&Problem| {
            !known
                .iter()
                .any(|old| (&old.host, &old.what) == (&problem.host, &problem.what))
        };
        if let Some(problem) = reading.problems.iter().find(is_new) {
            bail!("{FILE_NAME} isn't changed, because it would have an error: {problem}");
        }
        if changed == text {
            writeln!(output, "{} has this key already.", self.name)?;
        } else {
            replace(&folder.join(FILE_NAME), &changed)?;
            writeln!(
                output,
                "{} is enrolled with the key {}.",
                self.name,
                self.key.fingerprint()
            )?;
        }
        let source = reading
            .fleet
            .hosts
            .get(&self.name)
            .map(|host| host.source.to_string());
        if let Some(source) = source.filter(|source| !folder.join(source).exists()) {
            writeln!(output, "Put its configuration into {source}.")?;
        }
        self.instruct(&reading.fleet.server, output)
    }

    /// The text with the key in it; comments and order stay.
    fn edit(&self, text: &str) -> anyhow::Result<String> {
        let mut document: DocumentMut = text
            .parse()
            .with_context(|| format!("{FILE_NAME} can't be read"))?;
        let hosts = document.entry("hosts").or_insert_with(implicit_table);
        let hosts = hosts
            .as_table_like_mut()
            .with_context(|| format!("{FILE_NAME}: hosts isn't a table"))?;
        let host = hosts
            .entry(self.name.as_str())
            .or_insert_with(|| Item::Table(Table::new()));
        let host = host
            .as_table_like_mut()
            .with_context(|| format!("{FILE_NAME}: {} isn't a table", self.name))?;
        if let Some(source) = &self.source {
            host.insert("source", value(source.to_string()));
        }
        let keys = host.entry("keys").or_insert_with(|| value(Array::new()));
        let keys = keys
            .as_array_mut()
            .with_context(|| format!("{FILE_NAME}: keys of {} isn't a list", self.name))?;
        let is_this =
            |key: &Value| key.as_str().and_then(|key| key.parse().ok()) == Some(self.key.clone());
        if !keys.iter().any(is_this) {
            keys.push(self.key.to_string());
        }
        Ok(document.to_string())
    }

    /// What the machine needs, ready to paste.
    fn instruct(&self, server: &Server, output: &mut dyn Write) -> anyhow::Result<()> {
        let (name, address, port) = (&self.name, &server.address, server.port);
        let key = match server.host_keys.first() {
            Some(key) => key.authorized_line(),
            None => {
                writeln!(
                    output,
                    "\n`podman exec bento bento host-key` prints the host key that belongs below."
                )?;
                "<the host key>".to_owned()
            }
        };
        write!(
            output,
            "\nOn {name}, as root, unless it was done before, and then `bento-client update`:\n\n    \
             bento-client bootstrap --name {name} --server {address}:{port} --host-key \"{key}\"\n\n\
             In its NixOS configuration:\n\n    \
             services.bento-client = {{\n      enable = true;\n      name = \"{name}\";\n      \
             servers = [ {{ address = \"{address}\"; port = {port}; hostKeys = [ \"{key}\" ]; }} ];\n    }};\n"
        )?;
        Ok(())
    }
}

/// A table that is there only for those below it: written as `[hosts.a]`, without a line `[hosts]`.
fn implicit_table() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

/// Replaces the file in one step, and leaves who may read it as it was.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let replace = || {
        let permissions = fs::metadata(path)?.permissions();
        durable::write(path, text.as_bytes())?;
        fs::set_permissions(path, permissions)
    };
    replace().with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R root@a";
    const FLEET: &str =
        "# mine\n[server]\naddress = \"bento.example.org\" # dialled\n\n[hosts.b]\nkeys = []\n";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        add: Add,
    }

    fn add(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let line = ["add", "--fleet", folder.to_str().unwrap()]
            .into_iter()
            .chain(arguments.iter().copied());
        let mut output = Vec::new();
        Line::try_parse_from(line)?.add.run(&mut output)?;
        Ok(String::from_utf8(output).unwrap())
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), FLEET).unwrap();
        folder
    }

    #[test]
    fn a_machine_is_added_and_the_rest_stays() {
        let folder = folder();
        let output = add(folder.path(), &["a", "--key", ONE]).unwrap();
        let text = read_settings(folder.path()).unwrap();
        assert_eq!(text, format!("{FLEET}\n[hosts.a]\nkeys = [\"{ONE}\"]\n"));
        assert!(
            output.contains("bento-client bootstrap --name a --server bento.example.org:2222"),
            "{output}"
        );
        assert!(
            output.contains("Put its configuration into hosts/a."),
            "{output}"
        );
        let again = add(folder.path(), &["a", "--key", ONE]).unwrap();
        assert!(again.starts_with("a has this key already"), "{again}");
        assert_eq!(read_settings(folder.path()).unwrap(), text);
    }

    #[test]
    fn a_key_comes_to_a_machine_that_is_there() {
        let folder = folder();
        add(
            folder.path(),
            &["b", "--key", ONE, "--source", "hosts/desks"],
        )
        .unwrap();
        let reading = fleet::read(&read_settings(folder.path()).unwrap()).unwrap();
        let host = &reading.fleet.hosts[&"b".parse().unwrap()];
        assert_eq!(
            (host.keys.len(), host.source.to_string().as_str()),
            (1, "hosts/desks")
        );
    }

    #[test]
    fn what_would_break_the_fleet_is_refused() {
        let folder = folder();
        add(folder.path(), &["a", "--key", ONE]).unwrap();
        let text = read_settings(folder.path()).unwrap();
        let refused = add(folder.path(), &["b", "--key", ONE])
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("a: the key SHA256:") && refused.contains("is b's already"),
            "{refused}"
        );
        assert!(add(folder.path(), &["Bad", "--key", ONE]).is_err());
        assert!(add(folder.path(), &["c", "--key", "nonsense"]).is_err());
        assert!(add(folder.path(), &["c", "--key", ONE, "--source", "../x"]).is_err());
        assert_eq!(read_settings(folder.path()).unwrap(), text);
    }
}
