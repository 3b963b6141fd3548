//! A session on a server, whose host key is checked before anything is sent to it.

mod error;

use std::cell::RefCell;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use bento_protocol::HostName;
use ssh2::{ErrorCode, MethodType, OpenFlags, OpenType, Session, Sftp};

pub use error::ConnectionError;

use crate::server::host_key::HostKey;
use crate::server::identity::Identity;
use crate::server::transport::Transport;
use crate::settings::{Server, Settings, Timeouts};

/// The algorithms offered to a server, best first: names that this libssh2 doesn't know are left out. AES comes before
/// ChaCha20, because it has instructions of its own on nearly every machine.
const METHODS: [(MethodType, &str); 4] = [
    (MethodType::HostKey, "ssh-ed25519"),
    (
        MethodType::Kex,
        "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org",
    ),
    (MethodType::CryptCs, CIPHERS),
    (MethodType::CryptSc, CIPHERS),
];
const CIPHERS: &str =
    "aes256-gcm@openssh.com,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr";

/// How much is read at a time. libssh2 asks four times as much ahead, and holds what comes: at a round-trip time of
/// 100 ms, 22 MB/s for 3 MiB of memory. With 32 KiB it is 1.5 MB/s, with 1 MiB 31 MB/s for 5 MiB of the 16 there are.
const READ_BUFFER: usize = 640 << 10;

/// Codes of SFTP, version 3.
const NO_SUCH_FILE: ErrorCode = ErrorCode::SFTP(2);
/// A server's answer to the exclusive creation of an existing file.
const FAILURE: ErrorCode = ErrorCode::SFTP(4);
/// A server's answer to an extension that it doesn't have.
const UNSUPPORTED: ErrorCode = ErrorCode::SFTP(8);
/// Codes of libssh2: the server doesn't accept the key, before or after a signature.
const AUTHENTICATION_FAILED: ErrorCode = ErrorCode::Session(-18);
const PUBLIC_KEY_UNVERIFIED: ErrorCode = ErrorCode::Session(-19);

/// A server that has shown its host key, and knows nothing of us yet.
pub struct Greeted {
    server: String,
    session: Session,
    stream: Stream,
    shown: HostKey,
}

/// A session on a server that has the pinned key.
pub struct Connection {
    server: String,
    /// Files that are done with and not closed: closing would wait for an answer.
    unclosed: RefCell<Vec<ssh2::File>>,
    sftp: Sftp,
    session: Session,
    stream: Stream,
}

/// The stream is libssh2's; this handle on it is to end it.
type Stream = std::sync::Arc<Transport>;

struct SharedStream(Stream);

impl std::os::fd::AsRawFd for SharedStream {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// Whether a file was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// Written, and acknowledged as being on the server's disk if the server supports that.
    Written,
    /// There seems to be one with that name.
    Exists,
}

impl Greeted {
    /// Dials a server and exchanges keys with it.
    pub fn meet(
        server: &Server,
        proxy_command: Option<&str>,
        timeouts: &Timeouts,
    ) -> Result<Self, ConnectionError> {
        let name = server.to_string();
        let stream = Transport::open(server, proxy_command, timeouts.connect.duration()).map_err(
            |cause| ConnectionError::Unreachable {
                server: name.clone(),
                cause,
            },
        )?;
        let stream = Stream::new(stream);
        let handshake = || {
            let mut session = Session::new()?;
            for (method, names) in METHODS {
                session.method_pref(method, names)?;
            }
            session.set_timeout(milliseconds(timeouts.connect.duration()));
            session.set_tcp_stream(SharedStream(Stream::clone(&stream)));
            session.handshake()?;
            let (blob, _) = session.host_key().ok_or_else(ssh2::Error::unknown)?;
            let shown = HostKey::from_wire(blob).map_err(|_| ssh2::Error::unknown())?;
            Ok((session, shown))
        };
        let (session, shown) = handshake().map_err(|cause| match stream.proxy_fate() {
            None => ConnectionError::Handshake {
                server: name.clone(),
                cause,
            },
            Some(fate) => ConnectionError::Proxy {
                server: name.clone(),
                cause,
                fate,
            },
        })?;
        Ok(Greeted {
            server: name,
            session,
            stream,
            shown,
        })
    }

    /// The key that the server has shown, and proven to have.
    pub fn host_key(&self) -> &HostKey {
        &self.shown
    }

    /// Refuses a server that isn't one of those that were pinned.
    pub fn verify(&self, pinned: &[HostKey]) -> Result<(), ConnectionError> {
        if pinned.contains(&self.shown) {
            return Ok(());
        }
        let fingerprints: Vec<_> = pinned.iter().map(HostKey::fingerprint).collect();
        Err(ConnectionError::HostKey {
            server: self.server.clone(),
            shown: self.shown.fingerprint(),
            pinned: fingerprints.join(" or "),
        })
    }

    /// Logs in, once the host key is one of those pinned, and starts SFTP.
    pub fn log_in(
        self,
        pinned: &[HostKey],
        name: &HostName,
        identity: &Identity,
        timeouts: &Timeouts,
    ) -> Result<Connection, ConnectionError> {
        self.verify(pinned)?;
        let Greeted {
            server,
            session,
            stream,
            ..
        } = self;
        session
            .userauth_pubkey_memory(name.as_str(), None, &identity.openssh, None)
            .map_err(|cause| match cause.code() {
                AUTHENTICATION_FAILED | PUBLIC_KEY_UNVERIFIED => ConnectionError::Refused {
                    server: server.clone(),
                    name: name.clone(),
                    fingerprint: identity.fingerprint(),
                    key: identity.public_key().unwrap_or_default(),
                },
                _ => ConnectionError::Failed {
                    server: server.clone(),
                    doing: "the login".into(),
                    cause: cause.into(),
                },
            })?;
        let sftp = session.sftp().map_err(|cause| ConnectionError::NoFiles {
            server: server.clone(),
            cause,
        })?;
        session.set_timeout(milliseconds(timeouts.transfer.duration()));
        Ok(Connection {
            server,
            unclosed: RefCell::default(),
            sftp,
            session,
            stream,
        })
    }
}

impl Connection {
    /// Dials a server of the settings, and logs in.
    pub fn open(
        server: &Server,
        settings: &Settings,
        identity: &Identity,
    ) -> Result<Self, ConnectionError> {
        Greeted::meet(
            server,
            settings.proxy_command.as_deref(),
            &settings.timeouts,
        )?
        .log_in(
            &server.host_keys,
            &settings.name,
            identity,
            &settings.timeouts,
        )
    }

    /// The server's address and port.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The text of a symlink; none if there is no such file.
    pub fn read_link(&self, path: &str) -> Result<Option<String>, ConnectionError> {
        match self.sftp.readlink(Path::new(path)) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(error) if error.code() == NO_SUCH_FILE => Ok(None),
            Err(error) => Err(self.failed(&format!("reading {path}"), error.into())),
        }
    }

    /// Opens a file for reading from this offset on, in bytes, which may lie behind its end; none if there is no such
    /// file.
    pub fn open_file(
        &self,
        path: &str,
        offset: u64,
    ) -> Result<Option<RemoteFile<'_>>, ConnectionError> {
        match self.sftp.open(path) {
            Ok(mut file) => {
                file.seek(io::SeekFrom::Start(offset))
                    .map_err(|cause| self.failed(&format!("reading {path}"), cause))?;
                Ok(Some(RemoteFile {
                    file: io::BufReader::with_capacity(READ_BUFFER, file),
                    connection: self,
                }))
            }
            Err(error) if error.code() == NO_SUCH_FILE => Ok(None),
            Err(error) => Err(self.failed(&format!("opening {path}"), error.into())),
        }
    }

    /// Creates a file that isn't there yet, and waits until the server has all of it, also after a power cut there.
    pub fn create(&self, path: &str, content: &[u8]) -> Result<Created, ConnectionError> {
        let flags = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::WRITE;
        let mut file = match self.sftp.open_mode(path, flags, 0o600, OpenType::File) {
            Ok(file) => file,
            Err(error) if error.code() == FAILURE => return Ok(Created::Exists),
            Err(error) => return Err(self.failed(&format!("creating {path}"), error.into())),
        };
        let mut write = || -> io::Result<()> {
            file.write_all(content)?;
            match file.fsync() {
                // Other servers than ours may not have it.
                Err(error) if error.code() == UNSUPPORTED => Ok(file.close()?),
                synced => Ok(synced?),
            }
        };
        write().map_err(|error| self.failed(&format!("writing {path}"), error))?;
        // It is whole: to close it would only be another answer to wait for.
        self.unclosed.borrow_mut().push(file);
        Ok(Created::Written)
    }

    pub(crate) fn failed(&self, doing: &str, cause: io::Error) -> ConnectionError {
        let cause = match self.stream.proxy_words() {
            Some(said) => {
                let said = format!("{cause} (the proxy command said: {said})");
                io::Error::new(cause.kind(), said)
            }
            None => cause,
        };
        ConnectionError::Failed {
            server: self.server.clone(),
            doing: doing.into(),
            cause,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The server should know that this was meant. It isn't asked for anything any more: with the stream shut,
        // libssh2 gives up closing files and channels at once, instead of waiting for three answers.
        let _ = self.session.disconnect(None, "done", None);
        self.stream.shut_down();
    }
}

/// A file on the server, read to its end.
pub struct RemoteFile<'a> {
    file: io::BufReader<ssh2::File>,
    connection: &'a Connection,
}

impl RemoteFile<'_> {
    /// Leaves the file open, to save the wait for an answer: the end of the session closes it.
    pub fn leave_open(self) {
        self.connection
            .unclosed
            .borrow_mut()
            .push(self.file.into_inner());
    }
}

impl Read for RemoteFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

/// A time limit as libssh2 takes it.
fn milliseconds(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis()).unwrap_or(u32::MAX)
}
