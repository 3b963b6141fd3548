//! Every request of SFTP and every extension of OpenSSH, one by one: what is allowed is what is listed here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;
use bento_tests::{Appliance, Fleet, Options};

use super::raw::{Answer, NONE, Raw, flag, kind, number, string};
use crate::machine::Machine;

/// What must never reach another machine: a name of a host, of a file, and what is in files and secrets.
pub(super) const CANARIES: [&str; 4] = ["zmey", "gorynych-flake.nix", "fire-breath", "three-heads"];

/// Statuses of the protocol.
pub(super) const NO_SUCH_FILE: &str = "status 2";
pub(super) const DENIED: &str = "status 3";
pub(super) const FAILURE: &str = "status 4";
pub(super) const BAD_MESSAGE: &str = "status 5";
const UNSUPPORTED: &str = "status 8";

pub(super) struct RawEnv {
    _fleet: Fleet,
    pub(super) appliance: Appliance,
    pub(super) machine: Machine,
}

impl RawEnv {
    pub(super) fn new() -> Result<Self> {
        let mut fleet = Fleet::new()?;
        fleet.host("kikimora", |host| {
            host.file("configuration.nix", "kikimora's")?;
            Ok(())
        })?;
        let [name, file, content, secret] = CANARIES;
        fleet.host(name, |host| {
            host.file(file, content)?
                .file("configuration.nix", content)?;
            host.secret(file, secret)?;
            Ok(())
        })?;
        let appliance = Appliance::start(fleet.path(), Options::default())?;
        let machine = Machine::of(&fleet, "kikimora", &appliance);
        Ok(RawEnv {
            _fleet: fleet,
            appliance,
            machine,
        })
    }

    /// Ends a session: nothing of the other machine was in anything that this one received, error texts included.
    pub(super) fn end(&self, raw: Raw) -> Result<()> {
        let heard = raw.end()?;
        for canary in CANARIES {
            assert!(!contains(&heard, canary), "{canary} was received");
        }
        Ok(())
    }

    /// A path as kikimora sees it, from outside.
    fn received(&self, path: &str) -> Result<PathBuf> {
        let chroot = self
            .appliance
            .state_folder()?
            .join("hosts/kikimora/current");
        Ok(chroot.join(path.trim_start_matches('/')))
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

pub(super) fn open(path: &str, flags: u32) -> Vec<u8> {
    [&string(path), &number(flags), NONE].concat()
}

pub(super) fn extended(name: &str, body: &[u8]) -> Vec<u8> {
    [&string(name), body].concat()
}

pub(super) fn handle(raw: &mut Raw, kind: u8, body: &[u8]) -> Result<Vec<u8>> {
    match raw.ask(kind, body)? {
        Answer::Handle(handle) => Ok(string(handle)),
        other => Err(anyhow::anyhow!("no handle, but {}", other.brief())),
    }
}

/// A report that is being written: complete as far as it goes, so that it stays where it is while its session is open.
const REPORT: &str = "/logs/0198c0de-0000-7000-8000-000000000000.1.report.gz";
const ANOTHER: &str = "/logs/0198c0de-0000-7000-8000-000000000000.2.report.gz";
const BEGINNING: [u8; 3] = [0x1f, 0x8b, 8];

pub(super) fn begin_report(raw: &mut Raw) -> Result<Vec<u8>> {
    let new = flag::WRITE | flag::CREATE | flag::EXCLUSIVE;
    let report = handle(raw, kind::OPEN, &open(REPORT, new))?;
    let write = [&report[..], &[0; 8], &string(BEGINNING)].concat();
    assert_eq!(raw.ask(kind::WRITE, &write)?, Answer::Status(0));
    Ok(report)
}

#[test]
fn what_is_allowed_over_sftp_is_just_what_a_client_needs() -> Result<()> {
    let env = RawEnv::new()?;
    let mut raw = Raw::open(&env.machine)?;
    // What the server says it has.
    let advertised: Vec<_> = raw.extensions.keys().map(String::as_str).collect();
    assert_eq!(advertised, ["fsync@openssh.com", "limits@openssh.com"]);

    let report = begin_report(&mut raw)?;
    let file = handle(&mut raw, kind::OPEN, &open("/manifest.json", flag::READ))?;
    let folder = handle(&mut raw, kind::OPENDIR, &string("/config"))?;
    let spare = handle(&mut raw, kind::OPENDIR, &string("/"))?;
    let read = [&file[..], &[0; 8], &number(1 << 15)].concat();
    let write = [&report[..], &3_u64.to_be_bytes(), &string([0])].concat();
    let copy = [&file[..], &[0; 16], &report, &[0; 8]].concat();
    let mode = [number(4), number(0o666)].concat();
    let [own, other] = [REPORT, "/logs/other"].map(string);
    let both = [&own[..], &other].concat();
    let change = [&own[..], &mode].concat();
    // Each with arguments to which the folder's own permissions wouldn't object: what is denied, sshd denies.
    let table: Vec<(&str, u8, Vec<u8>, &str)> = vec![
        ("init", kind::INIT, Vec::new(), "version"),
        (
            "open",
            kind::OPEN,
            open("/manifest.json", flag::READ),
            "handle",
        ),
        ("read", kind::READ, read, "data"),
        ("write", kind::WRITE, write, "status 0"),
        ("lstat", kind::LSTAT, string("/generation"), "attributes"),
        ("stat", kind::STAT, string("/manifest.json"), "attributes"),
        ("fstat", kind::FSTAT, file.clone(), "attributes"),
        ("opendir", kind::OPENDIR, string("/"), "handle"),
        ("readdir", kind::READDIR, folder, "name"),
        ("close", kind::CLOSE, spare, "status 0"),
        ("realpath", kind::REALPATH, string("."), "name"),
        ("readlink", kind::READLINK, string("/generation"), "name"),
        (
            "fsync",
            kind::EXTENDED,
            extended("fsync@openssh.com", &report),
            "status 0",
        ),
        (
            "limits",
            kind::EXTENDED,
            extended("limits@openssh.com", &[]),
            "reply",
        ),
        ("setstat", kind::SETSTAT, change.clone(), DENIED),
        (
            "fsetstat",
            kind::FSETSTAT,
            [&report[..], &mode].concat(),
            DENIED,
        ),
        ("remove", kind::REMOVE, own.clone(), DENIED),
        ("mkdir", kind::MKDIR, [&other[..], NONE].concat(), DENIED),
        ("rmdir", kind::RMDIR, other.clone(), DENIED),
        ("rename", kind::RENAME, both.clone(), DENIED),
        ("symlink", kind::SYMLINK, both.clone(), DENIED),
        (
            "posix-rename",
            kind::EXTENDED,
            extended("posix-rename@openssh.com", &both),
            DENIED,
        ),
        (
            "hardlink",
            kind::EXTENDED,
            extended("hardlink@openssh.com", &both),
            DENIED,
        ),
        (
            "lsetstat",
            kind::EXTENDED,
            extended("lsetstat@openssh.com", &change),
            DENIED,
        ),
        (
            "statvfs",
            kind::EXTENDED,
            extended("statvfs@openssh.com", &string("/")),
            DENIED,
        ),
        (
            "fstatvfs",
            kind::EXTENDED,
            extended("fstatvfs@openssh.com", &file),
            DENIED,
        ),
        (
            "expand-path",
            kind::EXTENDED,
            extended("expand-path@openssh.com", &string("~")),
            DENIED,
        ),
        (
            "copy-data",
            kind::EXTENDED,
            extended("copy-data", &copy),
            DENIED,
        ),
        (
            "home-directory",
            kind::EXTENDED,
            extended("home-directory", &string("")),
            DENIED,
        ),
        (
            "users-groups-by-id",
            kind::EXTENDED,
            extended(
                "users-groups-by-id@openssh.com",
                &[string(number(0)), string("")].concat(),
            ),
            DENIED,
        ),
        (
            "unknown",
            kind::EXTENDED,
            extended("ls@bento.example.org", &[]),
            UNSUPPORTED,
        ),
        ("nameless", kind::EXTENDED, extended("", &[]), UNSUPPORTED),
    ];
    for (name, kind, body, expected) in &table {
        assert_eq!(raw.ask(*kind, body)?.brief(), *expected, "{name}");
    }
    // What isn't a request at all gets no answer.
    let known: BTreeSet<u8> = table.iter().map(|(_, kind, ..)| *kind).collect();
    assert_eq!(
        known.len(),
        20,
        "every request from 1 to 20 but VERSION, and 200"
    );
    raw.ask_in_vain((0..=u8::MAX).filter(|kind| !known.contains(kind)))?;

    let written = fs::read(env.received(REPORT)?)?;
    assert_eq!(written, [&BEGINNING[..], &[0]].concat());
    let inbox = env.received("/logs")?;
    assert_eq!(fs::read_dir(inbox)?.count(), 1);
    env.end(raw)
}

#[test]
fn no_way_of_opening_a_file_gets_round_what_may_be_done_with_it() -> Result<()> {
    let env = RawEnv::new()?;
    let mut raw = Raw::open(&env.machine)?;
    begin_report(&mut raw)?;
    let mut ask = |path: &str, flags: u32, expected: &str| -> Result<()> {
        let answer = raw.ask(kind::OPEN, &open(path, flags))?;
        assert_eq!(answer.brief(), expected, "{path} with {flags:#x}");
        if let Answer::Handle(handle) = answer {
            let closed = raw.ask(kind::CLOSE, &string(handle))?;
            assert_eq!(closed, Answer::Status(0));
        }
        Ok(())
    };
    for flags in flag::ALL {
        let has = |flag: u32| flags & flag != 0;
        let is_new_only = has(flag::CREATE) && has(flag::EXCLUSIVE);
        let changes = has(flag::WRITE) || has(flag::TRUNCATE);
        let if_there = |otherwise| if is_new_only { FAILURE } else { otherwise };
        let if_created = |otherwise| {
            if has(flag::CREATE) {
                otherwise
            } else {
                NO_SUCH_FILE
            }
        };
        // A report, also its own machine's: neither read nor changed.
        ask(REPORT, flags, if_there(DENIED))?;
        // What is published: read.
        for path in ["/manifest.json", "/config/configuration.nix"] {
            ask(
                path,
                flags,
                if_there(if changes { DENIED } else { "handle" }),
            )?;
        }
        for path in ["/new", "/config/new", "/delta/new"] {
            ask(path, flags, if_created(DENIED))?;
        }
        ask(&format!("/logs/{flags}"), flags, if_created("handle"))?;
    }
    // Whatever mode was asked for, a new file has none.
    let created = flag::WRITE | flag::CREATE;
    let with_mode = [string(ANOTHER), number(created), number(4), number(0o6777)].concat();
    assert_eq!(raw.ask(kind::OPEN, &with_mode)?.brief(), "handle");
    for path in [REPORT, ANOTHER] {
        let mode = fs::metadata(env.received(path)?)?.permissions().mode();
        assert_eq!(mode & 0o777, 0, "{path}");
    }
    // A handle does what it was opened for, and nothing else.
    let reading = handle(&mut raw, kind::OPEN, &open("/manifest.json", flag::READ))?;
    let write = [&reading[..], &[0; 8], &string("x")].concat();
    assert_eq!(raw.ask(kind::WRITE, &write)?.brief(), NO_SUCH_FILE);
    let writing = handle(&mut raw, kind::OPEN, &open("/logs/last", created))?;
    let read = [&writing[..], &[0; 8], &number(1)].concat();
    assert_eq!(raw.ask(kind::READ, &read)?.brief(), NO_SUCH_FILE);
    env.end(raw)
}
