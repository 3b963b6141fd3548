//! The manual of bento's commands. What a command takes, and what it says of that, is defined once, where the command
//! is: [`pages`], [`completions`] and the [`mod@reference`] are made from those definitions.

pub mod completions;
pub mod pages;
pub mod reference;

use clap::{Command, CommandFactory};

/// The programs of bento: what each one's command line takes.
pub fn programs() -> [Command; 3] {
    [
        bento_appliance::cli::CommandLine::command(),
        bento_client::commands::CommandLine::command(),
        bento_image::commands::CommandLine::command(),
    ]
}
