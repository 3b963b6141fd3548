//! Two states of a fleet folder with every kind of difference.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bento_appliance::preview::Preview;
use bento_appliance::release::{Build, FolderRecord};
use bento_protocol::{Format, HostName};
use bento_tests::{files, key};
use jiff::Timestamp;

use crate::env::CrashEnv;

/// Files of this age are published at once.
const STABLE_AGE: Duration = Duration::from_millis(2_100);

/// A fleet folder before and after an edit.
pub struct Fleets {
    pub before: PathBuf,
    pub after: PathBuf,
}

impl Fleets {
    /// Before: domovoi and kikimora. After: domovoi is gone, leshy is new, kikimora has another policy, and of its
    /// files some are added, changed, removed and left alone, and a secret is changed.
    pub fn write(env: &CrashEnv) -> Self {
        let fleets = Fleets {
            before: env.path("before"),
            after: env.path("after"),
        };
        for (folder, names) in [
            (&fleets.before, ["domovoi", "kikimora"]),
            (&fleets.after, ["kikimora", "leshy"]),
        ] {
            let is_after = folder == &fleets.after;
            let mut text = "[server]\naddress = \"bento.example.org\"\n".to_owned();
            for name in names {
                let key = key(env, name);
                text.push_str(&format!("[hosts.{name}]\nkeys = [\"{key}\"]\n"));
                if is_after && name == "kikimora" {
                    text.push_str("reboot = \"immediate\"\n");
                }
                write(folder, &format!("hosts/{name}/flake.nix"), "{ }");
                write(
                    folder,
                    &format!("bento-secrets/{name}/key"),
                    &format!("of {name}"),
                );
            }
            write(folder, "fleet.toml", &text);
        }
        write(
            &fleets.before,
            "hosts/kikimora/modules/old.nix",
            "{ old = true; }",
        );
        write(&fleets.before, "hosts/kikimora/modules/changed.nix", "{ }");
        write(
            &fleets.after,
            "hosts/kikimora/modules/changed.nix",
            "{ changed = true; }",
        );
        write(
            &fleets.after,
            "hosts/kikimora/new/new.nix",
            "{ new = true; }",
        );
        write(&fleets.after, "bento-secrets/kikimora/key", "another");
        // Of what is published before, which is noted before anything else is published.
        record_build(&fleets);
        thread::sleep(STABLE_AGE);
        fleets
    }
}

fn record_build(fleets: &Fleets) {
    let name: HostName = "kikimora".parse().unwrap();
    let preview = Preview::make(&fleets.before, &[]).unwrap();
    let build = Build {
        format: Format,
        generation: preview.machines[&name]
            .as_ref()
            .unwrap()
            .manifest
            .generation(),
        system: "/nix/store/a-system".parse().unwrap(),
        comparable: true,
        at: Timestamp::UNIX_EPOCH,
    };
    build.write(&fleets.after, &name).unwrap();
}

/// The file of a machine's private key.
pub fn private_key(env: &CrashEnv, name: &str) -> PathBuf {
    env.path(&format!("key-of-{name}"))
}

/// A machine's public key.
fn key(env: &CrashEnv, name: &str) -> String {
    let private = private_key(env, name);
    if !private.exists() {
        key::make(&private, name).unwrap();
    }
    key::public(&private).unwrap()
}

fn write(folder: &Path, path: &str, text: &str) {
    files::write(&folder.join(path), text).unwrap();
}
