//! What is tried on a real NixOS.

mod appliance;
mod boots;
mod faults;
mod first;
mod health;
mod switches;

use std::error::Error;
use std::fmt;

use anyhow::Result;

use crate::env::Env;

/// A scenario's name, and what it does.
type Scenario = (&'static str, fn(&Env) -> Result<()>);

/// What a scenario needs and this NixOS doesn't have.
#[derive(Debug)]
pub(crate) struct Absent(&'static str);

impl fmt::Display for Absent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "this NixOS has no {}", self.0)
    }
}

impl Error for Absent {}

/// All scenarios, in the order in which they are run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "bootstrap to the first update, by a flake",
        first::bootstrap,
    ),
    (
        "configuration.nix and channels, without a flake",
        first::classic,
    ),
    ("nothing new", first::nothing_new),
    ("a broken configuration", first::broken),
    (
        "the client's own unit, timer and package",
        switches::own_units,
    ),
    ("the network cut by the new configuration", health::network),
    ("a failing health check", health::failing),
    ("a late health check", health::late),
    ("a hanging health check", health::hanging),
    ("a failing unit", health::unit),
    (
        "a failing unit that systemd starts again",
        health::restarted_unit,
    ),
    ("the client killed in each phase", faults::kill),
    ("the power cut in each phase", faults::power_cut),
    ("operation = boot, proven and not proven", boots::operation),
    ("another kernel, with a reboot at once", boots::kernel),
    (
        "secrets: restartUnits and hashedPasswordFile",
        switches::secrets,
    ),
    ("specialisations", switches::specialisations),
    ("another systemd, executed anew", switches::systemd),
    ("the switch in Rust", switches::rust),
    ("switch inhibitors", switches::inhibitors),
    (
        "the appliance's module, for its own machine",
        appliance::itself,
    ),
    ("leaving the fleet", switches::leaving),
];
