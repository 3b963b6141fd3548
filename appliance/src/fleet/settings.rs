//! Parser of `fleet.toml`, which reports all problems at once, each with its line.

use std::collections::BTreeMap;

use bento_protocol::HostName;
use toml_edit::{Document, Item, Key, TableLike};

use super::host_table::HostTable;
use super::reader::Reader;
use super::{Fleet, Host, Notify, Publish, Server};
use crate::problem::Problem;

/// The name of the file in the fleet folder.
pub const FILE_NAME: &str = "fleet.toml";

/// The content of a readable `fleet.toml`.
#[derive(Debug)]
pub struct Reading {
    /// The fleet, without the machines in `faulty`.
    pub fleet: Fleet,
    /// Problems of single machines; their last valid settings stay in force.
    pub problems: Vec<Problem>,
    /// Machines in the file with invalid settings.
    pub faulty: Vec<HostName>,
}

/// Reads a fleet. An error in one machine's table stops only that machine; any other error stops the whole file,
/// and the last good fleet stays in force.
pub fn read(text: &str) -> Result<Reading, Vec<Problem>> {
    let mut reader = Reader::new(text);
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

/// The text of a `fleet.toml`.
///
/// # Errors
/// When it isn't UTF-8; the error names the line.
pub fn decode(bytes: Vec<u8>) -> std::io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let what = format!("line {line} isn't in UTF-8: save the file in that encoding");
        std::io::Error::new(std::io::ErrorKind::InvalidData, what)
    })
}

/// The `admin` command of a text that may be invalid otherwise; none if the command is invalid, too.
pub fn admin(text: &str) -> Option<Vec<String>> {
    let words = |document: &Document<&str>, section: Option<&str>| {
        let admin = match section {
            Some(section) => document.get(section)?.get(ADMIN)?,
            None => document.get(ADMIN)?,
        };
        let words = admin.as_array()?.iter();
        words.map(|word| Some(word.as_str()?.to_owned())).collect()
    };
    match Document::parse(text) {
        Ok(document) => words(&document, Some("server")),
        Err(_) => words(&Document::parse(admin_lines(text)?).ok()?, None),
    }
}

const ADMIN: &str = "admin";

/// The lines of this setting in `[server]`, in a text that isn't valid TOML.
fn admin_lines(text: &str) -> Option<&str> {
    let header = text.match_indices("[server]").map(|(place, _)| place);
    let is_line = |place: &usize| *place == 0 || text[..*place].ends_with('\n');
    let section = &text[header.filter(is_line).last()?..];
    let mut begin = 0;
    for line in section.split_inclusive('\n') {
        let name = line.split('=').next().unwrap_or_default();
        if name.trim() == ADMIN {
            break;
        }
        if begin > 0 && line.starts_with('[') {
            return None;
        }
        begin += line.len();
    }
    let rest = section.get(begin..)?;
    let mut end = 0;
    let mut ends = rest.split_inclusive('\n').map(|line| {
        end += line.len();
        end
    });
    let end = ends.find(|end| Document::parse(&rest[..*end]).is_ok())?;
    Some(&rest[..end])
}

/// Parses every machine; the names of faulty ones come second.
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
                let advice = match HostName::suggested_by(key) {
                    Some(_) => "if its folder keeps that name, set source, too",
                    None => "rename the machine",
                };
                reader.add(span, error.to_string(), advice);
                continue;
            }
        };
        if let Some(error) = domain(key, item).and_then(|domain| domain.parse::<HostName>().err()) {
            reader.add(
                span,
                error.to_string(),
                "rename it here; its parts are tables in tables",
            );
            faulty.push(name);
            continue;
        }
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

/// The intended name of a table with a dotted name, such as `[hosts.build01.example.org]`, which is a table in tables.
fn domain(key: &str, item: &Item) -> Option<String> {
    let mut domain = key.to_owned();
    let mut table = item.as_table_like()?;
    while let Some((part, below)) = table
        .iter()
        .find_map(|(part, item)| Some((part, item.as_table_like()?)))
    {
        if part == "reboot_window" {
            break;
        }
        domain += &format!(".{part}");
        table = below;
    }
    (domain != key).then_some(domain)
}

/// A key must belong to one machine only, or one machine could read the other's configuration. The later machine in the
/// file is refused; a renamed machine may share a key with its old name.
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
                "give each machine its own key, or set renamed_from if they are the same machine",
            );
            shares = true;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use bento_protocol::Terms;

    use super::super::SilentAfter;
    use super::super::key::tests::ONE;
    use super::*;

    const SERVER: &str = "[server]\naddress = \"bento.example.org\"\n";

    /// The only problem of a file that is refused as a whole.
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
        assert_eq!(
            host.silent_after,
            SilentAfter::clamped(super::super::SILENT_AFTER)
        );
        assert_eq!(host.terms, Terms::default());
    }

    #[test]
    fn a_machines_keys_replace_the_defaults_including_lists() {
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

    // Issue 10, line 41.
    #[test]
    fn wrong_types_and_other_encodings_are_explained_in_words() {
        let port = refusal("[server]\naddress = \"a\"\nport = \"x\"\n");
        let words =
            "fleet.toml:3: [server]: port is the text \"x\", and must be a number from 0 to 65535";
        assert!(port.starts_with(words), "{port}");
        for (line, words) in [
            (
                "paused = \"yes\"",
                "paused is the text \"yes\", and must be true or false",
            ),
            (
                "keys = \"x\"",
                "keys is the text \"x\", and must be a list in [ ]",
            ),
            ("source = 1", "source is 1, and must be a text in quotes"),
            (
                "reboot_window = 1",
                "reboot_window is 1, and must be a table",
            ),
        ] {
            let reading = read(&format!("{SERVER}[hosts.a]\n{line}\n")).unwrap();
            let problem = reading.problems[0].to_string();
            assert!(problem.contains(words), "{problem}");
        }
        let error = decode(b"[server]\naddress = \"a\"\n# f\xfcr alle\n".to_vec()).unwrap_err();
        assert!(
            error.to_string().starts_with("line 3 isn't in UTF-8"),
            "{error}"
        );
    }

    // Issue 10, line 7.
    #[test]
    fn the_machines_name_replaces_its_placeholder_in_paths_and_patterns() {
        let text = format!(
            "{SERVER}[defaults]\nsource = \"{{name}}\"\nexclude = [\"*.{{nix,md}}\"]\ninclude = [\"/{{name}}/\", \"/x\"]\n\
             [hosts.a]\n[hosts.b]\nsource = \"hosts/{{name}}/{{name}}\"\ninclude = []\n[hosts.bento-secrets]\n\
             [hosts.c]\ninclude = [\"/hosts/{{host}}/\"]\n[hosts.d]\nsource = \"hosts/{{host}}\"\n"
        );
        let reading = read(&text).unwrap();
        let host = |name: &str| &reading.fleet.hosts[&name.parse().unwrap()];
        assert_eq!(host("a").source.to_string(), "a");
        assert_eq!(host("a").include, ["/a/", "/x"]);
        assert_eq!(
            host("a").exclude,
            ["*.{nix,md}"],
            "these braces are what they are"
        );
        assert_eq!(host("b").source.to_string(), "hosts/b/b");
        assert_eq!(host("b").include, Vec::<String>::new());
        let problems: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
        for (problem, beginning) in problems.iter().zip([
            "fleet.toml:11: bento-secrets: \"bento-secrets\" can't be a source",
            "fleet.toml:13: c: [hosts.c]: {host} in \"/hosts/{host}/\" is no placeholder",
            "fleet.toml:15: d: [hosts.d]: {host} in",
        ]) {
            assert!(problem.starts_with(beginning), "{problem}");
        }
        assert_eq!(problems.len(), 3, "{problems:?}");
    }

    #[test]
    fn errors_of_the_whole_file_name_their_line() {
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
    fn errors_of_one_machine_name_their_line_and_spare_the_others() {
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
    fn a_bad_name_is_a_problem_and_spares_the_others() {
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
    fn the_debounce_has_a_default_and_bounds() {
        let publish = |lines: &str| read(&format!("{SERVER}[publish]\n{lines}\n"));
        let debounce = |lines: &str| publish(lines).unwrap().fleet.publish.debounce;
        assert_eq!(debounce("").duration().as_millis(), 2000);
        assert_eq!(debounce("debounce = \"0.2s\"").duration().as_millis(), 200);
        let problems = publish("debounce = \"0s\"").unwrap_err();
        let problem = problems[0].to_string();
        assert!(
            problem.starts_with("fleet.toml:4: [publish]: \"0s\" isn't"),
            "{problem}"
        );
    }

    // Issue 10, line 9.
    #[test]
    fn a_name_with_capitals_or_dots_comes_with_a_valid_name_and_attribute() {
        let table = "[hosts.desk]\nreboot = \"window\"\n[hosts.desk.reboot_window]\nfrom = \"01:00\"\nto = \"02:00\"\n";
        let names = "[hosts.CORE-PW0D2M1A]\n[hosts.\"build01.example.org\"]\n[hosts.build02.example.org]\nkeys = []\n";
        let reading = read(&format!("{SERVER}{table}{names}")).unwrap();
        let problems: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
        let begin = [
            "CORE-PW0D2M1A",
            "build01.example.org",
            "build02.example.org",
        ];
        let suggested = ["core-pw0d2m1a", "build01", "build02"];
        assert_eq!(problems.len(), 3, "{problems:?}");
        for (line, problem) in problems.iter().enumerate() {
            let (name, suggested) = (begin[line], suggested[line]);
            let place = format!(
                "fleet.toml:{}: \"{name}\" can't be a machine's name",
                line + 8
            );
            let advice = format!(
                "; name it {suggested} instead, with attribute = \"{name}\" in its table [hosts.{suggested}] of fleet.toml: "
            );
            assert!(
                problem.starts_with(&place) && problem.contains(&advice),
                "{problem}"
            );
        }
        assert_eq!(reading.faulty, ["build02".parse().unwrap()]);
        assert_eq!(reading.fleet.hosts.len(), 1);
    }

    #[test]
    fn a_key_belongs_to_one_machine() {
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
