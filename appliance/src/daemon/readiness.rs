//! Readiness notifications to systemd, through podman.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A state of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Machines are served.
    Ready,
    /// No new sessions are accepted.
    Stopping,
}

impl Readiness {
    fn message(self) -> &'static [u8] {
        match self {
            Readiness::Ready => b"READY=1\n",
            Readiness::Stopping => b"STOPPING=1\n",
        }
    }
}

/// Sends it to `$NOTIFY_SOCKET`, if that is set.
///
/// # Errors
/// When the socket is set but doesn't take the message.
pub fn notify(readiness: Readiness) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) {
        Some(name) => send(&name, readiness),
        None => Ok(()),
    }
}

/// The name is a path, or, after an `@`, an abstract name.
fn send(name: &OsStr, readiness: Readiness) -> io::Result<()> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(readiness.message(), &address)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(by: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = by.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_path_gets_the_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), Readiness::Ready).unwrap();
        assert_eq!(received(&socket), "READY=1\n");
        drop(socket);
        assert!(send(path.as_os_str(), Readiness::Ready).is_err());
    }

    #[test]
    fn an_abstract_name_gets_the_message() {
        let name = format!("bento-test-{}", std::process::id());
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), Readiness::Stopping).unwrap();
        assert_eq!(received(&socket), "STOPPING=1\n");
    }
}
