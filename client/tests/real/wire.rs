//! The wire between a client and its server, measured, and cut where a test wants it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A port that passes connections on to a server.
pub(crate) struct Wire {
    pub(crate) port: u16,
    served: Arc<AtomicU64>,
}

impl Wire {
    /// Of every connection nothing more is passed on once the server has sent so many bytes, as when a cable is pulled.
    pub(crate) fn to(server: u16, cut_after: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        // It ends with the process of the tests.
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(from, to, &AtomicU64::new(0), u64::MAX));
                let count = Arc::clone(&count);
                thread::spawn(move || pass(server, client, &count, cut_after));
            }
        });
        Wire { port, served }
    }

    /// How many bytes the server has sent over all connections.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

/// Passes bytes on until the end of either side, or until there were as many as may pass.
fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64, most: u64) {
    let mut piece = [0; 16 << 10];
    let mut passed = 0;
    while passed < most {
        let room = piece
            .len()
            .min(usize::try_from(most - passed).unwrap_or(usize::MAX));
        let length = match from.read(&mut piece[..room]) {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        passed += length as u64;
        count.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    if passed >= most {
        // The other direction ends both when the client gives up.
        return;
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
