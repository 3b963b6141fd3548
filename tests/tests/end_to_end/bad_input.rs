//! Bad input: one message that says where, what, and what to do; nothing else stops.

mod folders;
mod mounts;
mod settings;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, process, wait};
use serde_json::Value;

/// Adds a machine with one file, and a secret.
fn add(fleet: &mut Fleet, name: &str) -> Result<()> {
    fleet.host(name, |host| {
        host.file("configuration.nix", name)?;
        host.secret("token", "secret")?;
        Ok(())
    })
}

/// What `bento check` prints about a fleet in which something is wrong.
fn check(appliance: &Appliance) -> Result<String> {
    let output = appliance.exec(["check"])?;
    assert_eq!(output.code(), 1, "{}", output.stdout);
    Ok(output.stdout + &output.stderr)
}

/// The only line of a text that has all of these parts.
fn only_line<'a>(text: &'a str, parts: &[&str]) -> Result<&'a str> {
    let mut lines = text
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)));
    let line = lines
        .next()
        .with_context(|| format!("no line has {parts:?}:\n{text}"))?;
    assert_eq!(lines.next(), None, "a second line has {parts:?}:\n{text}");
    Ok(line)
}
/// Waits until the status shows a problem with the whole fleet that has all of these parts.
fn await_problem(appliance: &Appliance, parts: &[&str]) -> Result<()> {
    let mut shown = String::new();
    wait::until(&format!("a problem with {parts:?}"), process::SHORT, || {
        let status = appliance.status_json().ok()?;
        shown = lines(&status["problems"]);
        only_line(&shown, parts).is_ok().then_some(())
    })
    .with_context(|| shown.clone())
}

/// A list of texts, a line each.
fn lines(list: &Value) -> String {
    let texts = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join("\n")
}
