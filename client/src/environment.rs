//! Paths and arguments of a run.

use std::path::PathBuf;

use crate::machine::Machine;
use crate::state::State;

/// Where a run finds its settings, its state and the machine.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The file of settings.
    pub config: PathBuf,
    /// The client's state folder.
    pub state: State,
    /// The machine.
    pub machine: Machine,
    /// The command line's arguments that lead here, for a client that is started by this one.
    pub arguments: Vec<String>,
}
