//! Pending connections: those without an sshd, in the order in which they came.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Accepted connections that wait for a slot. Each costs one file descriptor.
#[derive(Debug)]
pub(super) struct PendingConnections<C = TcpStream> {
    /// The appliance's own: they have slots of their own, and are served first.
    own: VecDeque<C>,
    others: VecDeque<C>,
}

impl<C> PendingConnections<C> {
    pub(super) fn new() -> Self {
        PendingConnections {
            own: VecDeque::new(),
            others: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.own.len() + self.others.len()
    }

    /// The number of connections that aren't the appliance's own.
    pub(super) fn others(&self) -> usize {
        self.others.len()
    }

    pub(super) fn push(&mut self, connection: C, own: bool) {
        self.queue(own).push_back(connection);
    }

    /// Puts a connection back at the front: it is served next.
    pub(super) fn push_front(&mut self, connection: C, own: bool) {
        self.queue(own).push_front(connection);
    }

    /// Takes the connection that came first.
    pub(super) fn pop(&mut self, own: bool) -> Option<C> {
        self.queue(own).pop_front()
    }

    fn queue(&mut self, own: bool) -> &mut VecDeque<C> {
        if own { &mut self.own } else { &mut self.others }
    }
}

/// Whether the peer has closed a connection without having sent anything: an sshd for it would be wasted.
pub(super) fn is_abandoned(connection: impl AsFd) -> bool {
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match recv(connection, &mut [0], peek) {
        Ok((_, length)) => length == 0,
        Err(error) => error != Errno::AGAIN,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn connections_are_served_in_the_order_in_which_they_came() {
        let mut pending = PendingConnections::new();
        for (name, own) in [("a", false), ("own", true), ("b", false)] {
            pending.push(name, own);
        }
        assert_eq!((pending.len(), pending.others()), (3, 2));
        assert_eq!(pending.pop(false), Some("a"));
        pending.push_front("a", false);
        assert_eq!(
            [false; 3].map(|own| pending.pop(own)),
            [Some("a"), Some("b"), None]
        );
        assert_eq!([true; 2].map(|own| pending.pop(own)), [Some("own"), None]);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn only_a_connection_that_was_closed_without_data_is_abandoned() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let (mut client, server) = connect();
        assert!(!is_abandoned(&server));
        client.write_all(b"SSH-2.0-x\r\n").unwrap();
        drop(client);
        assert!(!is_abandoned(&server));
        let (client, server) = connect();
        drop(client);
        // On the loopback the end has arrived before the call returns.
        assert!(is_abandoned(&server));
    }
}
