//! Logins, and their end.

use std::net::TcpStream;

use bento_appliance::sshd::{SessionEvent, SessionLimits};
use bento_tests::{key, wait};

use crate::env::{DAY, inside, make_key};
use crate::gate;
use crate::libssh::{self, Download};
use crate::server::{Session, printed, run};

#[test]
fn only_a_machines_own_key_logs_in() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let other = env.machine("domovoi", 10_001);
        let server = env.open(SessionLimits::default(), &[&machine, &other]);
        for name in ["domovoi", "root", "sshd", "nobody"] {
            let output = run(server.sftp_command(&machine, name), "ls /");
            assert!(!output.status.success(), "{name}: {}", printed(&output));
            assert!(
                printed(&output).contains("Permission denied"),
                "{name}: {}",
                printed(&output)
            );
        }
        assert!(server.sftp(&machine, "ls /").status.success());
    });
}

#[test]
fn a_removed_machine_has_no_session_and_no_login() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let other = env.machine("domovoi", 10_001);
        let server = env.open(gentle(), &[&machine, &other]);
        let open = server.log_in(&machine);
        let mut untouched = server.log_in(&other);
        let (gate, authenticating) = gate::before(server.address);
        let late = Session::begin(server.sftp_through(&machine, "kikimora", gate));
        wait::expect("the session begins", || {
            (server.sessions.next_session() == 4).then_some(())
        });
        // Its key still works, as for a login just before the removal of the key.
        server.sessions.allow([other.account.uid].into());
        open.wait_for_end();
        authenticating.send(()).unwrap();
        late.wait_for_end();
        server.admit(&[&other]);
        let output = server.sftp(&machine, "ls");
        assert!(
            printed(&output).contains("Permission denied"),
            "{}",
            printed(&output)
        );
        assert!(untouched.works());
        untouched.log_out();
    });
}

#[test]
fn a_replaced_key_ends_its_sessions() {
    inside(|env| {
        let mut machine = env.machine("kikimora", 10_000);
        let other = env.machine("domovoi", 10_001);
        let server = env.open(gentle(), &[&machine, &other]);
        let open = server.log_in(&machine);
        let mut untouched = server.log_in(&other);
        // Also for this session, which may have used the new key: it began before.
        let (gate, authenticating) = gate::before(server.address);
        let new = make_key(&env.path("new"));
        let old = std::mem::replace(&mut machine.key, new);
        let late = Session::begin(server.sftp_through(&machine, "kikimora", gate));
        wait::expect("the session begins", || {
            (server.sessions.next_session() == 4).then_some(())
        });
        machine.account.keys = vec![key::public(&machine.key).unwrap().parse().unwrap()];
        server.admit(&[&machine, &other]);
        server.sessions.end_account(10_000);
        open.wait_for_end();
        authenticating.send(()).unwrap();
        late.wait_for_end();
        assert!(
            server.sftp(&machine, "ls").status.success(),
            "the new key opens the door"
        );
        machine.key = old;
        assert!(
            !server.sftp(&machine, "ls").status.success(),
            "the old one doesn't"
        );
        assert!(untouched.works());
        untouched.log_out();
    });
}

#[test]
fn a_machine_removed_during_its_login_is_refused_and_no_download_stops() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let other = env.machine("domovoi", 10_001);
        let content: Vec<u8> = (0..8 << 20).map(|index| (index % 251) as u8).collect();
        other.publish("large", &content);
        let server = env.open(gentle(), &[&machine, &other]);
        let download = Download::begin(server.address, &other, "/large").unwrap();
        let connection = TcpStream::connect(server.address).unwrap();
        let removed = libssh::shake_hands(connection).unwrap();
        let open = libssh::log_in(server.address, &machine).unwrap();
        libssh::poll(&open).unwrap();

        server.admit(&[&other]);
        assert!(libssh::authenticate(&removed, "kikimora", &machine.key).is_err());
        wait::expect("its open session ends", || libssh::poll(&open).err());
        assert!(download.finish() == content);
        drop((removed, open));
        server.wait_until_quiet();
        let events: Vec<_> = server.events.try_iter().collect();
        let removed = |event: &&SessionEvent| {
            matches!(
                event,
                SessionEvent::Ended {
                    session: 2,
                    uid: None
                }
            )
        };
        assert_eq!(events.iter().filter(removed).count(), 1, "{events:?}");
    });
}

#[test]
fn a_refusal_does_not_reveal_whether_there_is_such_a_machine() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let wrong = env.machine("wrong", 10_001);
        let server = env.open(SessionLimits::default(), &[&machine]);
        let refusal = |name: &str| {
            let mut command = server.client("ssh", &wrong, server.address.port());
            command.args(["-v", "-s", &format!("{name}@127.0.0.1"), "sftp"]);
            let output = run(command, "");
            assert!(!output.status.success());
            let said = String::from_utf8(output.stderr).unwrap();
            let counts = |line: &&str| line.contains("ermission denied") || line.contains("uth");
            let lines: Vec<_> = said.lines().filter(counts).collect();
            lines.join("\n").replace(name, "NAME")
        };
        let [there, nobody] = ["kikimora", "leshyleshy"].map(refusal);
        assert!(
            there.contains("Authentications that can continue: publickey"),
            "{there}"
        );
        assert_eq!(there, nobody);
        for account in ["root", "sshd"] {
            assert_eq!(refusal(account), there, "{account}");
        }
    });
}

/// Limits with which nothing ends for being slow, and nothing is killed: cutting the connection must be enough.
fn gentle() -> SessionLimits {
    SessionLimits {
        grace: DAY,
        hang_up: DAY,
        ..SessionLimits::default()
    }
}
