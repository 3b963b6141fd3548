//! The end of sessions.

use std::net::TcpStream;

use bento_appliance::sshd::{SessionEvent, SessionLimits, reap};
use bento_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::env::{SECOND, inside, others};
use crate::server::{Session, wait_for_close};

#[test]
fn a_session_has_a_longest_length() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let server = env.open(
            SessionLimits {
                session: SECOND,
                ..SessionLimits::default()
            },
            &[&machine],
        );
        Session::begin(server.sftp_command(&machine, "kikimora")).wait_for_end();
        server.wait_until_quiet();
    });
}

#[test]
fn a_client_that_dies_leaves_nothing_behind() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let server = env.open(
            SessionLimits {
                unauthenticated: 1,
                ..SessionLimits::default()
            },
            &[&machine],
        );
        for _ in 0..6 {
            server.log_in(&machine).die();
        }
        server.wait_until_quiet();
        assert!(server.sftp(&machine, "ls").status.success());
        server.wait_until_quiet();
        let mut reaped = 0;
        wait::expect("no process is left", || {
            reaped += reap().len();
            others().is_empty().then_some(())
        });
        assert!(reaped >= 7, "{reaped}");
    });
}

#[test]
fn an_sshd_that_hangs_is_killed() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let server = env.open(SessionLimits::default(), &[&machine]);
        let session = server.log_in(&machine);
        for (number, stat) in others() {
            if stat.contains("(sshd") {
                kill(Pid::from_raw(number.try_into().unwrap()), Signal::SIGSTOP).unwrap();
            }
        }
        server.sessions.end_account(10_000);
        session.wait_for_end();
        server.wait_until_quiet();
    });
}

#[test]
fn a_stop_lets_sessions_finish() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let limits = SessionLimits {
            unauthenticated: 1,
            ..SessionLimits::default()
        };
        let server = env.open(limits, &[&machine]);
        let [mut open, other] = [(); 2].map(|()| server.log_in(&machine));
        let stranger = server.stranger("");
        wait::expect("the only slot is taken", || {
            (server.sessions.next_session() == 4).then_some(())
        });
        let pending = server.stranger("");
        server.sessions.close();
        wait::expect("nothing is accepted", || {
            TcpStream::connect(server.address).is_err().then_some(())
        });
        wait_for_close(pending);
        drop(stranger);
        assert!(open.works());
        other.log_out();
        assert!(!server.sessions.is_empty());
        server.sessions.end_all();
        open.wait_for_end();
        wait::expect("the listener stops", || {
            (server.event() == SessionEvent::Stopped).then_some(())
        });
        assert!(server.sessions.is_empty());
    });
}

#[test]
fn a_stop_without_sessions_is_immediate() {
    inside(|env| {
        let server = env.open(SessionLimits::default(), &[]);
        server.sessions.close();
        assert_eq!(server.event(), SessionEvent::Stopped);
    });
}
