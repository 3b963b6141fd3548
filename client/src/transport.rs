use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::settings::Server;

/// A stream of bytes to a server, not yet encrypted.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    /// What makes the connection, if we don't: it ends with this.
    _proxy: Option<Proxy>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A proxy command that runs.
#[derive(Debug)]
struct Proxy(Child);

impl Transport {
    /// Opens a stream; each address that the server's name has may take this long.
    pub(crate) fn open(
        server: &Server,
        proxy_command: Option<&str>,
        limit: Duration,
    ) -> io::Result<Self> {
        match proxy_command {
            Some(command) => Self::proxy(server, command),
            None => Self::tcp(server, limit),
        }
    }

    fn tcp(server: &Server, limit: Duration) -> io::Result<Self> {
        let mut failed = io::Error::other("the name has no address");
        for address in (server.address.as_str(), server.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => {
                    // Without it every small packet of SSH waits for the answer to the one before: measured, 180 ms
                    // for a poll.
                    stream.set_nodelay(true)?;
                    return Ok(Transport {
                        socket: Socket::Tcp(stream),
                        _proxy: None,
                    });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn proxy(server: &Server, command: &str) -> io::Result<Self> {
        // libssh2 wants one descriptor for both directions, which two pipes aren't.
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new("/bin/sh")
            .arg("-c")
            .arg(expand(command, server))
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .process_group(0)
            .spawn()?;
        Ok(Transport {
            socket: Socket::Unix(ours),
            _proxy: Some(Proxy(child)),
        })
    }

    /// Ends the stream in both directions: whatever waits for it fails at once.
    pub(crate) fn shut_down(&self) {
        // A stream that the other side has ended is as good.
        let _ = match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its whole group, because the shell may have started more than one program. One that has ended already is
        // still there as a zombie, so its number can't be another's.
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// The command with the server's address and port in it.
fn expand(command: &str, server: &Server) -> String {
    let mut expanded = String::new();
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (character, characters.as_str().chars().next()) {
            ('%', Some('h')) => expanded += server.address.as_str(),
            ('%', Some('p')) => expanded += &server.port.to_string(),
            ('%', Some('%')) => expanded.push('%'),
            _ => {
                expanded.push(character);
                continue;
            }
        }
        characters.next();
    }
    expanded
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_proxy_command_knows_the_server() {
        let server = "bento.example.org:22".parse().unwrap();
        assert_eq!(
            expand("nc %h %p 100%% %x%", &server),
            "nc bento.example.org 22 100% %x%"
        );
    }

    #[test]
    fn a_proxy_command_is_the_connection_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let outlived = folder.path().join("outlived");
        let command = format!("cat; sleep 2; touch {}", outlived.display());
        let server = "localhost:1".parse().unwrap();
        let transport = Transport::open(&server, Some(&command), Duration::from_secs(1)).unwrap();
        let Socket::Unix(stream) = &transport.socket else {
            panic!("there is a proxy command");
        };
        (&*stream).write_all(b"there and back").unwrap();
        let mut back = [0; 14];
        (&*stream).read_exact(&mut back).unwrap();
        assert_eq!(&back, b"there and back");
        // It is waited for: were it not ended, it would have come to its end by itself.
        drop(transport);
        assert!(!outlived.exists());
    }
}
