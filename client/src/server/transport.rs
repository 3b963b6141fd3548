use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::proxy_command::Proxy;
pub use super::proxy_command::ProxyFate;

use crate::settings::Server;

/// A stream of bytes to a server, not yet encrypted.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    /// The proxy command, if one makes the connection: it ends with this.
    proxy: Option<Proxy>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

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
        for address in addresses(server, limit)? {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => {
                    // Without it every small packet of SSH waits for the answer to the one before: measured, 180 ms
                    // for a poll.
                    stream.set_nodelay(true)?;
                    return Ok(Transport {
                        socket: Socket::Tcp(stream),
                        proxy: None,
                    });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn proxy(server: &Server, command: &str) -> io::Result<Self> {
        let (stream, proxy) = Proxy::start(command, server)?;
        Ok(Transport {
            socket: Socket::Unix(stream),
            proxy: Some(proxy),
        })
    }

    /// The end of the proxy command, if there is one and it made no connection.
    pub(crate) fn proxy_fate(&self) -> Option<ProxyFate> {
        self.proxy.as_ref().map(Proxy::fate)
    }

    /// The proxy command's messages so far.
    pub(crate) fn proxy_words(&self) -> Option<String> {
        let said = self.proxy.as_ref().map(Proxy::words);
        said.filter(|said| !said.is_empty())
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

/// The addresses of a server's name. The resolver has limits of its own, which add up to minutes where DNS doesn't
/// answer, and can't be ended: it is left to itself.
fn addresses(server: &Server, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::channel();
    let name = (server.address.to_string(), server.port);
    thread::Builder::new().spawn(move || {
        let found = name.to_socket_addrs().map(Iterator::collect);
        // Nobody waits for it any more.
        let _ = sender.send(found);
    })?;
    receiver.recv_timeout(limit).unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "DNS gave no address for {} within {limit:?}",
                server.address
            ),
        ))
    })
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        }
    }
}
