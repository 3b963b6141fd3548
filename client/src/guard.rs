//! Refuses a system with which this machine could never be updated again.

use std::fs;
use std::path::Path;

use anyhow::bail;
use bento_protocol::{Address, HostName, SystemPath};
use serde::Deserialize;

use crate::host_key::HostKey;

/// What starts the client, in a system.
const TIMER: &str = "etc/systemd/system/timers.target.wants/bento-update.timer";
/// The client's settings, in a system.
const SETTINGS: &str = "etc/bento/client.toml";

/// What of the settings must be right so that the machine can be updated. The new system's client may know keys that
/// this one doesn't, so the others aren't looked at.
#[derive(Deserialize)]
struct Essence {
    name: String,
    #[serde(default)]
    servers: Vec<EssentialServer>,
}

#[derive(Deserialize)]
struct EssentialServer {
    #[serde(default)]
    address: String,
    #[serde(default)]
    host_keys: Vec<String>,
}

/// Makes sure that a system carries on: that it has the client's timer, and settings that name this machine and a
/// server that can be recognised. The error says all that is missing.
pub fn check(system: &SystemPath, name: &HostName) -> anyhow::Result<()> {
    let problems: Vec<String> = [
        timer_problem(&system.join(TIMER)),
        settings_problem(&system.join(SETTINGS), name),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !problems.is_empty() {
        bail!(
            "the new system is refused, because with it this machine could never be updated again: {}. Correct the \
             machine's configuration in the fleet; or, if that is what you want, `bento-client update --force` takes \
             the system once, and `guard = false` in client.toml takes any",
            problems.join("; ")
        );
    }
    Ok(())
}

fn timer_problem(path: &Path) -> Option<String> {
    // A unit that was disabled is a link to /dev/null, or empty.
    let is_unit = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
    (!is_unit).then(|| {
        format!(
            "{} isn't there or is disabled (services.bento-client.enable = true makes it)",
            path.display()
        )
    })
}

fn settings_problem(path: &Path, name: &HostName) -> Option<String> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return Some(format!(
                "can't read {shown}: {error} (services.bento-client.enable = true makes it)"
            ));
        }
    };
    let essence: Essence = match toml_edit::de::from_str(&text) {
        Ok(essence) => essence,
        // On one line: this is one of several problems.
        Err(error) => {
            let message = error.message();
            return Some(format!(
                "{shown} isn't a client's settings: {message} (services.bento-client.settings makes it)"
            ));
        }
    };
    if essence.name != name.as_str() {
        return Some(format!(
            "{shown} is for the machine {:?}, and this one is {:?} (services.bento-client.name says so)",
            essence.name,
            name.as_str()
        ));
    }
    (!essence.servers.iter().any(is_pinned)).then(|| {
        format!(
            "{shown} names no server with a valid address and a valid host key (services.bento-client.servers says \
             so)"
        )
    })
}

fn is_pinned(server: &EssentialServer) -> bool {
    let is_key = |key: &String| key.parse::<HostKey>().is_ok();
    Address::try_from(server.address.clone()).is_ok() && server.host_keys.iter().any(is_key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const GOOD: &str = "name = \"kikimora\"\n\
        key_of_a_newer_client = { when = 2026-11-23 }\n\
        [[servers]]\naddress = \"a server of a newer client\"\nkind = \"x\"\n\
        [[servers]]\naddress = \"bento.example.org\"\nhost_keys = [\"ssh-quantum AAAA\", \"ssh-ed25519 \
        AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti root@appliance\"]\n";

    /// A system as NixOS lays it out: links, some of them absolute, through other folders of the store.
    struct Built {
        store: TempDir,
    }

    impl Built {
        fn with(settings: &str) -> Self {
            let store = tempfile::tempdir().unwrap();
            let built = Built { store };
            for folder in [
                "system",
                "etc/etc/systemd",
                "etc/etc/bento",
                "units/timers.target.wants",
            ] {
                fs::create_dir_all(built.path(folder)).unwrap();
            }
            fs::write(built.path("timer"), "[Timer]\n").unwrap();
            fs::write(built.path("client.toml"), settings).unwrap();
            for (link, target) in [
                ("system/etc", "etc/etc"),
                ("etc/etc/systemd/system", "units"),
                ("etc/etc/bento/client.toml", "client.toml"),
                ("units/bento-update.timer", "timer"),
            ] {
                symlink(built.path(target), built.path(link)).unwrap();
            }
            let wanted = built.path("units/timers.target.wants/bento-update.timer");
            symlink("../bento-update.timer", wanted).unwrap();
            built
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.store.path().join(name)
        }

        fn check(&self) -> Result<(), String> {
            let system = self.path("system").to_str().unwrap().parse().unwrap();
            check(&system, &"kikimora".parse().unwrap()).map_err(|error| format!("{error:#}"))
        }

        #[track_caller]
        fn assert_refused(&self, says: &[&str]) {
            let error = self.check().unwrap_err();
            for text in [&["--force", "guard = false"], says].concat() {
                assert!(error.contains(text), "{text:?} isn't in {error}");
            }
        }
    }

    #[test]
    fn a_system_that_carries_on_is_taken_also_with_a_newer_client() {
        assert_eq!(Built::with(GOOD).check(), Ok(()));
    }

    #[test]
    fn without_its_timer_a_system_is_refused() {
        let says = ["bento-update.timer", "services.bento-client.enable"];
        let built = Built::with(GOOD);
        fs::remove_file(built.path("timer")).unwrap();
        built.assert_refused(&says);
        symlink("/dev/null", built.path("timer")).unwrap();
        built.assert_refused(&says);
        fs::remove_file(built.path("timer")).unwrap();
        fs::write(built.path("timer"), "").unwrap();
        built.assert_refused(&says);
    }

    #[test]
    fn without_settings_for_this_machine_and_its_server_a_system_is_refused() {
        for (old, new, says) in [
            ("kikimora", "domovoi", "\"domovoi\""),
            ("name = \"kikimora\"", "", "name"),
            ("name =", "name", "isn't a client's settings"),
            ("bento.example.org", "", "services.bento-client.servers"),
            ("ed25519", "rsa", "services.bento-client.servers"),
            ("[[servers]]", "[[server]]", "services.bento-client.servers"),
        ] {
            Built::with(&GOOD.replace(old, new)).assert_refused(&["etc/bento/client.toml", says]);
        }
    }

    #[test]
    fn all_that_is_missing_is_said() {
        let built = Built::with(GOOD);
        fs::remove_file(built.path("system/etc")).unwrap();
        built.assert_refused(&["bento-update.timer", "client.toml: No such file"]);
    }
}
