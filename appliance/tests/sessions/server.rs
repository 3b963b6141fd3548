//! A serving appliance, and the clients of OpenSSH that talk to it.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use bento_appliance::sshd::{SessionEvent, SessionLimits, Sessions, Sshd, listen, passwd};
use bento_appliance::store::paths::Runtime;
use bento_tests::{process, wait};

use crate::env::{Machine, SessionEnv};

/// A serving appliance.
pub struct Server {
    pub sessions: Sessions,
    pub address: SocketAddr,
    pub events: Receiver<SessionEvent>,
    runtime: Runtime,
    known_hosts: PathBuf,
}

impl Server {
    /// Serves these machines.
    pub fn open(env: &SessionEnv, limits: SessionLimits, machines: &[&Machine]) -> Self {
        let sshd = Sshd::prepare(&env.state, &env.runtime, &[]).unwrap();
        sshd.configure().unwrap();
        let host_key = sshd.host_key().authorized_line();
        let known_hosts = env.path("known_hosts");
        fs::write(&known_hosts, format!("appliance {host_key}\n")).unwrap();
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, events) = channel();
        // Nobody listens any more once the test is over.
        let report = move |event| sender.send(event).unwrap_or_default();
        let sessions = Sessions::open(listener, sshd, limits, report).unwrap();
        let runtime = env.runtime.clone();
        let server = Server {
            sessions,
            address,
            events,
            runtime,
            known_hosts,
        };
        server.admit(machines);
        server
    }

    /// Makes these the only machines.
    pub fn admit(&self, machines: &[&Machine]) {
        let list: Vec<_> = machines
            .iter()
            .map(|machine| machine.account.clone())
            .collect();
        passwd::write(&self.runtime, &list).unwrap();
        self.sessions
            .allow(list.iter().map(|account| account.uid).collect());
    }

    /// A program of OpenSSH, as this machine, for this port.
    pub fn client(&self, program: &str, machine: &Machine, port: u16) -> Command {
        let mut command = Command::new(program);
        let port = format!("Port={port}");
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts.display());
        command.args(["-F", "/dev/null", "-i"]).arg(&machine.key);
        for option in [
            &port,
            &known_hosts,
            "HostKeyAlias=appliance",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            // Rather than wait for ever.
            "ConnectTimeout=300",
            "ServerAliveInterval=60",
            "ExitOnForwardFailure=yes",
        ] {
            command.args(["-o", option]);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `sftp`, which reads its commands from its standard input and stops at the first that fails.
    pub fn sftp_command(&self, machine: &Machine, name: &str) -> Command {
        self.sftp_through(machine, name, self.address.port())
    }

    /// The same through another port.
    pub fn sftp_through(&self, machine: &Machine, name: &str, port: u16) -> Command {
        let mut command = self.client("sftp", machine, port);
        command.args(["-b", "-"]).arg(format!("{name}@127.0.0.1"));
        command
    }

    /// Runs these commands as this machine.
    pub fn sftp(&self, machine: &Machine, commands: &str) -> Output {
        run(
            self.sftp_command(machine, machine.account.name.as_str()),
            commands,
        )
    }

    /// Opens a session, and keeps it open.
    pub fn log_in(&self, machine: &Machine) -> Session {
        Session::start(self.sftp_command(machine, machine.account.name.as_str()))
    }

    /// A connection of a stranger.
    pub fn stranger(&self, says: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(says.as_bytes()).unwrap();
        stream
    }

    /// Waits for an event.
    pub fn event(&self) -> SessionEvent {
        self.events.recv_timeout(process::SHORT).expect("an event")
    }

    /// Waits until there is no session.
    pub fn wait_until_quiet(&self) {
        wait::expect("all sessions end", || {
            self.sessions.is_empty().then_some(())
        });
    }
}

/// Waits until the server has closed a connection.
pub fn wait_for_close(mut connection: TcpStream) {
    connection.set_read_timeout(Some(process::SHORT)).unwrap();
    // A reset is an end, too.
    if let Err(error) = connection.read_to_end(&mut Vec::new()) {
        assert_ne!(error.kind(), ErrorKind::WouldBlock, "it is still open");
    }
}

/// Runs a client with this as its input.
pub fn run(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().expect("openssh-client");
    let mut stdin = child.stdin.take().unwrap();
    // A client that was refused doesn't read it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The output of a client, and its errors.
pub fn printed(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|text| String::from_utf8_lossy(text))
        .concat()
}

/// An open session.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// Logs in, and waits for that.
    pub fn start(command: Command) -> Self {
        let mut session = Self::begin(command);
        assert!(session.works(), "it can log in");
        session
    }

    /// Begins to log in.
    pub fn begin(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::inherit())
            .spawn()
            .expect("openssh-client");
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Session {
            child,
            stdin,
            stdout,
        }
    }

    /// Whether the server still answers.
    pub fn works(&mut self) -> bool {
        if writeln!(self.stdin, "ls generation").is_err() {
            return false;
        }
        // The command is echoed first.
        let mut lines = self.stdout.by_ref().lines().map_while(Result::ok);
        lines.any(|line| line.trim_end() == "generation")
    }

    /// Waits until the server has ended it. The client notices only at its next request.
    pub fn wait_for_end(mut self) {
        wait::expect("the session ends", || (!self.works()).then_some(()));
        assert!(!self.child.wait().unwrap().success());
    }

    /// Kills the client, as a crash of its machine does.
    pub fn die(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Logs out.
    pub fn log_out(self) {
        let Session {
            mut child, stdin, ..
        } = self;
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }
}
