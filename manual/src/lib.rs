//! The manual of bento's commands. A command's arguments and help are defined once, in its own file: [`pages`],
//! [`completions`] and the [`mod@reference`] are generated from those definitions.

pub mod completions;
pub mod pages;
pub mod reference;

use clap::{Command, CommandFactory};

/// The command lines of bento's programs.
pub fn programs() -> [Command; 3] {
    [
        bento_appliance::cli::CommandLine::command(),
        bento_client::commands::CommandLine::command(),
        bento_image::commands::CommandLine::command(),
    ]
}
