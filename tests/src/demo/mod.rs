//! `make demo`: the main job on this machine, step by step, with what a person would type and see.
//!
//! Every step is checked, and the demonstration fails where
//! it didn't.

mod administrator;
mod machine;
mod place;
mod play;
mod screen;

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::{Podman, guest};
use administrator::Administrator;
use machine::DemoMachine;
use place::{Place, shown};
use screen::Screen;

/// How many lines of a log help to see why a step failed.
const LOG_LINES: usize = 30;

/// The demonstration: a screen and two actors.
struct Demo {
    screen: Screen,
    administrator: Administrator,
    machine: DemoMachine,
}

/// Shows the main job, and leaves the appliance and the machine running.
///
/// # Errors
/// If a step doesn't do what it says: which, what should have been seen, and what was. Nothing is
/// left running then.
pub fn up() -> Result<()> {
    let started = Instant::now();
    let mut demo = Demo::set_up()?;
    if let Err(error) = demo.play() {
        return Err(demo.explain(&error));
    }
    demo.leave(started);
    Ok(())
}

/// Removes what [`up`] left, and says what that was.
///
/// # Errors
/// If something can't be removed.
pub fn down() -> Result<()> {
    let podman = Podman::new()?;
    let removed = Place::of(&podman).clear(&podman)?;
    if removed.is_empty() {
        println!("There is nothing of the demonstration.");
    } else {
        println!("Removed: {}.", removed.join(", "));
    }
    println!(
        "What it may have installed stays: Debian's packages, and what makes the next demonstration quick: the image\n\
         in podman's store, {}.",
        kept(&podman)?
    );
    Ok(())
}

/// The command that runs a command on the machine that [`up`] left running; a shell if it is empty.
///
/// # Errors
/// If there is no such machine.
pub fn machine(command: &[String]) -> Result<Command> {
    DemoMachine::command(Place::of(&Podman::new()?).machine, command)
}

fn kept(podman: &Podman) -> Result<String> {
    let base = guest::cache()?;
    Ok(match podman.home() {
        Some(home) => format!("its user at {}, and {}", home.display(), base.display()),
        None => format!("and {}", base.display()),
    })
}

impl Demo {
    fn set_up() -> Result<Self> {
        let mut screen = Screen::new();
        let podman = Podman::new()?;
        let place = Place::of(&podman);
        let removed = screen.wait("clearing away an earlier demonstration", || {
            place.clear(&podman)
        })?;
        if !removed.is_empty() {
            screen.say("An earlier demonstration was cleared away; this one begins anew.");
        }
        let machine = screen.wait("booting a machine", || DemoMachine::boot(place.machine))?;
        let administrator = Administrator::new(podman, place)?;
        Ok(Self {
            screen,
            administrator,
            machine,
        })
    }

    fn explain(self, error: &anyhow::Error) -> anyhow::Error {
        let (number, name) = self.screen.step();
        let mut text = format!("\n✗ Step {number}, {name:?}, failed.\n\n{error:#}\n");
        for (what, log) in [
            ("the appliance's log", self.administrator.log()),
            ("the machine's journal", self.machine.journal()),
        ] {
            let log = log.unwrap_or_else(|error| format!("{error:#}"));
            text += &format!("\n--- the end of {what}\n{}\n", tail(&log));
        }
        text += "\nNothing of the demonstration is left running.";
        anyhow!(text)
    }

    fn leave(self, started: Instant) {
        let Self {
            mut screen,
            administrator,
            machine,
        } = self;
        let port = administrator.port();
        machine.keep();
        let place = administrator.keep();
        let (podman, machine) = (
            shown(&place.podman_wrapper()),
            shown(&place.machine_wrapper()),
        );
        let (container, name) = (place.container, place.machine);
        screen.say(&format!(
            "Every step did what it says, in {} s. The appliance and {name} go on running. To try them:",
            started.elapsed().as_secs()
        ));
        screen.say(&format!(
            "  # what the administrator sees\n  \
             {podman} exec {container} bento status\n  \
             {podman} logs {container}\n  \
             # all that {name} may see of the appliance\n  \
             {machine} sftp -P {port} -i /var/lib/bento/id_ed25519 {name}@127.0.0.1\n  \
             # a shell on {name}, as root\n  \
             {machine}"
        ));
        screen.say(&format!(
            "To change something: edit {}, wait 5 s, and\n\n  \
             {machine} bento-client update",
            shown(&place.fleet.join("hosts/kikimora/configuration.nix"))
        ));
        screen.say("To stop and remove it all; `make demo` would begin anew:\n\n  make demo-down");
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
