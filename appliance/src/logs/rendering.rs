//! Reports as text for people. Control characters in a machine's texts are escaped.

use std::fmt::Write;

use bento_protocol::{Phase, SystemPath};
use jiff::Timestamp;

use super::ReportEntry;
use crate::text::sanitise::{both_ends, log, one_line};
use crate::text::terminal::{Colour, Terminal, paint};

/// The width of outcomes, without the mark of a self-update.
const OUTCOME_WIDTH: usize = 17;
/// The width of report numbers.
const NUMBER_WIDTH: usize = 4;
/// The longest shown name of a phase, in characters; those of our client are shorter.
const PHASE_NAME: usize = 30;
/// The most phases in a line; a run of our client has fewer.
const PHASES: usize = 12;
/// The longest shown name of a specialisation, in characters.
const NAME: usize = 50;
/// The longest shown error in a line, in characters.
const ERROR: usize = 300;

/// A report in one line, with more lines for changed systems and for an error.
pub fn brief(entry: &ReportEntry, terminal: Option<Terminal>) -> String {
    let mut outcome = word(entry);
    if entry.auto {
        outcome += ", auto";
    }
    let generation = match (entry.generation, entry.legacy_date) {
        (Some(generation), _) => generation.short(),
        (None, Some(date)) => format!("bento 2022 log of {date}"),
        (None, None) => String::new(),
    };
    let mut text = format!(
        "{:NUMBER_WIDTH$}  {}  {}  {generation}",
        entry.number,
        time(entry.received),
        paint(
            &format!("{outcome:OUTCOME_WIDTH$}"),
            colour(entry),
            terminal
        ),
    );
    if !entry.phases.is_empty() {
        let phases = phases(&entry.phases);
        let _infallible = write!(text, "  {}: {phases}", seconds(entry.seconds));
    }
    if entry.reboot_required {
        text += ", needs a reboot";
    }
    if let Some(until) = entry.held {
        let _infallible = write!(text, ", held until {}", time(until));
    }
    if let Some(name) = &entry.specialisation {
        let _infallible = write!(text, ", specialisation {}", one_line(name, NAME));
    }
    text.push('\n');
    let system = &entry.system;
    if let (Some(before), Some(running)) = (&system.before, &system.running)
        && before != running
    {
        let _infallible = writeln!(text, "      {} → {}", short(before), short(running));
    }
    if let Some(error) = &entry.error {
        let error = paint(&both_ends(error, ERROR), Colour::Red, terminal);
        let _infallible = writeln!(text, "      {error}");
    }
    text
}

/// A report in full, with its log.
pub fn whole(entry: &ReportEntry, build_log: &str, terminal: Option<Terminal>) -> String {
    let colours = terminal.is_some_and(|terminal| terminal.colours);
    let mut text = String::new();
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _infallible = writeln!(text, "{name:16}{value}");
        }
    };
    let version = |version: &Option<String>| {
        let version = version.as_ref();
        version.map(|version| one_line(version, 100))
    };
    field("report", Some(entry.number.to_string()));
    field("received", Some(time(entry.received)));
    field("run", entry.run.map(|run| run.to_string()));
    let auto = if entry.auto { ", auto" } else { "" };
    let outcome = format!("{}{auto}", word(entry));
    field("outcome", Some(paint(&outcome, colour(entry), terminal)));
    field("generation", entry.generation.map(|id| id.to_string()));
    let by_machine = |at: Timestamp| format!("{}, by its own clock", time(at));
    field("started", entry.started.map(by_machine));
    field("finished", entry.finished.map(by_machine));
    let date = entry.legacy_date;
    field(
        "bento 2022 log",
        date.map(|date| format!("{date}, by its own clock")),
    );
    for (place, phase) in entry.phases.iter().enumerate() {
        let name = one_line(&phase.name, PHASE_NAME);
        let title = if place == 0 { "phases" } else { "" };
        field(title, Some(format!("{name:12}{}", seconds(phase.seconds))));
    }
    let all = (!entry.phases.is_empty()).then(|| format!("{:12}{}", "all", seconds(entry.seconds)));
    field("", all);
    let system = &entry.system;
    let path = |path: &Option<SystemPath>| path.as_ref().map(ToString::to_string);
    field("system before", path(&system.before));
    field("system built", path(&system.built));
    field("system running", path(&system.running));
    field("system booted", path(&system.booted));
    let name = entry.specialisation.as_ref();
    field("specialisation", name.map(|name| one_line(name, NAME)));
    if entry.run.is_some() {
        let answer = if entry.reboot_required { "yes" } else { "no" };
        field("needs a reboot", Some(answer.to_owned()));
    }
    field("held until", entry.held.map(time));
    // Enough to distinguish two machines.
    let machine = entry.machine.map(|machine| machine.to_string());
    field("machine", machine.map(|machine| machine[..12].to_owned()));
    field("client", version(&entry.client));
    field("nix", version(&entry.nix));
    if let Some(error) = &entry.error {
        text += &format!(
            "\n{}\n",
            paint(log(error, false).trim_end(), Colour::Red, terminal)
        );
    }
    let build_log = log(build_log, colours);
    if build_log.is_empty() {
        text += "\nThe log is empty.\n";
    } else {
        let end = if build_log.ends_with('\n') { "" } else { "\n" };
        text += &format!("\n{build_log}{end}");
    }
    text
}

/// The outcome, spelled like the states of status.
fn word(entry: &ReportEntry) -> String {
    entry.outcome.replace('_', "-")
}

fn colour(entry: &ReportEntry) -> Colour {
    match (entry.success, entry.reboot_required) {
        (false, _) => Colour::Red,
        (true, true) => Colour::Yellow,
        (true, false) => Colour::Green,
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn phases(phases: &[Phase]) -> String {
    let shown = phases.iter().take(PHASES).map(|phase| {
        let name = one_line(&phase.name, PHASE_NAME);
        format!("{name} {}", seconds(phase.seconds))
    });
    let mut shown: Vec<_> = shown.collect();
    if phases.len() > PHASES {
        shown.push(format!("… {} more", phases.len() - PHASES));
    }
    shown.join(", ")
}

/// A duration in suitable units.
fn seconds(seconds: f64) -> String {
    if seconds.abs() < 60.0 {
        return format!("{seconds:.1} s");
    }
    // The cast saturates, however large a machine's number.
    let whole = seconds as i64;
    match whole {
        ..0 | 360_000.. => "an impossible time".to_owned(),
        0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600.. => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// The name of a system with the beginning of its hash.
fn short(system: &SystemPath) -> String {
    let name = system.as_str().rsplit('/').next().unwrap_or_default();
    let short = match name.split_once('-') {
        Some((hash, rest)) if hash.len() == 32 => format!("{}-{rest}", &hash[..8]),
        _ => name.to_owned(),
    };
    one_line(&short, 100)
}
