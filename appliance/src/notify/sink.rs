use std::fmt;

use super::{Message, command, webhook};
use crate::fleet::{Notify, Webhook};
use crate::sshd::Exits;

/// A way by which somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// A program with its arguments; never empty.
    Command(Vec<String>),
    /// An address to post to.
    Webhook(Webhook),
}

/// The ways that the settings name.
pub fn ways(notify: &Notify) -> impl Iterator<Item = Sink> {
    let command = notify.command.clone().map(Sink::Command);
    let webhook = notify.webhook.clone().map(Sink::Webhook);
    [command, webhook].into_iter().flatten()
}

impl Sink {
    /// Tells it, and gives what came back, in one line.
    ///
    /// # Errors
    /// When it isn't known to have arrived; the error says what to do.
    pub fn tell(
        &self,
        message: &Message,
        notify: &Notify,
        exits: &Exits,
    ) -> anyhow::Result<String> {
        let limit = notify.timeout.as_duration();
        match self {
            Sink::Command(command) => command::run(command, message, limit, exits),
            Sink::Webhook(webhook) => webhook::post(webhook, message, limit),
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Its arguments may hold a secret.
            Sink::Command(command) => {
                let program = command.first().map(String::as_str);
                write!(formatter, "command {}", program.unwrap_or_default())
            }
            Sink::Webhook(webhook) => write!(formatter, "webhook {webhook}"),
        }
    }
}
