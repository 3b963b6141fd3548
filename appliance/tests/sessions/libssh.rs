//! libssh2, the library of bento's own client: logins step by step.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use ssh2::{Error, Session};

use crate::env::Machine;

/// Opens a connection and agrees on keys, before the login.
pub fn shake_hands(connection: TcpStream) -> Result<Session, Error> {
    let mut session = Session::new()?;
    session.set_tcp_stream(connection);
    session.handshake()?;
    Ok(session)
}

/// Logs in with this key.
pub fn authenticate(session: &Session, name: &str, key: &Path) -> Result<(), Error> {
    session.userauth_pubkey_file(name, None, key, None)
}

/// A login, from the beginning.
pub fn log_in(server: SocketAddr, machine: &Machine) -> Result<Session, Error> {
    let connection = TcpStream::connect(server).expect("the appliance listens");
    let session = shake_hands(connection)?;
    authenticate(&session, machine.account.name.as_str(), &machine.key)?;
    Ok(session)
}

/// A poll: one READLINK.
pub fn poll(session: &Session) -> Result<String, Error> {
    let target = session.sftp()?.readlink(Path::new("/generation"))?;
    Ok(target.to_str().expect("it is ASCII").to_owned())
}

/// A download that has begun, and waits.
pub struct Download {
    file: ssh2::File,
    got: Vec<u8>,
    _session: Session,
}

impl Download {
    /// Reads the first kilobyte of a file, and then nothing.
    pub fn begin(server: SocketAddr, machine: &Machine, path: &str) -> Result<Self, Error> {
        let session = log_in(server, machine)?;
        let mut file = session.sftp()?.open(Path::new(path))?;
        let mut got = vec![0; 1024];
        file.read_exact(&mut got).expect("it is longer");
        Ok(Download {
            file,
            got,
            _session: session,
        })
    }

    /// Reads the rest, and returns everything.
    pub fn finish(mut self) -> Vec<u8> {
        self.file.read_to_end(&mut self.got).expect("it goes on");
        self.got
    }
}
