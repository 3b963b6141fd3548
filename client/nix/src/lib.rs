//! Use of Nix by the client and by `bento build`, so that both build the same system: the metadata of source files, the
//! command lines, and the parsing of output.

// These macros panic if the output is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod activation;
mod command;
mod configuration;
pub mod error;
pub mod normal;
pub mod process;
mod run;
mod tail;
mod variable;
mod version;

pub use command::{SystemBuild, add_options, attribute, flake_command, reference, update_lock};
pub use configuration::{Kind, LOCK_FILE, has_lock, is_flake};
pub use run::{failure, run, system};
pub use tail::Tail;
pub use variable::variable;
pub use version::{Version, version};
