//! Names in an inbox: the name of a bento 2022 log has one meaning, and files with other names are removed.

#![no_main]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

use bento_appliance::legacy::LegacyLog;
use bento_appliance::report::{Content, RetentionLimits, Store, Writers, take_in};
use bento_appliance::store::paths::{HostState, State};
use bento_fuzz::{place, recipe, shown};
use bento_protocol::HostName;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

struct LogEnv {
    folder: TempDir,
    keep: HostState,
    host: HostName,
    log: Vec<u8>,
}

static ENV: LazyLock<LogEnv> = LazyLock::new(|| {
    let folder = place::folder();
    let host: HostName = "kikimora".parse().unwrap();
    LogEnv {
        keep: State::new(folder.path().join("state")).host(&host),
        host,
        folder,
        log: recipe::gzip(b"building\n"),
    }
});

/// A valid name has one spelling, and is printable.
fn judge(name: &str, log: &LegacyLog) {
    assert_eq!(log.to_string(), name);
    shown::assert_one_line(name);
    assert!(name.is_ascii() && !name.contains(' '));
    if let Some(system) = &log.system {
        let base = system
            .as_str()
            .strip_prefix("/nix/store/")
            .expect("it is in the store");
        assert!(!base.contains('/') && base != "." && base != "..");
    }
    let json = serde_json::to_vec(log).expect("it is JSON");
    assert_eq!(
        serde_json::from_slice::<LegacyLog>(&json).expect("it was written"),
        *log
    );
}

fuzz_target!(|input: &[u8]| {
    let text = std::str::from_utf8(input).ok();
    let legacy = text.and_then(|name| name.parse::<LegacyLog>().ok());
    if let (Some(name), Some(log)) = (text, &legacy) {
        judge(name, log);
    }
    let is_name = !matches!(input, b"" | b"." | b"..")
        && input.len() <= 255
        && !input.iter().any(|byte| matches!(byte, 0 | b'/'));
    if !is_name {
        return;
    }

    let logs = ENV.keep.root().join("logs");
    let _ = fs::remove_dir_all(ENV.keep.root());
    fs::create_dir_all(&logs).unwrap();
    let path = logs.join(OsStr::from_bytes(input));
    let receive = || {
        fs::write(&path, &ENV.log).unwrap();
        take_in(
            &logs,
            &ENV.host,
            &ENV.keep,
            Writers::None,
            Timestamp::UNIX_EPOCH,
            &mut |entry, reason| [entry, reason].into_iter().for_each(shown::assert_one_line),
        )
        .unwrap()
    };
    let intake = receive();
    assert_eq!(place::names(&logs).len(), 0, "something stays in the inbox");
    assert_eq!(
        (intake.taken.len(), intake.refused),
        if legacy.is_some() { (1, 0) } else { (0, 1) }
    );
    if let (Some(record), Some(log)) = (intake.taken.first(), legacy) {
        assert_eq!(record.content, Content::Legacy(log));
        shown::assert_one_line(&record.line());
        let store = Store::read(&ENV.keep, RetentionLimits::default()).expect("it was written");
        assert_eq!(
            store.log(1).unwrap().as_deref(),
            Some(b"building\n".as_slice())
        );
        assert!(receive().taken.is_empty(), "one log was taken in twice");
    }
    assert_eq!(place::names(ENV.folder.path()), ["state"]);
    let kept = place::names(ENV.keep.root());
    assert!(
        kept.iter()
            .all(|name| matches!(name.as_str(), "logs" | "reports" | "summary.json")),
        "{kept:?}"
    );
});
