use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// The loopback address from which the appliance connects to itself. No peer outside of the container can have it, so the
/// listener recognises its own health check by it.
pub const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 66, 69, 78);

const IDENTIFICATION: &[u8] = b"SSH-2.0-bento_health\r\n";
/// The longest identification line and the longest packet, in bytes (RFC 4253, sections 4.2 and 6.1).
const LINE_BYTES: usize = 255;
const PACKET_BYTES: usize = 35_000;
const SSH_MSG_KEXINIT: u8 = 20;

/// Begins an SSH connection, far enough to prove that a real sshd with its host key answers. Returns its identification
/// line.
///
/// # Errors
/// When nothing listens, no answer comes within the limit, or it isn't the appliance's.
pub fn handshake(address: SocketAddr, limit: Duration) -> Result<String> {
    let mut timed = TimedStream {
        deadline: Instant::now() + limit,
        stream: None,
    };
    timed
        .connect(address)
        .with_context(|| format!("nothing answers at {address}"))?;
    timed
        .exchange()
        .with_context(|| format!("no sshd answers at {address}"))
}

/// The same on an open connection.
///
/// # Errors
/// When no answer comes within the limit, or it isn't the appliance's.
pub(super) fn handshake_on(connection: TcpStream, limit: Duration) -> Result<String> {
    let mut timed = TimedStream {
        deadline: Instant::now() + limit,
        stream: Some(connection),
    };
    timed.exchange()
}

/// A connection with one deadline for all its steps.
struct TimedStream {
    deadline: Instant,
    stream: Option<TcpStream>,
}

impl TimedStream {
    fn connect(&mut self, address: SocketAddr) -> Result<()> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        self.stream = Some(TcpStream::from(socket));
        // The timeout for writing holds for connecting, too.
        let stream = self.stream()?;
        if address.is_ipv4() {
            bind(&*stream, &SocketAddrV4::new(OWN_ADDRESS, 0))?;
        }
        Ok(connect(&*stream, &address)?)
    }

    /// Exchanges identification lines, and reads the algorithms that sshd offers.
    fn exchange(&mut self) -> Result<String> {
        self.stream()?.write_all(IDENTIFICATION)?;
        let line = self
            .read_line()
            .context("sshd sends no identification line")?;
        ensure!(line.starts_with("SSH-2.0-"), "{line:?} isn't SSH");
        let packet = self
            .read_packet()
            .context("sshd doesn't offer a key exchange")?;
        let algorithms = host_key_algorithms(&packet).context("sshd's offer can't be read")?;
        ensure!(
            algorithms
                .split(',')
                .any(|algorithm| algorithm == "ssh-ed25519"),
            "sshd has no ed25519 host key, only {algorithms:?}"
        );
        Ok(line)
    }

    /// The connection, with the remaining time as its timeout.
    fn stream(&mut self) -> Result<&mut TcpStream> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "it took too long");
        let stream = self.stream.as_mut().context("not connected")?;
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        Ok(stream)
    }

    fn read_exactly(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.stream()?.read(&mut buffer[done..]) {
                Ok(0) => bail!("the connection was closed"),
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    bail!("it took too long")
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            ensure!(line.len() < LINE_BYTES, "a line without an end");
            let mut byte = [0];
            self.read_exactly(&mut byte)?;
            line.extend(byte);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Reads the content of an unencrypted packet: length, length of the padding, content, padding.
    fn read_packet(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.read_exactly(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        ensure!(
            (1..=PACKET_BYTES).contains(&length),
            "a packet of {length} bytes"
        );
        let mut packet = vec![0; length];
        self.read_exactly(&mut packet)?;
        let padding = usize::from(packet.remove(0));
        ensure!(padding <= packet.len(), "more padding than packet");
        packet.truncate(packet.len() - padding);
        Ok(packet)
    }
}

/// The host key algorithms of a KEXINIT message: type, cookie of 16 bytes, key exchange algorithms, host key algorithms.
pub fn host_key_algorithms(message: &[u8]) -> Option<&str> {
    let (SSH_MSG_KEXINIT, rest) = message.split_first().map(|(kind, rest)| (*kind, rest))? else {
        return None;
    };
    let (_key_exchange, rest) = name_list(rest.get(16..)?)?;
    let (host_key, _) = name_list(rest)?;
    std::str::from_utf8(host_key).ok()
}

/// Splits off a list of names: its length, then its text.
fn name_list(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that sends this to its first client, and then nothing.
    fn server(sends: &'static [u8]) -> (SocketAddr, thread::JoinHandle<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), OWN_ADDRESS);
            stream.write_all(sends).unwrap();
            stream
        });
        (address, answer)
    }

    fn offer(lists: &[&str]) -> Vec<u8> {
        let mut message = vec![SSH_MSG_KEXINIT];
        message.extend([7; 16]);
        for list in lists {
            message.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            message.extend(list.as_bytes());
        }
        message
    }

    #[test]
    fn the_host_key_algorithms_are_the_second_list() {
        let message = offer(&["curve25519-sha256", "ssh-ed25519", "aes256-ctr"]);
        assert_eq!(host_key_algorithms(&message), Some("ssh-ed25519"));
        for length in 0..message.len() - "\0\0\0\0aes256-ctr".len() {
            assert_eq!(host_key_algorithms(&message[..length]), None, "{length}");
        }
        assert_eq!(host_key_algorithms(&[1; 64]), None);
    }

    #[test]
    fn a_server_that_only_listens_is_no_sshd() {
        let says: [&[u8]; 5] = [
            b"",
            b"HTTP/1.1 400\r\n",
            b"SSH-2.0-x\r\n",
            b"SSH-2.0-x\r\n\xff\xff\xff\xff",
            b"SSH-2.0-x\r\n\0\0\0\x02\x05\x14",
        ];
        for says in says {
            let (address, answer) = server(says);
            assert!(
                handshake(address, Duration::from_millis(300)).is_err(),
                "{says:?}"
            );
            answer.join().unwrap();
        }
    }

    #[test]
    fn a_closed_port_is_no_sshd() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(handshake(address, Duration::from_secs(5)).is_err());
    }
}
