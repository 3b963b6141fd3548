//! A login that is held halfway.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// A port that forwards to the server. It passes the identification line of one client, and holds everything else until it
/// gets a message.
pub fn before(server: SocketAddr) -> (u16, Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (open, opened) = channel();
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut to_server = TcpStream::connect(server).unwrap();
        let (mut from_server, mut to_client) =
            (to_server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            // Either end may go at any time.
            let _ = std::io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let mut from_client = BufReader::new(client);
        let mut introduction = Vec::new();
        from_client.read_until(b'\n', &mut introduction).unwrap();
        to_server.write_all(&introduction).unwrap();
        opened.recv().unwrap();
        let _ = std::io::copy(&mut from_client, &mut to_server);
    });
    (port, open)
}
