use std::fmt;

use super::{Message, command, webhook};
use crate::fleet::{Notify, Webhook};
use crate::sshd::Exits;

/// A way by which somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A program with its arguments; never empty.
    Command(Vec<String>),
    /// An address to post to.
    Webhook(Webhook),
}

/// The ways that the settings name.
pub fn ways(notify: &Notify) -> impl Iterator<Item = Way> {
    let command = notify.command.clone().map(Way::Command);
    let webhook = notify.webhook.clone().map(Way::Webhook);
    [command, webhook].into_iter().flatten()
}

impl Way {
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
            Way::Command(command) => command::run(command, message, limit, exits),
            Way::Webhook(webhook) => webhook::post(webhook, message, limit),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Its arguments may hold a secret.
            Way::Command(command) => {
                let program = command.first().map(String::as_str);
                write!(formatter, "command {}", program.unwrap_or_default())
            }
            Way::Webhook(webhook) => write!(formatter, "webhook {webhook}"),
        }
    }
}
