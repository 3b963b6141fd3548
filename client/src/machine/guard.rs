//! Refuses a system with which this machine could never be updated again.

use std::fs;
use std::path::Path;

use anyhow::anyhow;
use bento_protocol::{Address, HostName, SystemPath};
use serde::Deserialize;

use crate::machine::Rejection;
use crate::server::host_key::HostKey;

/// Timer of the client, in a system.
const TIMER: &str = "etc/systemd/system/timers.target.wants/bento-update.timer";
/// The client's settings, in a system.
const SETTINGS: &str = "etc/bento/client.toml";

/// Settings that must be right so that the machine can be updated. The new system's client may know keys that
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

/// Something that keeps a system from carrying on.
struct Problem {
    text: String,
    /// Whether the fleet may take it away without a change of the system.
    retry: bool,
}

/// Makes sure that a system can be updated again: that it has the client's timer, and settings that name this machine and a
/// server that can be recognised. Another name is right where `logs_in_as` finds that the appliance knows the machine by
/// it, too: it was renamed. The error says all that is missing.
pub(crate) fn check(
    system: &SystemPath,
    name: &HostName,
    logs_in_as: &mut dyn FnMut(&HostName) -> anyhow::Result<()>,
) -> Result<(), Rejection> {
    let problems: Vec<Problem> = [
        timer_problem(&system.join(TIMER)).map(Problem::lasting),
        settings_problem(&system.join(SETTINGS), name, logs_in_as),
    ]
    .into_iter()
    .flatten()
    .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let texts: Vec<_> = problems
        .iter()
        .map(|problem| problem.text.as_str())
        .collect();
    Err(Rejection {
        source: anyhow!(
            "the new system is refused, because with it this machine could never be updated again: {}. Correct the \
             machine's configuration in the fleet; or, if that is what you want, `bento-client update --force` takes \
             the system once, and `guard = false` in client.toml takes any",
            texts.join("; ")
        ),
        retry: problems.iter().all(|problem| problem.retry),
    })
}

impl Problem {
    /// One of the system itself.
    fn lasting(text: String) -> Self {
        Problem { text, retry: false }
    }
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

fn settings_problem(
    path: &Path,
    name: &HostName,
    logs_in_as: &mut dyn FnMut(&HostName) -> anyhow::Result<()>,
) -> Option<Problem> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return Some(Problem::lasting(format!(
                "can't read {shown}: {error} (services.bento-client.enable = true makes it)"
            )));
        }
    };
    let essence: Essence = match toml_edit::de::from_str(&text) {
        Ok(essence) => essence,
        // On one line: this is one of several problems.
        Err(error) => {
            let message = error.message();
            return Some(Problem::lasting(format!(
                "{shown} isn't a client's settings: {message} (services.bento-client.settings makes it)"
            )));
        }
    };
    if let Some(problem) = name_problem(path, &essence.name, name, logs_in_as) {
        return Some(problem);
    }
    (!essence.servers.iter().any(is_pinned)).then(|| {
        Problem::lasting(format!(
            "{shown} names no server with a valid address and a valid host key (services.bento-client.servers says \
             so)"
        ))
    })
}

fn name_problem(
    path: &Path,
    new: &str,
    name: &HostName,
    logs_in_as: &mut dyn FnMut(&HostName) -> anyhow::Result<()>,
) -> Option<Problem> {
    if new == name.as_str() {
        return None;
    }
    let is_another = format!(
        "{} is for the machine {new:?}, and this one is {:?} (services.bento-client.name says so)",
        path.display(),
        name.as_str()
    );
    let Ok(new) = new.parse::<HostName>() else {
        return Some(Problem::lasting(is_another));
    };
    let error = logs_in_as(&new).err()?;
    Some(Problem {
        text: format!(
            "{is_another}. A machine that was renamed has its key also in [hosts.{new}] of fleet.toml, with \
             renamed_from = \"{name}\"; by that name it isn't let in: {error:#}"
        ),
        retry: true,
    })
}

fn is_pinned(server: &EssentialServer) -> bool {
    let is_key = |key: &String| key.parse::<HostKey>().is_ok();
    server.address.parse::<Address>().is_ok() && server.host_keys.iter().any(is_key)
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
            let mut logs_in_as = |name: &HostName| match name.as_str() {
                "leshy" => Ok(()),
                _ => Err(anyhow!("the key isn't its own")),
            };
            let checked = check(&system, &"kikimora".parse().unwrap(), &mut logs_in_as);
            checked.map_err(|refused| format!("{:#}", refused.source))
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

    // Issue 10, line 28.
    #[test]
    fn another_name_is_right_where_the_machine_is_let_in_by_it() {
        let renamed = |name| GOOD.replace("kikimora", name);
        assert_eq!(Built::with(&renamed("leshy")).check(), Ok(()));
        let without_server = renamed("leshy").replace("[[servers]]", "[[server]]");
        Built::with(&without_server).assert_refused(&["services.bento-client.servers"]);
        let says = ["[hosts.domovoi]", "the key isn't its own"];
        Built::with(&renamed("domovoi")).assert_refused(&says);
        Built::with(&renamed("NO-NAME")).assert_refused(&["\"NO-NAME\""]);
    }

    #[test]
    fn all_that_is_missing_is_said() {
        let built = Built::with(GOOD);
        fs::remove_file(built.path("system/etc")).unwrap();
        built.assert_refused(&["bento-update.timer", "client.toml: No such file"]);
    }
}
