//! Slow, stalling and refused clients don't affect the others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bento_appliance::sshd::{SessionEvent, SessionLimits};
use bento_tests::wait;

use crate::env::{DAY, SECOND, inside, make_key};
use crate::libssh::{self, Download};

/// More than fits into two windows and all buffers between a server and a client.
const LARGE: usize = 16 << 20;

/// Sends its identification line, and then a byte now and then, until it is disconnected.
fn drip(server: SocketAddr) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut connection = TcpStream::connect(server).unwrap();
        let mut said = connection.write_all(b"SSH-2.0-stranger\r\n");
        while said.is_ok() {
            thread::sleep(Duration::from_millis(50));
            said = connection.write_all(&[0]);
        }
    })
}

#[test]
fn a_slow_machine_does_not_delay_others() {
    inside(|env| {
        let [sleepy, machine] =
            [("domovoi", 10_001), ("kikimora", 10_000)].map(|(name, uid)| env.machine(name, uid));
        let content: Vec<u8> = (0..LARGE).map(|index| (index % 251) as u8).collect();
        for machine in [&sleepy, &machine] {
            machine.publish("large", &content);
        }
        let limits = SessionLimits {
            grace: DAY,
            unauthenticated: 4,
            ..SessionLimits::default()
        };
        let server = env.open(limits, &[&sleepy, &machine]);
        let silent = server.stranger("");
        drip(server.address);
        let stalled = server.stranger("SSH-2.0-stranger\r\n");
        let downloads =
            [(); 3].map(|()| Download::begin(server.address, &sleepy, "/large").unwrap());
        for _ in 0..3 {
            assert!(server.sftp(&machine, "ls").status.success());
        }
        let whole = Download::begin(server.address, &machine, "/large").unwrap();
        assert!(whole.finish() == content);
        // They were only slow.
        for download in downloads {
            assert!(download.finish() == content);
        }
        drop((silent, stalled));
    });
}

#[test]
fn a_slow_login_has_a_deadline() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        machine.publish("large", &vec![1; LARGE]);
        let limits = SessionLimits {
            grace: SECOND,
            session: SECOND,
            ..SessionLimits::default()
        };
        let server = env.open(limits, &[&machine]);
        let dripping = drip(server.address);
        // This machine may be too slow for these limits, too.
        let download = wait::expect("a download begins", || {
            Download::begin(server.address, &machine, "/large").ok()
        });
        dripping.join().unwrap();
        server.wait_until_quiet();
        drop(download);
    });
}

#[test]
fn strangers_who_stall_again_and_again_keep_no_machine_out() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        // Without an end to their grace, they are only evicted.
        let limits = SessionLimits {
            grace: DAY,
            ..SessionLimits::default()
        };
        let (slots, strangers) = (limits.unauthenticated as u64, 300);
        let server = env.open(limits, &[&machine]);
        for _ in 0..strangers {
            let address = server.address;
            thread::spawn(move || {
                loop {
                    let mut connection = TcpStream::connect(address).unwrap();
                    let _ = connection.write_all(b"SSH-2.0-stranger\r\n");
                    let _ = connection.read_to_end(&mut Vec::new());
                }
            });
        }
        wait::expect("they have all slots", || {
            (server.sessions.next_session() > slots).then_some(())
        });
        let before = server.sessions.next_session();
        // Its first connection logs in.
        let start = Instant::now();
        let login = libssh::log_in(server.address, &machine).unwrap();
        assert_eq!(libssh::poll(&login).unwrap(), "generation-of-kikimora");
        println!(
            "{strangers} strangers who stall: a machine polled after {:.1?}",
            start.elapsed()
        );
        let session = wait::expect("it is known", || match server.event() {
            SessionEvent::Authenticated { session, .. } => Some(session),
            _ => None,
        });
        // Before it, each earlier stranger had a slot, and may have connected again meanwhile.
        assert!(session <= before + 2 * strangers, "{before} {session}");
        assert!(session > before, "there was no room for it when it came");
    });
}

#[test]
fn a_wrong_key_in_a_loop_slows_no_machine_down() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let wrong = make_key(&env.path("wrong"));
        let server = env.open(SessionLimits::default(), &[&machine]);
        let (stop, attempts) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let knock = |_| {
            let (wrong, stop, attempts) = (wrong.clone(), stop.clone(), attempts.clone());
            let address = server.address;
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let session = libssh::shake_hands(TcpStream::connect(address).unwrap());
                    let refused = libssh::authenticate(&session.unwrap(), "kikimora", &wrong);
                    assert_eq!(refused.unwrap_err().code(), ssh2::ErrorCode::Session(-18));
                    attempts.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let knocking: Vec<_> = (0..2).map(knock).collect();
        wait::expect("it has been refused many times", || {
            (attempts.load(Ordering::Relaxed) > 20).then_some(())
        });
        for _ in 0..10 {
            let session = libssh::log_in(server.address, &machine).unwrap();
            assert_eq!(libssh::poll(&session).unwrap(), "generation-of-kikimora");
        }
        stop.store(true, Ordering::Relaxed);
        for thread in knocking {
            thread.join().unwrap();
        }
    });
}
