//! What a machine's client and `bento build` do exactly alike, so that both come to the same system: how files are laid
//! before Nix, what it is told, and how what it says is understood.

// They panic where nobody reads any more what is printed.
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

pub use command::{Order, add_options, attribute, flake_command, reference, update_lock};
pub use configuration::{Kind, LOCK_FILE, has_lock, is_flake};
pub use run::{failure, run, system};
pub use tail::Tail;
pub use variable::variable;
pub use version::{Version, version};
