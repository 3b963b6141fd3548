//! Machines of a bento 2022 server that aren't in this fleet yet: the users in its `fleet.nix`, if that is in the fleet
//! folder. They would be lost if that server were removed.

use std::path::Path;

use bento_protocol::HostName;
use rustix::fs::FileType;

use crate::fleet::PublicKey;
use crate::preview::Preview;
use crate::problem::Problem;
use crate::scan::{FleetFolder, Stamp};

/// The paths of the file, from `bento init` of 2022 and from its manual.
const PLACES: [&str; 2] = ["fleet.nix", "utils/fleet.nix"];
/// The largest file that is read, in bytes: some thousands of users.
const LIMIT: u64 = 1 << 20;
/// The group of its users, which distinguishes it from other files of that name.
const GROUP: &str = "sftp_users";
/// The folder of that server's machines.
const HOSTS: &str = "hosts";

/// A user of a `fleet.nix`.
#[derive(Debug, PartialEq, Eq)]
struct User<'a> {
    /// The line, counted from 1.
    line: usize,
    name: &'a str,
    key: Option<&'a str>,
}

/// Warnings for users that aren't machines of this fleet yet, with advice.
pub(crate) fn unknown(preview: &Preview) -> Vec<Problem> {
    let mut warnings = Vec::new();
    // Without a valid fleet.toml, the machines are unknown.
    if preview.fleet.is_none() {
        return warnings;
    }
    for place in PLACES {
        let Ok((text, _)) = preview.folder.text(Path::new(place), LIMIT, false) else {
            continue;
        };
        if !text.contains(GROUP) {
            continue;
        }
        let users = users(&text);
        for user in &users {
            let name = user.name.parse::<HostName>();
            let is_known = name.as_ref().is_ok_and(|name| preview.has(name));
            if !is_known && !is_renamed(user, &users, preview) {
                let advice = match name {
                    Ok(name) => account(&name, user.key, &preview.folder),
                    Err(error) => error.to_string(),
                };
                let what = format!("{} isn't in fleet.toml", user.name);
                warnings.push(Problem::new(format!("{place}:{}", user.line), what, advice));
            }
        }
    }
    warnings
}

/// Whether a user is enrolled under another name, found by its key, unless several users share the key.
fn is_renamed(user: &User<'_>, users: &[User<'_>], preview: &Preview) -> bool {
    let key_of = |user: &User<'_>| user.key?.parse::<PublicKey>().ok();
    let Some(key) = key_of(user) else {
        return false;
    };
    let others = users.iter().filter(|other| other.name != user.name);
    let hosts = preview.fleet.iter().flat_map(|fleet| fleet.hosts.values());
    hosts.flat_map(|host| &host.keys).any(|own| *own == key)
        && !others.filter_map(key_of).any(|other| other == key)
}

/// The advice for a user. Only a valid key becomes part of a command.
fn account(name: &HostName, key: Option<&str>, folder: &FleetFolder) -> String {
    let key = key.and_then(|key| key.parse::<PublicKey>().ok());
    let line = key.map(|key| key.authorized_line());
    let Some(line) = line.filter(|line| line.starts_with("ssh-ed25519 ")) else {
        return format!("create an ed25519 key for it, and run `bento host add {name}` with it");
    };
    let source = source(name, folder).map_or(String::new(), |source| format!(" --source {source}"));
    format!("run `bento host add {name} --key \"{line}\"{source}`")
}

/// The folder of its configuration, if that isn't the folder of its name: the only one with a flake that contains the
/// name. None if the path would need quotes in a shell.
fn source(name: &HostName, folder: &FleetFolder) -> Option<String> {
    let own = folder.find(&Path::new(HOSTS).join(name.as_str()));
    if own.is_ok_and(|own| Stamp::of(&own.stat).kind() == FileType::Directory) {
        return None;
    }
    let listed = folder.list(Path::new(HOSTS)).ok()?;
    let folders = listed.entries.iter();
    let mut found = folders.filter_map(|entry| {
        let path = format!("{HOSTS}/{}", str::from_utf8(&entry.name).ok()?);
        let flake = folder.text(&Path::new(&path).join("flake.nix"), LIMIT, true);
        let (flake, _) = flake.ok()?;
        has_word(&flake, name.as_str()).then_some(path)
    });
    let only = found.next().filter(|path| is_plain(path))?;
    found.next().is_none().then_some(only)
}

/// Whether a path needs no quotes in a shell.
fn is_plain(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    path.chars().all(is_plain)
}

fn has_word(text: &str, word: &str) -> bool {
    let is_of_a_word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    text.split(|c| !is_of_a_word(c)).any(|found| found == word)
}

/// The users in the text, each with the first key after its name. Computed values aren't found.
fn users(text: &str) -> Vec<User<'_>> {
    let mut users: Vec<User<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(code, _)| code);
        if let Some(name) = assigned(line, "username") {
            users.push(User {
                line: index + 1,
                name,
                key: None,
            });
        }
        if let Some(user) = users.last_mut() {
            user.key = user.key.or(assigned(line, "key"));
        }
    }
    users
}

/// The value after `NAME = "`, up to the next quotation mark. A value with `${` is unknown.
fn assigned<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    line.match_indices(name).find_map(|(at, _)| {
        if line[..at].ends_with(is_of_a_name) {
            return None;
        }
        let after = line[at + name.len()..].trim_start().strip_prefix('=')?;
        let (value, _) = after.trim_start().strip_prefix('"')?.split_once('"')?;
        (!value.is_empty() && !value.contains("${")).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";

    #[test]
    fn users_are_found_in_any_layout() {
        let text = format!(
            "users.users.\"${{host.username}}\" = {{ keys = [host.key]; }};\n\
             users = [\n  {{\n    username = \"router\";\n    key = \"{KEY} root@router\";\n  }}\n\
             {{ username=\"x1\"; key=\"{KEY}\"; }}\n  # {{ username = \"gone\"; key = \"\"; }}\n\
             {{ username = \"keyless\"; }} ]"
        );
        let users = users(&text);
        let found: Vec<_> = users.iter().map(|user| (user.name, user.line)).collect();
        assert_eq!(found, [("router", 4), ("x1", 7), ("keyless", 9)]);
        assert_eq!(users[0].key, Some(&*format!("{KEY} root@router")));
        assert_eq!(users[1].key, Some(KEY));
        assert_eq!(users[2].key, None);
    }
}
