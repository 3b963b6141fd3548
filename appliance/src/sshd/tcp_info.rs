//! Whose turn it is on a connection.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};

/// The beginning of what Linux tells of a TCP connection (`struct tcp_info`), as far as every version has it: later ones
/// only add to its end.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Info {
    _state: [u8; 8],
    _segments: [u32; 9],
    /// How long ago data was last sent, in milliseconds.
    last_data_sent: u32,
    _last_ack_sent: u32,
    /// How long ago data was last received, in milliseconds.
    last_data_received: u32,
}

sockopt_impl!(
    /// Asks for [`Info`].
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    Info
);

/// How a conversation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// How long ago we spoke.
    pub(super) spoke: Duration,
    /// Whether nothing was heard since. If something was, the one who takes so long may be our own sshd.
    pub(super) owed: bool,
}

/// How the conversation on a connection goes; none if the kernel can't tell.
pub(super) fn of(connection: &TcpStream) -> Option<Turn> {
    let info = getsockopt(connection, TcpInfo).ok()?;
    Some(Turn {
        spoke: Duration::from_millis(info.last_data_sent.into()),
        owed: info.last_data_sent <= info.last_data_received,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn who_spoke_last_waits_for_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // Longer than the kernel's clock for this takes from one tick to the next.
        let tick = Duration::from_millis(30);
        thread::sleep(tick);
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        thread::sleep(tick);
        assert!(!of(&server).unwrap().owed, "the server has been asked");
        assert!(of(&client).unwrap().owed);
        assert!(of(&client).unwrap().spoke >= tick / 2);
        server.write_all(b"y").unwrap();
        thread::sleep(tick);
        assert!(of(&server).unwrap().owed, "it has answered");
        client.read_exact(&mut [0]).unwrap();
        assert!(!of(&client).unwrap().owed);
        assert!(of(&client).unwrap().spoke >= 2 * tick);
    }
}
