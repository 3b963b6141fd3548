//! What is wrong with a machine's folder, or with all of them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{add, await_problem, check, only_line};
use crate::machine::Machine;
use crate::states;

/// Something that is wrong with one machine, and what must be said about it.
struct Fault {
    host: &'static str,
    /// How to bring it about, in the machine's folder.
    make: fn(&Path) -> Result<()>,
    place: &'static str,
    what: &'static str,
}

const FAULTS: [Fault; 14] = [
    Fault {
        host: "missing",
        make: |folder| Ok(fs::remove_dir_all(folder)?),
        place: "hosts/missing",
        what: "isn't there",
    },
    Fault {
        host: "empty",
        make: |folder| Ok(fs::remove_file(folder.join("configuration.nix"))?),
        place: "hosts/empty",
        what: "holds nothing to publish",
    },
    // Issue 10, line 4.
    Fault {
        host: "bare",
        make: |folder| {
            Ok(fs::rename(
                folder.join("configuration.nix"),
                folder.join("config.nix"),
            )?)
        },
        place: "hosts/bare",
        what: "holds neither a flake.nix nor a configuration.nix",
    },
    Fault {
        host: "file",
        make: |folder| {
            fs::remove_dir_all(folder)?;
            Ok(fs::write(folder, "")?)
        },
        place: "hosts/file",
        what: "isn't a folder",
    },
    Fault {
        host: "leaving",
        make: |folder| Ok(symlink("../../../elsewhere", folder.join("out"))?),
        place: "hosts/leaving/out",
        what: "leaves the fleet folder",
    },
    Fault {
        host: "absolute",
        make: |folder| Ok(symlink("/etc/passwd", folder.join("users"))?),
        place: "hosts/absolute/users",
        what: "is a symlink to the absolute path /etc/passwd",
    },
    Fault {
        host: "loop",
        make: |folder| Ok(symlink("round", folder.join("round"))?),
        place: "hosts/loop/round",
        what: "leads to itself",
    },
    Fault {
        host: "spiral",
        make: |folder| Ok(symlink("..", folder.join("up"))?),
        place: "hosts/spiral/up/spiral",
        what: "leads back to a folder in which it lies",
    },
    Fault {
        host: "dangling",
        make: |folder| Ok(symlink("../../gone.nix", folder.join("link.nix"))?),
        place: "hosts/dangling/link.nix",
        what: "something that isn't there",
    },
    Fault {
        host: "winding",
        make: |folder| Ok(symlink("modules/../../../utils", folder.join("utils"))?),
        place: "hosts/winding/utils",
        what: "has .. after another part",
    },
    Fault {
        host: "peeking",
        make: |folder| Ok(symlink("../../bento-secrets/good", folder.join("peek"))?),
        place: "hosts/peeking/peek",
        what: "leads into bento-secrets",
    },
    Fault {
        host: "fifo",
        make: |folder| Ok(mkfifo(&folder.join("pipe"), Mode::S_IRWXU)?),
        place: "hosts/fifo/pipe",
        what: "is a device, a socket or a FIFO",
    },
    Fault {
        host: "latin",
        make: |folder| {
            Ok(fs::write(
                folder.join(OsStr::from_bytes(b"caf\xe9.nix")),
                "",
            )?)
        },
        place: "hosts/latin/caf\u{fffd}.nix",
        what: "has a name that isn't in UTF-8",
    },
    Fault {
        host: "bell",
        make: |folder| Ok(fs::write(folder.join("\u{7}.nix"), "")?),
        place: "hosts/bell/\\u{7}.nix",
        what: "has a control character in its name",
    },
];

#[test]
fn what_is_wrong_with_one_machines_folder_stops_only_that_machine() -> Result<()> {
    let mut fleet = Fleet::new()?;
    let names = || FAULTS.iter().map(|fault| fault.host).chain(["good"]);
    for name in names() {
        add(&mut fleet, name)?;
    }
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = |name: &str| Machine::of(&fleet, name, &appliance);
    let before: Vec<_> = names()
        .map(|name| machine(name).pull())
        .collect::<Result<_>>()?;

    for fault in &FAULTS {
        (fault.make)(&fleet.path().join("hosts").join(fault.host))?;
    }
    fleet.write("hosts/good/configuration.nix", "changed")?;
    let good = before.last().context("it was published")?;
    machine("good").await_other_than(good.id())?;

    let checked = check(&appliance)?;
    for (fault, generation) in FAULTS.iter().zip(&before) {
        let status = states::await_that(&appliance, fault.host, "be faulty", |host| {
            !host["error"].is_null()
        })?;
        let error = status["error"].as_str().unwrap_or_default();
        only_line(error, &[fault.place, fault.what])?;
        let place = format!(" {}: {}: ", fault.place, fault.host);
        only_line(&checked, &["error:", &place, fault.what])?;
        only_line(&appliance.logs()?, &["WARN", &place, fault.what])?;
        assert_eq!(machine(fault.host).pull()?, *generation, "{}", fault.host);
    }
    assert!(states::of(&appliance, "good")?["error"].is_null());
    Ok(())
}

#[test]
fn a_machine_that_was_faulty_from_the_start_is_unpublished_until_it_is_mended() -> Result<()> {
    let mut fleet = Fleet::new()?;
    add(&mut fleet, "good")?;
    fleet.host("new", |_| Ok(()))?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let new = Machine::of(&fleet, "new", &appliance);
    // It isn't sent away like a stranger: its client learns that there is nothing yet.
    assert!(new.log_in()?.poll().is_err());
    let status = states::of(&appliance, "new")?;
    assert_eq!(status["state"], "unpublished");
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("hosts/new: isn't there"), "{error}");
    Machine::of(&fleet, "good", &appliance).pull()?;

    fleet.write("hosts/new/configuration.nix", "mended")?;
    let status = states::await_word(&appliance, "new", "new")?;
    assert!(status["error"].is_null(), "{status}");
    assert_eq!(new.pull()?.text("config/configuration.nix"), "mended");
    Ok(())
}

#[test]
fn a_folder_that_is_emptied_removes_nobody_also_over_a_restart() -> Result<()> {
    let mut fleet = Fleet::new()?;
    for name in ["domovoi", "kikimora"] {
        add(&mut fleet, name)?;
    }
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let kikimora = Machine::of(&fleet, "kikimora", &appliance);
    let generation = kikimora.pull()?;
    for entry in ["fleet.toml", "hosts", "bento-secrets"] {
        fleet.remove(entry)?;
    }
    for is_restarted in [false, true] {
        if is_restarted {
            appliance.restart()?;
        }
        for name in ["domovoi", "kikimora"] {
            // Meanwhile the appliance may have seen it half removed.
            let gone = format!("hosts/{name}: isn't there");
            let status = states::await_that(&appliance, name, "be faulty", |host| {
                host["error"]
                    .as_str()
                    .is_some_and(|error| error.contains(&gone))
            })?;
            assert_eq!(status["state"], "new");
        }
        await_problem(&appliance, &["fleet.toml: ", "can't be read"])?;
        assert_eq!(kikimora.pull()?, generation);
    }
    assert!(check(&appliance)?.contains("fleet.toml"));
    Ok(())
}
