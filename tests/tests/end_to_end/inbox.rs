//! What a hostile machine leaves in its inbox: it costs a bounded room, nothing of it is shown raw, and no other
//! machine feels it.

mod flood;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bento_protocol::{GenerationId, Phase, Report, ReportName, RunId, limits};
use bento_tests::{Appliance, Fleet, Options, Podman};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use crate::machine::Machine;
use crate::{reports, states};

/// The hostile one.
const LESHY: &str = "leshy";
/// The honest one.
const KIKIMORA: &str = "kikimora";
/// What is logged of each thing that isn't a report.
const REFUSED: &str = "refused an entry of the inbox";
/// It clears a screen, sets a title, ends a line, begins another, turns writing around, hides, and shows nothing.
const POISON: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n2026 INFO forged\u{9b}31m\u{85}\u{202e}\u{2066}\u{200b}\u{7f}\0end";

struct InboxEnv {
    fleet: Fleet,
    appliance: Appliance,
}

impl InboxEnv {
    fn new(options: Options) -> Result<Self> {
        let mut fleet = Fleet::new()?;
        for name in [KIKIMORA, LESHY] {
            fleet.host(name, |host| {
                host.file("configuration.nix", name)?;
                Ok(())
            })?;
        }
        let appliance = Appliance::start(fleet.path(), options)?;
        Ok(InboxEnv { fleet, appliance })
    }

    fn machine(&self, name: &str) -> Machine {
        Machine::of(&self.fleet, name, &self.appliance)
    }

    /// The honest machine leaves a report, and it is taken in.
    fn hears_of_kikimora(&self) -> Result<()> {
        let before = states::of(&self.appliance, KIKIMORA)?["runs"]
            .as_u64()
            .context("a number")?;
        let session = self.machine(KIKIMORA).log_in()?;
        session.leave(&reports::success(session.poll()?))?;
        states::await_runs(&self.appliance, KIKIMORA, before + 1)?;
        assert_eq!(states::word(&self.appliance, KIKIMORA)?, "up-to-date");
        Ok(())
    }

    /// Nothing that anybody is shown can steer a terminal, forge a line, or hide what it says.
    fn shows_nothing_raw(&self) -> Result<()> {
        let shown = [
            self.appliance.exec(["status"])?.success()?.stdout,
            self.appliance.exec(["status", "--json"])?.success()?.stdout,
            self.appliance.logs()?,
        ];
        for text in shown {
            let raw = text.chars().find(|character| {
                let is_hidden = matches!(character,
                    '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
                is_hidden || (character.is_control() && *character != '\n')
            });
            assert_eq!(raw, None, "{text:?}");
            let forged = text
                .lines()
                .find(|line| line.starts_with("2026 INFO forged"));
            assert_eq!(forged, None, "{text:?}");
        }
        Ok(())
    }

    /// The folders on this machine in which a machine's files end up.
    fn inboxes(&self, name: &str) -> Result<Vec<PathBuf>> {
        let publications = self
            .appliance
            .state_folder()?
            .join("hosts")
            .join(name)
            .join("publications");
        let mut inboxes = Vec::new();
        for entry in fs::read_dir(publications)? {
            let inbox = entry?.path().join("chroot/logs");
            inboxes.extend(inbox.is_dir().then_some(inbox));
        }
        Ok(inboxes)
    }

    fn await_empty_inbox(&self, name: &str) -> Result<()> {
        let empty = || {
            let inboxes = self.inboxes(name).ok()?;
            let is_empty = |inbox: &PathBuf| {
                fs::read_dir(inbox).is_ok_and(|mut entries| entries.next().is_none())
            };
            inboxes.iter().all(is_empty).then_some(())
        };
        bento_tests::wait::until(
            &format!("the inbox of {name} to be empty"),
            bento_tests::process::SHORT,
            empty,
        )
    }
}

fn inbox_path(name: impl AsRef<Path>) -> PathBuf {
    Path::new("/logs").join(name)
}

fn report_path(run: RunId) -> PathBuf {
    inbox_path(ReportName { run, attempt: 1 }.to_string())
}

fn gzipped(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(content)?;
    Ok(gzip.finish()?)
}

/// A report, under its own name, of which one value is replaced.
fn broken(
    generation: GenerationId,
    key: &str,
    value: impl Into<serde_json::Value>,
) -> Result<(PathBuf, Vec<u8>)> {
    let report = reports::success(generation);
    let mut json = serde_json::to_value(&report)?;
    *json.pointer_mut(key).context("there is such a value")? = value.into();
    let content = gzipped(&serde_json::to_vec(&json)?)?;
    Ok((report_path(report.run), content))
}

/// What isn't a report, though it has the name of one; and a report under names that none could have.
fn rubbish(generation: GenerationId) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let good = reports::packed(&reports::success(generation))?;
    let path = || report_path(RunId::now());
    let mut rubbish = vec![
        (path(), b"not gzip".to_vec()),
        (path(), gzipped(&vec![b' '; 256 << 20])?),
        (path(), gzipped(POISON.as_bytes())?),
        (path(), gzipped("[".repeat(1 << 20).as_bytes())?),
        (path(), [good.as_slice(), b"more"].concat()),
        // The report of another run.
        (path(), good.clone()),
        broken(generation, "/format", 2)?,
        broken(generation, "/outcome", POISON)?,
        broken(generation, "/generation", POISON)?,
        broken(generation, "/started", POISON)?,
        broken(generation, "/held", POISON)?,
        broken(generation, "/system/before", format!("/nix/store/{POISON}"))?,
        broken(generation, "/system/running", "/nix/store/\u{202e}x")?,
        broken(generation, "/log", "x".repeat(limits::LOG_BYTES + 1))?,
        broken(generation, "/error", "x".repeat(1 << 20))?,
        broken(
            generation,
            "/phases",
            serde_json::json!([{ POISON: POISON }]),
        )?,
    ];
    for name in [
        b"a\nb".to_vec(),
        b"\x1b[2J\x1b]0;owned\x07.report.gz".to_vec(),
        vec![b'n'; 255],
        b"\xff\xfe".to_vec(),
        "\u{202e}gz.report".as_bytes().to_vec(),
        "\u{85}".as_bytes().to_vec(),
        format!("{}.1.report.gz\n", RunId::now()).into_bytes(),
        format!("{}.0.report.gz", RunId::now()).into_bytes(),
        b".hidden".to_vec(),
        b"20261312-0000_x_success.log.gz".to_vec(),
    ] {
        rubbish.push((inbox_path(OsString::from_vec(name)), good.clone()));
    }
    Ok(rubbish)
}

/// A report that is one, with all the texts that it may have.
fn poisoned(generation: GenerationId) -> Result<(PathBuf, Vec<u8>)> {
    let report = Report {
        error: Some(POISON.repeat(500)),
        client: POISON.repeat(500),
        nix: Some(POISON.to_owned()),
        phases: vec![
            Phase {
                name: POISON.to_owned(),
                seconds: -1.0,
            };
            100
        ],
        log: POISON.repeat(1000),
        ..reports::build_failure(generation, "")
    };
    let mut json = serde_json::to_value(&report)?;
    // There is no such key: whose a report is, the key of the login says.
    json["host"] = KIKIMORA.into();
    json[POISON] = POISON.into();
    Ok((
        report_path(report.run),
        gzipped(&serde_json::to_vec(&json)?)?,
    ))
}

#[test]
fn what_is_no_report_is_refused_in_one_line_and_nothing_is_shown_raw() -> Result<()> {
    for format in ["text", "json"] {
        let command = ["serve", "--log-format", format].map(str::to_owned).into();
        let env = InboxEnv::new(Options {
            command,
            ..Options::default()
        })?;
        let session = env.machine(LESHY).log_in()?;
        let rubbish = rubbish(session.poll()?)?;
        for (path, content) in &rubbish {
            session.put(path, content)?;
        }
        // Nobody can leave more than this in one file; what came through is no whole report.
        let huge = vec![0; 5 << 20];
        let other_session = env.machine(LESHY).log_in()?;
        let put = other_session.put(&report_path(RunId::now()), &huge);
        assert!(put.is_err());
        drop(other_session);
        let (path, content) = poisoned(session.poll()?)?;
        session.put(&path, &content)?;
        drop(session);
        let status = states::await_runs(&env.appliance, LESHY, 1)?;
        assert_eq!(status["state"], "failing", "{status}");
        env.hears_of_kikimora()?;
        env.await_empty_inbox(LESHY)?;
        let log = env.appliance.logs()?;
        let refused = log.lines().filter(|line| line.contains(REFUSED)).count();
        assert_eq!(refused, rubbish.len() + 1, "{log}");
        env.shows_nothing_raw()?;
        assert_eq!(states::of(&env.appliance, KIKIMORA)?["runs"], 1);
    }
    Ok(())
}

#[test]
fn what_is_still_being_written_is_not_taken_for_whole() -> Result<()> {
    let env = InboxEnv::new(Options::default())?;
    let session = env.machine(LESHY).log_in()?;
    let slow = reports::success(session.poll()?);
    let content = reports::packed(&slow)?;
    let (first, second) = content.split_at(content.len() / 2);
    let mut file = session.create(&report_path(slow.run))?;
    file.write_all(first)?;
    // One that came later is taken in meanwhile: the first was read, too.
    session.leave(&reports::build_failure(session.poll()?, "no"))?;
    states::await_word(&env.appliance, LESHY, "failing")?;
    env.hears_of_kikimora()?;
    file.write_all(second)?;
    file.close()?;
    states::await_word(&env.appliance, LESHY, "up-to-date")?;

    // Once nobody can be writing any more, half of a file is what it is.
    let mut file = session.create(&report_path(RunId::now()))?;
    file.write_all(first)?;
    drop((file, session));
    states::await_log(&env.appliance, "the upload was cut")?;
    env.await_empty_inbox(LESHY)
}

#[test]
fn what_only_a_person_can_put_into_an_inbox_is_not_followed() -> Result<()> {
    let env = InboxEnv::new(Options::default())?;
    let secret = env
        .appliance
        .state_folder()?
        .join("keys/ssh_host_ed25519_key");
    let before = fs::read(&secret)?;
    let inboxes = env.inboxes(LESHY)?;
    let inbox = inboxes.first().context("it has one")?;
    let path = || {
        let run = RunId::now();
        inbox.join(ReportName { run, attempt: 1 }.to_string())
    };
    symlink("/state/keys/ssh_host_ed25519_key", path())?;
    symlink("../../../../../keys/ssh_host_ed25519_key", path())?;
    symlink("/state/keys", path())?;
    symlink("loop", inbox.join("loop"))?;
    mkfifo(&path(), Mode::S_IRWXU)?;
    mknod(&path(), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5))?;
    mknod(&inbox.join("socket"), SFlag::S_IFSOCK, Mode::S_IRWXU, 0)?;
    fs::create_dir(path())?;
    let folder = path();
    fs::create_dir_all(folder.join("with/more"))?;
    fs::write(folder.join("with/file"), "")?;
    symlink("/state/keys", folder.join("with/keys"))?;
    Podman::new()?.own(inbox)?;
    // The folder itself is as the appliance had made it.
    let owner = fs::metadata(inbox.join(".."))?;
    std::os::unix::fs::chown(
        inbox,
        Some(std::os::unix::fs::MetadataExt::uid(&owner)),
        Some(std::os::unix::fs::MetadataExt::gid(&owner)),
    )?;

    let session = env.machine(LESHY).log_in()?;
    session.leave(&reports::success(session.poll()?))?;
    drop(session);
    states::await_word(&env.appliance, LESHY, "up-to-date")?;
    env.await_empty_inbox(LESHY)?;
    env.hears_of_kikimora()?;
    let log = env.appliance.logs()?;
    let refused = log.lines().filter(|line| line.contains(REFUSED)).count();
    assert_eq!(refused, 9, "{log}");
    assert_eq!(fs::read(&secret)?, before);
    assert!(!log.contains("can't be"), "{log}");
    Ok(())
}
