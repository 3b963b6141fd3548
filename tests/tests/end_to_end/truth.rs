//! Promise 3: status tells the truth. The reports are a machine's word, so here they also lie.

use std::fs;

use anyhow::Result;
use bento_protocol::{GenerationId, Report, RunId};
use bento_tests::{Appliance, Fleet, Options};

use crate::machine::Machine;
use crate::{reports, states};

struct TruthEnv {
    fleet: Fleet,
    appliance: Appliance,
    sent: u64,
}

impl TruthEnv {
    fn new() -> Result<Self> {
        let mut fleet = Fleet::new()?;
        for name in ["domovoi", "kikimora"] {
            fleet.host(name, |host| {
                host.file("configuration.nix", name)?;
                Ok(())
            })?;
        }
        let appliance = Appliance::start(fleet.path(), Options::default())?;
        Ok(TruthEnv {
            fleet,
            appliance,
            sent: 0,
        })
    }

    fn kikimora(&self) -> Machine {
        Machine::of(&self.fleet, "kikimora", &self.appliance)
    }

    fn published(&self) -> Result<GenerationId> {
        self.kikimora().log_in()?.poll()
    }

    /// The state of kikimora after it has left a report.
    fn state_after(&mut self, report: &Report) -> Result<String> {
        self.kikimora().log_in()?.leave(report)?;
        self.sent += 1;
        states::await_runs(&self.appliance, "kikimora", self.sent)?;
        states::word(&self.appliance, "kikimora")
    }
}

#[test]
fn up_to_date_is_who_runs_what_it_built_from_exactly_the_published_generation() -> Result<()> {
    let mut env = TruthEnv::new()?;
    let published = env.published()?;
    let success = || {
        let mut report = reports::success(published);
        report.run = RunId::now();
        report
    };
    assert_eq!(states::word(&env.appliance, "kikimora")?, "new");

    let another = reports::success("0123456789abcdef".repeat(4).parse()?);
    assert_eq!(env.state_after(&another)?, "rebuild-pending");
    let mut other_system = success();
    other_system.system.running = Some(reports::system("switched-to-by-hand"));
    assert_eq!(env.state_after(&other_system)?, "drifted");
    let mut unknown = success();
    unknown.system.running = None;
    assert_eq!(env.state_after(&unknown)?, "drifted");
    let mut nothing_built = success();
    nothing_built.system.built = None;
    assert_eq!(env.state_after(&nothing_built)?, "drifted");
    let mut new_kernel = success();
    new_kernel.reboot_required = true;
    assert_eq!(env.state_after(&new_kernel)?, "reboot-pending");
    assert_eq!(env.state_after(&success())?, "up-to-date");
    // Nobody else's word counts for a machine.
    assert_eq!(states::word(&env.appliance, "domovoi")?, "new");

    let domovoi = Machine::of(&env.fleet, "domovoi", &env.appliance);
    domovoi.log_in()?.leave(&success())?;
    states::await_word(&env.appliance, "domovoi", "rebuild-pending")?;
    Ok(())
}

#[test]
fn an_edit_makes_who_was_up_to_date_pending() -> Result<()> {
    let mut env = TruthEnv::new()?;
    let first = env.published()?;
    assert_eq!(env.state_after(&reports::success(first))?, "up-to-date");
    env.fleet
        .write("hosts/kikimora/configuration.nix", "changed")?;
    let second = env.kikimora().await_other_than(first)?.id();
    let status = states::of(&env.appliance, "kikimora")?;
    assert_eq!(status["state"], "rebuild-pending");
    assert_eq!(status["published"]["generation"], second.to_string());
    assert_eq!(status["reported"]["generation"], first.to_string());
    assert_eq!(env.state_after(&reports::success(second))?, "up-to-date");
    Ok(())
}

#[test]
fn a_failed_build_is_failing_with_its_own_error_until_one_succeeds() -> Result<()> {
    let mut env = TruthEnv::new()?;
    let published = env.published()?;
    let error = "error: undefined variable 'pkgz'\n\u{1b}[2Jat configuration.nix:3:5";
    let failure = reports::build_failure(published, error);
    assert_eq!(env.state_after(&failure)?, "failing");
    let status = states::of(&env.appliance, "kikimora")?;
    let status = status["error"].as_str().unwrap_or_default();
    assert!(status.contains("undefined variable 'pkgz'"), "{status}");
    // What a machine sent must not steer the administrator's terminal.
    let table = env.appliance.exec(["status"])?.success()?.stdout;
    assert!(table.contains("undefined variable 'pkgz'"), "{table}");
    assert!(
        !table.contains('\u{1b}') && !status.contains('\u{1b}'),
        "{table}{status}"
    );

    assert_eq!(env.state_after(&reports::success(published))?, "up-to-date");
    let status = states::of(&env.appliance, "kikimora")?;
    assert!(status["error"].is_null(), "{status}");
    Ok(())
}

#[test]
fn an_invalid_or_repeated_report_changes_nothing() -> Result<()> {
    let mut env = TruthEnv::new()?;
    let published = env.published()?;
    let success = reports::success(published);
    assert_eq!(env.state_after(&success)?, "up-to-date");
    let kikimora = env.kikimora();
    let failure = reports::build_failure(published, "error");
    let session = kikimora.log_in()?;
    let mut same_run = failure.clone();
    same_run.run = success.run;
    for (name, content) in [
        ("notes.txt".to_owned(), b"hello".to_vec()),
        (
            format!("{}.1.report.gz", RunId::now()),
            b"not gzip".to_vec(),
        ),
        (
            format!("{}.1.report.gz", RunId::now()),
            reports::packed(&failure)?,
        ),
        (
            format!("{}.2.report.gz", success.run),
            reports::packed(&same_run)?,
        ),
    ] {
        session.put(&format!("/logs/{name}"), &content)?;
    }
    drop(session);
    states::await_log(&env.appliance, "notes.txt")?;
    // Sent last and taken in last; everything before it has been read.
    assert_eq!(env.state_after(&reports::success(published))?, "up-to-date");
    let status = states::of(&env.appliance, "kikimora")?;
    assert_eq!(
        (&status["runs"], &status["error"]),
        (&2.into(), &serde_json::Value::Null)
    );
    Ok(())
}

#[test]
fn a_machine_that_comes_back_under_its_name_with_another_key_is_new() -> Result<()> {
    let mut env = TruthEnv::new()?;
    let published = env.published()?;
    assert_eq!(env.state_after(&reports::success(published))?, "up-to-date");
    env.fleet.forget("kikimora")?;
    env.kikimora().await_dismissal()?;
    let key = env.fleet.key("kikimora");
    fs::remove_file(key.with_added_extension("pub"))?;
    fs::remove_file(&key)?;
    env.fleet.host("kikimora", |_| Ok(()))?;
    env.kikimora().await_admission()?;
    let status = states::await_word(&env.appliance, "kikimora", "new")?;
    assert_eq!(status["runs"], 0);
    assert!(status["reported"].is_null(), "{status}");
    Ok(())
}

// Issue 10, line 28.
#[test]
fn a_machine_that_is_renamed_is_one_machine_by_both_names() -> Result<()> {
    let mut env = TruthEnv::new()?;
    let before = env.published()?;
    assert_eq!(env.state_after(&reports::success(before))?, "up-to-date");
    // It is the same machine, with the same key and files.
    let (old, new) = (env.fleet.key("kikimora"), env.fleet.key("leshy"));
    for extension in ["", "pub"] {
        fs::copy(old.with_extension(extension), new.with_extension(extension))?;
    }
    env.fleet.host("leshy", |host| {
        host.file("configuration.nix", "leshy")?;
        host.secret("key", "secret")?;
        host.settings("renamed_from = \"kikimora\"");
        Ok(())
    })?;
    env.fleet.forget("kikimora")?;
    let leshy = Machine::of(&env.fleet, "leshy", &env.appliance);
    leshy.await_admission()?;
    let kikimora = env.kikimora();
    let by_old = kikimora.await_other_than(before)?;
    let by_new = leshy.await_other_than(before)?;
    assert_eq!(by_old.contents, by_new.contents);
    assert_eq!(by_old.text("secrets/key"), "secret");
    // Status knows one machine, with what it said by its former name, and what it says by that until it has the other.
    let status = states::await_word(&env.appliance, "leshy", "rebuild-pending")?;
    assert_eq!(status["runs"], 1);
    assert!(states::of(&env.appliance, "kikimora").is_err());
    kikimora
        .log_in()?
        .leave(&reports::build_failure(by_old.id(), "no"))?;
    states::await_word(&env.appliance, "leshy", "failing")?;
    leshy.log_in()?.leave(&reports::success(by_new.id()))?;
    let status = states::await_word(&env.appliance, "leshy", "up-to-date")?;
    assert_eq!(status["runs"], 2, "what it said by both names");
    // The former name's account goes when nothing asks for it any more; what the machine said before stays.
    env.fleet.host("leshy", |_| Ok(()))?;
    kikimora.await_dismissal()?;
    assert_eq!(states::word(&env.appliance, "leshy")?, "up-to-date");
    let logs = env.appliance.exec(["logs", "leshy", "--json"])?.success()?;
    assert!(logs.stdout.contains(&before.to_string()), "{}", logs.stdout);
    Ok(())
}
