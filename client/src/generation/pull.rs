//! Fetches a generation as one archive, into folders aside; what comes is checked while it is written.

use std::io::{self, Read};

use bento_protocol::stream::Head;
use bento_protocol::{GenerationId, HostName, chroot};

use crate::generation::archive;
use crate::generation::archive::{ArchiveError, Wanted};
use crate::generation::partial::Partial;
use crate::generation::received;
use crate::generation::received::Received;
use crate::generation::staged::Staged;
use crate::server::connection::{Connection, ConnectionError, RemoteFile};
use crate::state::State;

/// The archive that is fetched.
#[derive(Debug, Clone)]
pub enum Source {
    /// All files.
    Bundle,
    /// The difference from a generation that is staged here.
    Delta(Box<Staged>),
}

/// An unpacked archive: its files are checked; those that a delta leaves out aren't there yet.
#[derive(Debug)]
pub struct Pulled {
    pub(crate) partial: Partial,
    pub(crate) head: Head,
    pub(crate) source: Source,
}

/// Why a generation didn't come.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The server has no such archive.
    #[error("{0} isn't there")]
    Missing(String),
    /// The connection didn't hold.
    #[error("{0:#}")]
    Lost(anyhow::Error),
    /// The archive isn't the polled generation.
    #[error("{0:#}")]
    Unverified(anyhow::Error),
    /// This machine couldn't keep it.
    #[error("{0:#}")]
    Local(anyhow::Error),
}

impl Pulled {
    /// Unpacks an archive, from any source, into folders aside. An archive of another generation leaves nothing
    /// behind.
    ///
    /// # Errors
    /// When it isn't that generation, or the disk didn't take it.
    pub fn unpack(
        archive: impl Read,
        state: &State,
        host: &HostName,
        generation: GenerationId,
        source: Source,
        progress: archive::Progress<'_>,
    ) -> Result<Self, ArchiveError> {
        let wanted = Wanted {
            host,
            generation,
            base: match &source {
                Source::Bundle => None,
                Source::Delta(base) => Some(base),
            },
        };
        let partial = Partial::new(state, &generation).map_err(ArchiveError::Disk)?;
        let head = archive::unpack(archive, &wanted, &partial, progress)?;
        Ok(Pulled {
            partial,
            head,
            source,
        })
    }
}

/// Fetches a generation. A transfer that was cut goes on where it ended; if what came then isn't the generation, it is
/// fetched from its beginning at once.
pub(crate) fn pull(
    connection: &Connection,
    state: &State,
    host: &HostName,
    generation: GenerationId,
    source: Source,
    progress: archive::Progress<'_>,
) -> Result<Pulled, PullError> {
    let mut fetch = Fetch {
        connection,
        state,
        host,
        generation,
        received: Received::of(state, &generation, &source),
        progress,
    };
    let went_on = fetch.received.length() > 0;
    let mut pulled = fetch.run(source.clone());
    if went_on && matches!(pulled, Err(PullError::Unverified(_))) {
        fetch.received.forget();
        pulled = fetch.run(source);
    }
    match &pulled {
        // It is needed no more, nor is what came of another archive of this generation; what can't be removed goes at
        // the next pull.
        Ok(_) => _ = received::remove_all_but(state, None),
        Err(PullError::Lost(_) | PullError::Missing(_)) => {}
        Err(PullError::Unverified(_) | PullError::Local(_)) => fetch.received.forget(),
    }
    pulled
}

/// A fetch of one archive.
struct Fetch<'a, 'p> {
    connection: &'a Connection,
    state: &'a State,
    host: &'a HostName,
    generation: GenerationId,
    received: Received,
    progress: archive::Progress<'p>,
}

impl Fetch<'_, '_> {
    /// Fetches what isn't here yet of the archive, and unpacks all of it.
    fn run(&mut self, source: Source) -> Result<Pulled, PullError> {
        let connection = self.connection;
        let path = match &source {
            Source::Bundle => chroot::BUNDLE.to_owned(),
            Source::Delta(base) => chroot::delta(&base.id()),
        };
        let opened = connection
            .open_file(&path, self.received.length())
            .map_err(|error| PullError::Lost(error.into()))?;
        let Some(mut file) = opened else {
            return Err(PullError::Missing(format!(
                "{path} on {}",
                connection.server()
            )));
        };
        let mut lost = None;
        let wire = Wire {
            file: &mut file,
            lost: &mut lost,
        };
        let archive = self
            .received
            .and_then(wire)
            .map_err(|error| PullError::Local(error.into()))?;
        let pulled = Pulled::unpack(
            archive,
            self.state,
            self.host,
            self.generation,
            source,
            self.progress,
        );
        match (pulled, lost) {
            (Ok(pulled), _) => {
                file.leave_open();
                Ok(pulled)
            }
            (Err(_), Some(cause)) => {
                let error: ConnectionError = connection.failed(&format!("reading {path}"), cause);
                Err(PullError::Lost(error.into()))
            }
            (Err(ArchiveError::Disk(error)), None) => Err(PullError::Local(error)),
            (Err(ArchiveError::Invalid(error)), None) => Err(PullError::Unverified(error.context(
                format!("{path} on {} isn't to be trusted", connection.server()),
            ))),
        }
    }
}

/// Remembers whether the connection failed: to the reader of the archive, that looks like damage.
struct Wire<'a, 'c> {
    file: &'a mut RemoteFile<'c>,
    lost: &'a mut Option<io::Error>,
}

impl Read for Wire<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|error| {
            let kind = error.kind();
            *self.lost = Some(error);
            kind.into()
        })
    }
}
