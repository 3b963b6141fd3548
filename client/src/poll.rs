//! Asks the servers which generation is published for this machine.

use anyhow::{anyhow, bail};
use bento_protocol::{GenerationId, chroot};

use crate::connection::Connection;
use crate::identity::Identity;
use crate::settings::{Server, Settings};

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
    target.parse().map_err(|_| {
        anyhow!(
            "{} publishes {:?}, which isn't a generation",
            connection.server(),
            target.chars().take(100).collect::<String>()
        )
    })
}

fn first_usable<T>(
    settings: &Settings,
    mut attempt: impl FnMut(&Server) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut errors = Vec::new();
    for server in &settings.servers {
        match attempt(server) {
            Ok(product) => return Ok(product),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    bail!("{}", errors.join("; "))
}
