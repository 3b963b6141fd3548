//! What the administrator reads: `bento status --json`, and the log.

use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::{Appliance, wait};
use serde_json::Value;

/// A report is taken in within 2 s, and an edit is judged within 5; a machine that is busy with other tests needs more.
const LIMIT: Duration = Duration::from_secs(60);

/// What `bento status --json` says of one machine.
pub(crate) fn of(appliance: &Appliance, name: &str) -> Result<Value> {
    let status = appliance.status_json()?;
    let hosts = status["hosts"]
        .as_array()
        .context("there is no list of hosts")?;
    let host = hosts.iter().find(|host| host["name"] == name);
    host.cloned()
        .with_context(|| format!("{name} isn't in the status: {status}"))
}

/// The state of a machine, in one word.
pub(crate) fn word(appliance: &Appliance, name: &str) -> Result<String> {
    let host = of(appliance, name)?;
    let state = host["state"].as_str().context("the state isn't a word")?;
    Ok(state.to_owned())
}

/// Waits until a machine is in a state, and gives all that is said of it then.
pub(crate) fn await_word(appliance: &Appliance, name: &str, state: &str) -> Result<Value> {
    await_that(appliance, name, &format!("be {state}"), |host| {
        host["state"] == state
    })
}

/// Waits until so many runs of a machine were taken in, and gives all that is said of it then.
pub(crate) fn await_runs(appliance: &Appliance, name: &str, runs: u64) -> Result<Value> {
    await_that(
        appliance,
        name,
        &format!("have reported {runs} runs"),
        |host| host["runs"] == runs,
    )
}

/// Waits until something holds of a machine, and gives all that is said of it then.
pub(crate) fn await_that(
    appliance: &Appliance,
    name: &str,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut last = Value::Null;
    wait::until(&format!("{name} to {what}"), LIMIT, || {
        last = of(appliance, name).unwrap_or_default();
        holds(&last).then(|| last.clone())
    })
    .with_context(|| format!("its status is {last}"))
}

/// Waits until the appliance has logged something, and gives the first line of it.
pub(crate) fn await_log(appliance: &Appliance, text: &str) -> Result<String> {
    wait::until(&format!("the log to say {text:?}"), LIMIT, || {
        let log = appliance.logs().ok()?;
        log.lines()
            .find(|line| line.contains(text))
            .map(str::to_owned)
    })
    .with_context(|| appliance.logs().unwrap_or_default())
}

/// Waits until the appliance has logged something so many times, over all of its starts.
pub(crate) fn await_times(appliance: &Appliance, text: &str, times: usize) -> Result<()> {
    let what = format!("the log to say {text:?} {times} times");
    wait::until(&what, LIMIT, || {
        let log = appliance.logs().ok()?;
        (log.matches(text).count() >= times).then_some(())
    })
    .with_context(|| appliance.logs().unwrap_or_default())
}
