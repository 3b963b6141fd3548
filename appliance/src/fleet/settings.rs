//! Reads `fleet.toml`: finds all that is wrong with it at once, each with its line.

use std::collections::BTreeMap;
use std::ops::Range;

use bento_protocol::{Attribute, HostName, NixArguments, Reboot, RebootWindow, Terms};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IntoDeserializer};
use toml_edit::{Document, Item, Key, TableLike};

use super::{Fleet, Host, Notify, PublicKey, Publish, Server, SourcePath, Span};
use crate::problem::Problem;

/// The name of the file in the fleet folder.
pub const FILE_NAME: &str = "fleet.toml";

/// What a readable `fleet.toml` gives.
#[derive(Debug)]
pub struct Reading {
    /// The fleet, without the machines that are in `faulty`.
    pub fleet: Fleet,
    /// What is wrong with single machines; their last good settings stay in force.
    pub problems: Vec<Problem>,
    /// The machines that the file names, but whose settings can't be used.
    pub faulty: Vec<HostName>,
}

/// Reads a fleet. An error in one machine's table stops only that machine; any other error stops the whole file,
/// and the last good fleet stays in force.
pub fn read(text: &str) -> Result<Reading, Vec<Problem>> {
    let mut reader = Reader {
        text,
        problems: Vec::new(),
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            reader.add(error.span(), error.message().trim(), "correct the line");
            return Err(reader.problems);
        }
    };
    reader.check_sections(&document);
    let server: Option<Server> = document
        .get("server")
        .and_then(|item| reader.section(item, "[server]"));
    let publish: Option<Publish> = document
        .get("publish")
        .and_then(|item| reader.section(item, "[publish]"));
    let notify: Option<Notify> = document
        .get("notify")
        .and_then(|item| reader.section(item, "[notify]"));
    let defaults: Option<HostTable> = document
        .get("defaults")
        .and_then(|item| reader.section(item, "[defaults]"));
    let no_hosts = toml_edit::Table::new();
    let tables: &dyn TableLike = document
        .get("hosts")
        .and_then(Item::as_table_like)
        .unwrap_or(&no_hosts);
    let Some(server) = server.filter(|_| reader.problems.is_empty()) else {
        return Err(reader.problems);
    };
    let (hosts, faulty) = read_hosts(&mut reader, tables, &defaults.unwrap_or_default());
    let fleet = Fleet {
        server,
        publish: publish.unwrap_or_default(),
        notify,
        hosts,
    };
    Ok(Reading {
        fleet,
        problems: reader.problems,
        faulty,
    })
}

/// How the appliance is reached, from a text in which anything else may be wrong; none if that is, too.
pub fn admin(text: &str) -> Option<Vec<String>> {
    let document = Document::parse(text).ok()?;
    let value = document.get("server")?.clone().into_value().ok()?;
    let server = Server::deserialize(value.into_deserializer()).ok()?;
    Some(server.admin)
}

/// Any key of a machine, or of `[defaults]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostTable {
    keys: Option<Vec<PublicKey>>,
    source: Option<SourcePath>,
    include: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
    attribute: Option<Attribute>,
    renamed_from: Option<String>,
    paused: Option<bool>,
    silent_after: Option<Span>,
    reboot: Option<Reboot>,
    reboot_window: Option<RebootWindow>,
    self_update: Option<bool>,
    nix_args: Option<NixArguments>,
}

impl HostTable {
    /// The machine's settings: its own keys replace the defaults', lists included.
    fn resolve(self, name: &HostName, defaults: &HostTable) -> Result<Host, String> {
        let defaults = defaults.clone();
        let renamed_from = self
            .renamed_from
            .or(defaults.renamed_from)
            .filter(|name| !name.is_empty());
        let attribute = self.attribute.or(defaults.attribute);
        let terms = Terms {
            attribute: attribute.filter(|attribute| attribute.as_str() != name.as_str()),
            reboot: self.reboot.or(defaults.reboot).unwrap_or_default(),
            reboot_window: self.reboot_window.or(defaults.reboot_window),
            self_update: self
                .self_update
                .or(defaults.self_update)
                .unwrap_or_default(),
            nix_args: self.nix_args.or(defaults.nix_args).unwrap_or_default(),
        };
        if terms.reboot == Reboot::Window && terms.reboot_window.is_none() {
            return Err("reboot = \"window\" without a reboot_window".into());
        }
        Ok(Host {
            keys: self.keys.or(defaults.keys).unwrap_or_default(),
            source: self
                .source
                .or(defaults.source)
                .unwrap_or_else(|| SourcePath::default_of(name)),
            include: self.include.or(defaults.include).unwrap_or_default(),
            exclude: self.exclude.or(defaults.exclude).unwrap_or_default(),
            terms,
            renamed_from: renamed_from
                .map(HostName::try_from)
                .transpose()
                .map_err(|error| error.to_string())?,
            paused: self.paused.or(defaults.paused).unwrap_or_default(),
            silent_after: self
                .silent_after
                .or(defaults.silent_after)
                .unwrap_or(Span::days(1)),
        })
    }
}

/// Reads every machine; names of those that can't be used come second.
fn read_hosts(
    reader: &mut Reader<'_>,
    tables: &dyn TableLike,
    defaults: &HostTable,
) -> (BTreeMap<HostName, Host>, Vec<HostName>) {
    let mut hosts: BTreeMap<HostName, Host> = BTreeMap::new();
    let mut faulty = Vec::new();
    for (key, item) in tables.iter() {
        let span = tables.key(key).and_then(Key::span).or(item.span());
        let name = match key.parse::<HostName>() {
            Ok(name) => name,
            Err(error) => {
                reader.add(span, error.to_string(), "rename the machine");
                continue;
            }
        };
        let before = reader.problems.len();
        let host = reader
            .section::<HostTable>(item, &format!("[hosts.{name}]"))
            .and_then(|table| {
                let resolved = table.resolve(&name, defaults);
                resolved
                    .map_err(|what| reader.add(span.clone(), what, "add or correct the key"))
                    .ok()
            });
        let host = host.filter(|host| !shares_a_key(reader, &name, host, item, &hosts));
        for problem in &mut reader.problems[before..] {
            problem.host = Some(name.clone());
        }
        match host {
            Some(host) => _ = hosts.insert(name, host),
            None => faulty.push(name),
        }
    }
    (hosts, faulty)
}

/// A key must open one machine's door only, or one machine could read the other's configuration. The machine that
/// comes later in the file is the one that is refused; a machine that was renamed may share with its old name.
fn shares_a_key(
    reader: &mut Reader<'_>,
    name: &HostName,
    host: &Host,
    item: &Item,
    others: &BTreeMap<HostName, Host>,
) -> bool {
    let mut shares = false;
    for (index, key) in host.keys.iter().enumerate() {
        let renamed = |other: &HostName, theirs: &Host| {
            host.renamed_from.as_ref() == Some(other) || theirs.renamed_from.as_ref() == Some(name)
        };
        let owner = others
            .iter()
            .find(|(other, theirs)| theirs.keys.contains(key) && !renamed(other, theirs));
        if let Some((owner, _)) = owner {
            let value = item
                .get("keys")
                .and_then(Item::as_array)
                .and_then(|keys| keys.get(index));
            let span = value.and_then(toml_edit::Value::span).or(item.span());
            let what = format!("the key {} is {owner}'s already", key.fingerprint());
            reader.add(
                span,
                what,
                "give each machine a key of its own, or say renamed_from where it is one machine",
            );
            shares = true;
        }
    }
    shares
}

/// Gathers problems with their lines.
struct Reader<'text> {
    text: &'text str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn add(&mut self, span: Option<Range<usize>>, what: impl Into<String>, advice: &str) {
        let place = match span {
            Some(span) => format!("{FILE_NAME}:{}", self.line(span.start)),
            None => FILE_NAME.to_owned(),
        };
        // The parser puts its expectations on lines of their own.
        let what = what.into().replace('\n', ", ");
        self.problems.push(Problem::new(place, what, advice));
    }

    /// The line of a byte, counted from 1.
    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Reads one table; what is wrong with it becomes a problem.
    fn section<T: DeserializeOwned>(&mut self, item: &Item, name: &str) -> Option<T> {
        let value = item.clone().into_value();
        let result = match value {
            Ok(value) => T::deserialize(value.into_deserializer()),
            Err(_) => return None,
        };
        result
            .map_err(|error| {
                let what = format!("{name}: {}", error.message());
                self.add(error.span().or(item.span()), what, "correct the line");
            })
            .ok()
    }

    fn check_sections(&mut self, document: &Document<&str>) {
        if document.get("server").is_none() {
            self.add(
                None,
                "there is no [server]",
                "say what the clients dial: [server] with address = \"…\"",
            );
        }
        for (key, item) in document.iter() {
            let span = document.key(key).and_then(Key::span).or(item.span());
            match key {
                "hosts" if item.is_table_like() => {}
                "hosts" => self.add(
                    span,
                    "hosts isn't a table",
                    "write [hosts.<name>] for each machine",
                ),
                "server" | "publish" | "notify" | "defaults" => {}
                _ => {
                    let what = format!("unknown key {key:?}");
                    self.add(
                        span,
                        what,
                        "remove it; there are server, publish, notify, defaults and hosts.<name>",
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::ONE;
    use super::*;

    const SERVER: &str = "[server]\naddress = \"bento.example.org\"\n";

    /// The only problem of a file that stops it as a whole.
    fn refusal(text: &str) -> String {
        let problems = read(text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    }

    #[test]
    fn a_small_fleet_has_the_documented_defaults() {
        let text = format!("{SERVER}[hosts.kikimora]\nkeys = [\"{ONE} root@kikimora\"]\n");
        let reading = read(&text).unwrap();
        assert!(reading.problems.is_empty() && reading.faulty.is_empty());
        assert_eq!(reading.fleet.server.port, 2222);
        let host = &reading.fleet.hosts[&"kikimora".parse().unwrap()];
        assert_eq!(host.source.to_string(), "hosts/kikimora");
        assert_eq!(host.silent_after, Span::days(1));
        assert_eq!(host.terms, Terms::default());
    }

    #[test]
    fn a_machines_key_replaces_the_default_lists_included() {
        let text = format!(
            "{SERVER}[defaults]\nnix_args = [\"--fallback\", \"-L\"]\nself_update = true\n\
             [hosts.a]\nnix_args = []\n[hosts.b]\nattribute = \"b\"\n"
        );
        let hosts = read(&text).unwrap().fleet.hosts;
        let terms = |name: &str| &hosts[&name.parse().unwrap()].terms;
        assert!(terms("a").nix_args.as_slice().is_empty() && terms("a").self_update);
        assert_eq!(terms("b").nix_args.as_slice().len(), 2);
        assert_eq!(terms("b").attribute, None, "the host's name is the default");
    }

    #[test]
    fn what_stops_the_whole_file_names_its_line() {
        assert!(refusal("").starts_with("fleet.toml: there is no [server]"));
        assert!(refusal("[server]\naddress = \n").starts_with("fleet.toml:2: "));
        assert!(
            refusal("[server]\naddress = \"a\"\nprot = 1\n")
                .starts_with("fleet.toml:3: [server]: unknown field `prot`")
        );
        assert!(
            refusal(&format!("{SERVER}[hots.a]\n"))
                .starts_with("fleet.toml:3: unknown key \"hots\"")
        );
        assert!(
            refusal(&format!("hosts = 1\n{SERVER}"))
                .starts_with("fleet.toml:1: hosts isn't a table")
        );
        assert!(
            refusal(&format!("{SERVER}[publish]\nwhen = \"never\"\n"))
                .starts_with("fleet.toml:4: [publish]: ")
        );
        assert!(refusal(&format!("{SERVER}[hosts.a]\n[hosts.a]\n")).starts_with("fleet.toml:4: "));
    }

    #[test]
    fn what_stops_one_machine_names_its_line_and_spares_the_others() {
        for (table, line) in [
            ("kyes = []", 5),
            ("keys = [\"ssh-ed25519 nonsense\"]", 5),
            ("source = \"../elsewhere\"", 5),
            ("reboot = \"window\"", 4),
            ("reboot_window = { from = \"25:00\", to = \"05:00\" }", 5),
            ("silent_after = \"soon\"", 5),
            ("nix_args = [\"--expr\", \"x\"]", 5),
            ("renamed_from = \"ROOT\"", 4),
        ] {
            let reading = read(&format!("{SERVER}[hosts.good]\n[hosts.bad]\n{table}\n")).unwrap();
            assert_eq!(reading.faulty, ["bad".parse().unwrap()], "{table}");
            assert_eq!(reading.fleet.hosts.len(), 1, "{table}");
            assert_eq!(reading.problems.len(), 1, "{table}: {:?}", reading.problems);
            let problem = reading.problems[0].to_string();
            assert!(
                problem.starts_with(&format!("fleet.toml:{line}: bad: ")),
                "{table}: {problem}"
            );
        }
    }

    #[test]
    fn a_bad_name_is_told_and_spares_the_others() {
        let reading = read(&format!(
            "{SERVER}[hosts.good]\n[hosts.\"../bad\"]\n[hosts.root]\n"
        ))
        .unwrap();
        assert_eq!(reading.fleet.hosts.len(), 1);
        let lines: Vec<_> = reading
            .problems
            .iter()
            .map(|problem| problem.place.as_str())
            .collect();
        assert_eq!(lines, ["fleet.toml:4", "fleet.toml:5"]);
    }

    #[test]
    fn one_key_opens_one_door() {
        let hosts = |more: &str| {
            format!(
                "{SERVER}[hosts.a]\nkeys = [\"{ONE} one\"]\n[hosts.b]\n{more}keys = [\n\"{ONE} two\"\n]\n"
            )
        };
        let reading = read(&hosts("")).unwrap();
        assert_eq!(reading.faulty, ["b".parse().unwrap()]);
        assert!(
            reading.problems[0]
                .to_string()
                .starts_with("fleet.toml:7: b: the key SHA256:")
        );
        let renamed = read(&hosts("renamed_from = \"a\"\n")).unwrap();
        assert!(renamed.problems.is_empty(), "{:?}", renamed.problems);
    }
}
