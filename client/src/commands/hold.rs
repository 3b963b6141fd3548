use anyhow::Context;
use bento_protocol::parse_duration;
use clap::{Args, ValueEnum};
use jiff::Zoned;

use super::place::Place;
use crate::console;
use crate::exit::{Because, ExitReason, Failure};
use crate::state::State;
use crate::state::hold;

/// Pause updates of this machine; it still polls and reports.
#[derive(Debug, Args)]
pub struct Hold {
    /// The length of the pause, such as 90m, 4h or 2d; at most 90 days
    #[arg(long = "for", value_name = "TIME", group = "what")]
    length: Option<String>,
    /// The end of the pause: 18:00 or "2026-11-24 18:00" in this machine's time zone, or RFC 3339
    #[arg(long, value_name = "TIME", group = "what")]
    until: Option<String>,
    /// "off": resume updates
    #[arg(group = "what", hide_possible_values = true)]
    off: Option<Off>,
    #[command(flatten)]
    place: Place,
}

/// The one word that ends a hold.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Off {
    /// Resume updates
    Off,
}

impl Hold {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let state = self.place.state()?;
        let text = self
            .carry_out(&state, &Zoned::now())
            .because(ExitReason::Usage)?;
        console::print(&format!("{text}\n")).because(ExitReason::Usage)
    }

    fn carry_out(&self, state: &State, now: &Zoned) -> anyhow::Result<String> {
        if self.off.is_some() {
            hold::end(state)?;
            return Ok("Updates of this machine resume with its next run.".to_owned());
        }
        let until = match (&self.length, &self.until) {
            (Some(length), _) => {
                let length = parse_duration(length).with_context(|| {
                    format!("--for {length:?} isn't a length of time such as 90m, 4h or 2d")
                })?;
                Some(now.timestamp().checked_add(length)?)
            }
            (None, Some(text)) => Some(hold::time(text, now)?),
            (None, None) => None,
        };
        let until = match until {
            Some(until) => {
                hold::begin(state, until, now.timestamp())?;
                Some(until)
            }
            None => hold::read(state, now.timestamp())
                .context("can't read whether updates are paused")?,
        };
        Ok(until.map_or_else(
            || "Updates of this machine aren't paused.".to_owned(),
            |until| {
                let until = until.to_zoned(now.time_zone().clone());
                format!(
                    "This machine isn't updated until {}; it still polls and reports. \
                     `bento-client hold off` ends that.",
                    until.strftime("%Y-%m-%d %H:%M %Z")
                )
            },
        ))
    }
}
