//! `bento status`, ready to be run.

use std::path::Path;
use std::process::Command;

use crate::place::Place;

pub const BENTO: &str = env!("CARGO_BIN_EXE_bento");

/// `bento status` with arguments, in an environment that says nothing about fleets and colours, with symbols.
pub fn status<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(BENTO);
    command.arg("status").args(arguments);
    command
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("BENTO_DIR")
        .env_remove("NO_COLOR");
    // Nobody stands in a fleet there.
    command.current_dir("/");
    command
}

/// The same on the state of a place.
pub fn here<'a>(place: &Place, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = status(arguments);
    command.arg("--state").arg(place.state.root());
    command.arg("--runtime").arg(place.runtime.root());
    command
}

/// The same on a fleet folder whose `fleet.toml` names an administrator's command.
pub fn there<'a>(fleet: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = status(arguments);
    command.arg("--fleet").arg(fleet);
    command
}

/// What a command printed on its two outputs, and its exit code.
pub fn run(mut command: Command) -> (String, String, i32) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (text(output.stdout), text(output.stderr), code)
}
