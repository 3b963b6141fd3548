//! Asks the servers which generation is published for this machine.

use anyhow::bail;
use bento_protocol::{GenerationId, chroot};

use crate::exit::ExitReason;
use crate::server::connection::Connection;
use crate::server::identity::Identity;
use crate::settings::{Server, Settings};

/// A server's answer that isn't a generation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(String);

/// The exit reason when no server could be polled.
pub(crate) fn reason_of(error: &anyhow::Error) -> ExitReason {
    match error.is::<Unreadable>() {
        true => ExitReason::Unverified,
        false => ExitReason::Server,
    }
}

/// The generation that the first usable server publishes, and the session on it.
pub(crate) fn poll(
    settings: &Settings,
    identity: &Identity,
) -> anyhow::Result<(Connection, GenerationId)> {
    first_usable(settings, |server| {
        let connection = Connection::open(server, settings, identity)?;
        let generation = published(&connection)?;
        Ok((connection, generation))
    })
}

/// A session on the first usable server.
pub(crate) fn connect(settings: &Settings, identity: &Identity) -> anyhow::Result<Connection> {
    first_usable(settings, |server| {
        Ok(Connection::open(server, settings, identity)?)
    })
}

/// The generation that a server publishes for this machine: one round trip.
pub(crate) fn published(connection: &Connection) -> anyhow::Result<GenerationId> {
    let Some(target) = connection.read_link(chroot::GENERATION)? else {
        bail!(
            "{}: nothing is published yet for this machine; `bento status` there says why",
            connection.server()
        );
    };
    let unreadable = || {
        Unreadable(format!(
            "{} publishes {:?}, which isn't a generation",
            connection.server(),
            target.chars().take(100).collect::<String>()
        ))
    };
    Ok(target.parse().map_err(|_| unreadable())?)
}

fn first_usable<T>(
    settings: &Settings,
    mut attempt: impl FnMut(&Server) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut errors = Vec::new();
    let mut is_unreadable = false;
    for server in &settings.servers {
        match attempt(server) {
            Ok(product) => return Ok(product),
            Err(error) => {
                is_unreadable |= error.is::<Unreadable>();
                errors.push(format!("{error:#}"));
            }
        }
    }
    let errors = errors.join("; ");
    match is_unreadable {
        true => Err(Unreadable(errors).into()),
        false => bail!("{errors}"),
    }
}
