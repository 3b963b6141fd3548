//! Paths, handles, offsets and lengths that no client would send: none of them leads anywhere else.

use anyhow::{Context, Result};

use super::raw::{Answer, NONE, Raw, flag, kind, number, string};
use super::requests::{
    BAD_MESSAGE, CANARIES, DENIED, FAILURE, NO_SUCH_FILE, RawEnv, begin_report, extended, handle,
    open,
};

#[test]
fn no_path_handle_offset_or_length_leads_anywhere_else() -> Result<()> {
    let env = RawEnv::new()?;
    let mut raw = Raw::open(&env.machine)?;
    let report = begin_report(&mut raw)?;
    let file = handle(&mut raw, kind::OPEN, &open("/manifest.json", flag::READ))?;
    elsewhere(&mut raw)?;
    strange_handles(&mut raw)?;

    // Offsets and lengths at the ends of their ranges.
    let read = |offset: u64, length: u32| {
        let request = [&file[..], &offset.to_be_bytes(), &number(length)].concat();
        (kind::READ, request)
    };
    let write = |offset: u64| {
        let request = [&report[..], &offset.to_be_bytes(), &string("x")].concat();
        (kind::WRITE, request)
    };
    let beyond = i64::MAX as u64;
    for ((kind, body), expected) in [
        (read(0, u32::MAX), "data"),
        (read(0, 0), "data"),
        (read(u64::MAX, 1), BAD_MESSAGE),
        (read(beyond + 1, 1), BAD_MESSAGE),
        (write(u64::MAX), BAD_MESSAGE),
        (write(beyond + 1), BAD_MESSAGE),
    ] {
        assert_eq!(raw.ask(kind, &body)?.brief(), expected, "{kind} {body:?}");
    }
    let (kind, body) = read(beyond, 1);
    let brief = raw.ask(kind, &body)?.brief();
    assert!(
        ["status 1", BAD_MESSAGE].contains(&brief.as_str()),
        "{brief}"
    );
    env.end(raw)?;

    // What isn't a packet ends the session.
    let too_long = [&u32::MAX.to_be_bytes()[..], &[kind::STAT]].concat();
    let cut_off = [&string([kind::STAT, 0, 0, 0, 1, 0, 0, 0, 9, b'/'])[..], b""].concat();
    let untimely = string([kind::STAT, 0, 0]);
    for packet in [too_long, cut_off, untimely] {
        let mut raw = Raw::open(&env.machine)?;
        raw.write_raw(&packet)?;
        assert!(raw.is_ended()?, "{packet:?}");
        env.end(raw)?;
    }
    env.machine.pull()?;

    // Nobody else has logged in, so that all that is logged of sessions is kikimora's.
    let logs = env.appliance.logs()?;
    let sessions: Vec<_> = logs
        .lines()
        .filter(|line| line.contains("session"))
        .collect();
    assert!(!sessions.is_empty());
    for canary in CANARIES {
        assert!(!sessions.iter().any(|line| line.contains(canary)), "{logs}");
    }
    Ok(())
}

/// Paths that lead out of the chroot anywhere but there.
fn elsewhere(raw: &mut Raw) -> Result<()> {
    let other = CANARIES[0];
    let paths = [
        "/proc/self/root",
        "/proc/self/cwd/manifest.json",
        "/proc/1/environ",
        "/dev/fd/0",
        "/dev/log",
        "/etc/passwd",
        "/run/bento/keys/kikimora",
        "/state/keys/ssh_host_ed25519_key",
        "../published.json",
        "/../../../../etc/passwd",
        "/config/../../../../run/bento/passwd",
        "/generation/../../manifest.json",
        "/manifest.json/",
        "/generation/",
        "~root",
        "~kikimora/manifest.json",
        "",
        "\u{1b}[2J",
    ]
    .map(str::to_owned);
    let of_another = [
        format!("/state/hosts/{other}/current/manifest.json"),
        format!("../../../../{other}/current/config/configuration.nix"),
        format!("/logs/../../../../{other}"),
        format!("/run/bento/keys/{other}"),
    ];
    let long = [format!("/{}", "a".repeat(300)), "/a".repeat(50_000)];
    for path in paths.iter().chain(&of_another).chain(&long) {
        let requests = [
            (kind::STAT, string(path)),
            (kind::OPEN, open(path, flag::READ)),
            (kind::OPEN, open(path, flag::WRITE)),
            (kind::OPEN, open(path, flag::READ | flag::TRUNCATE)),
            (kind::OPENDIR, string(path)),
            (kind::READLINK, string(path)),
        ];
        for (kind, body) in requests {
            let brief = raw.ask(kind, &body)?.brief();
            let is_refused = [NO_SUCH_FILE, DENIED, BAD_MESSAGE].contains(&brief.as_str());
            assert!(is_refused, "{kind} of {path:?}: {brief}");
        }
    }
    // Upwards there is only the top itself.
    for path in ["/..", "/../..", "config/../..", "/config/../../logs/../.."] {
        let names = raw.ask(kind::REALPATH, &string(path))?;
        let top = [number(1), string("/"), string("/"), NONE.into()].concat();
        assert_eq!(names, Answer::Other(kind::NAME, top), "{path}");
    }
    // The inbox can be entered, but not listed.
    assert_eq!(raw.ask(kind::OPENDIR, &string("/logs"))?.brief(), DENIED);
    let as_file = raw.ask(kind::OPEN, &open("/logs", flag::READ))?;
    assert_eq!(as_file.brief(), DENIED);
    Ok(())
}

/// Handles that were never given.
fn strange_handles(raw: &mut Raw) -> Result<()> {
    let unknown = [
        number(77),
        number(u32::MAX),
        number(i32::MAX as u32),
        vec![],
        vec![0; 5],
        vec![0; 255],
        vec![0; 256],
        vec![0xff; 10_000],
    ];
    for handle in unknown.map(string) {
        let fsync = extended("fsync@openssh.com", &handle);
        for (kind, body, expected) in [
            (kind::CLOSE, handle.clone(), NO_SUCH_FILE),
            (kind::FSTAT, handle.clone(), FAILURE),
            (kind::READDIR, handle.clone(), FAILURE),
            (kind::READ, [&handle[..], &[0; 12]].concat(), FAILURE),
            (
                kind::WRITE,
                [&handle[..], &[0; 8], &string("x")].concat(),
                FAILURE,
            ),
            (kind::EXTENDED, fsync, NO_SUCH_FILE),
        ] {
            let brief = raw.ask(kind, &body)?.brief();
            assert_eq!(brief, expected, "{kind} of {handle:?}");
        }
    }
    // One of the other sort.
    let folder = handle(raw, kind::OPENDIR, &string("/"))?;
    let read = [&folder[..], &[0; 8], &number(1)].concat();
    assert_eq!(raw.ask(kind::READ, &read)?.brief(), FAILURE);
    let file = handle(raw, kind::OPEN, &open("/manifest.json", flag::READ))?;
    assert_eq!(raw.ask(kind::READDIR, &file)?.brief(), FAILURE);
    let closed = raw.ask(kind::CLOSE, &file)?;
    assert_eq!(closed, Answer::Status(0));
    let again = raw.ask(kind::FSTAT, &file).context("it is still there")?;
    assert_eq!(again.brief(), FAILURE);
    Ok(())
}
