//! Crowds of machines and strangers.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use bento_appliance::sshd::SessionLimits;
use bento_tests::wait;

use crate::env::{DAY, SECOND, inside, make_key};
use crate::libssh;
use crate::server::{Session, printed, wait_for_close};

#[test]
fn a_machine_has_at_most_four_sessions() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let other = env.machine("domovoi", 10_001);
        let server = env.open(SessionLimits::default(), &[&machine, &other]);
        let mut open: Vec<_> = (0..4).map(|_| server.log_in(&machine)).collect();
        Session::begin(server.sftp_command(&machine, "kikimora")).wait_for_end();
        assert!(open.iter_mut().all(Session::works));
        assert!(
            server.sftp(&other, "ls").status.success(),
            "another machine isn't concerned"
        );
        open.pop().unwrap().log_out();
        wait::expect("a place is free again", || {
            server.sftp(&machine, "ls").status.success().then_some(())
        });
    });
}

#[test]
fn silent_strangers_keep_no_machine_out() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        // Without the eviction they would stay for ever.
        let limits = SessionLimits {
            grace: DAY,
            evict_after: SECOND,
            ..SessionLimits::default()
        };
        let slots = limits.unauthenticated as u64;
        let server = env.open(limits, &[&machine]);
        let mut strangers: Vec<_> = (0..300).map(|_| server.stranger("")).collect();
        strangers.push(server.stranger("SSH-2."));
        wait::expect("they have all slots", || {
            (server.sessions.next_session() > slots).then_some(())
        });
        let output = server.sftp(&machine, "ls");
        assert!(output.status.success(), "{}", printed(&output));
        assert_eq!(
            server.sessions.next_session(),
            strangers.len() as u64 + 2,
            "each of them had one slot, and then the machine"
        );
        drop(strangers);
        server.wait_until_quiet();
    });
}

#[test]
fn strangers_without_a_login_are_disconnected() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let limits = SessionLimits {
            unauthenticated: 2,
            grace: SECOND,
            ..SessionLimits::default()
        };
        let server = env.open(limits, &[&machine]);
        let strangers: Vec<_> = (0..6)
            .map(|_| server.stranger("SSH-2.0-stranger\r\n"))
            .collect();
        let garbage = server.stranger("GET / HTTP/1.1\r\n");
        // The client, too, may be too slow for this limit, if this machine is.
        wait::expect("a machine is served", || {
            server.sftp(&machine, "ls").status.success().then_some(())
        });
        strangers
            .into_iter()
            .chain([garbage])
            .for_each(wait_for_close);
        server.wait_until_quiet();
    });
}

#[test]
fn a_fleet_that_wakes_at_once_waits_and_is_served() {
    inside(|env| {
        let machines: Vec<_> = (0..6)
            .map(|number| env.machine(&format!("m{number}"), 10_000 + number))
            .collect();
        let limits = SessionLimits {
            unauthenticated: 2,
            pending: 3,
            ..patient()
        };
        let server = env.open(limits, &machines.iter().collect::<Vec<_>>());
        let clients: Vec<_> = machines
            .iter()
            .cycle()
            .take(24)
            .map(|machine| server.sftp_command(machine, machine.account.name.as_str()))
            .map(|mut command| command.spawn().unwrap())
            .collect();
        for mut client in clients {
            client.stdin.take().unwrap().write_all(b"ls\n").unwrap();
            let output = client.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", printed(&output));
        }
        server.wait_until_quiet();
    });
}

#[test]
fn five_hundred_machines_in_the_same_second_are_all_served() {
    inside(|env| {
        let key = make_key(&env.path("key"));
        let machine = |number: u32| env.machine_with(&format!("m{number}"), 10_000 + number, &key);
        let machines: Vec<_> = (0..500).map(machine).collect();
        let server = env.open(patient(), &machines.iter().collect::<Vec<_>>());
        // All of them are connected before the first one is served.
        let connections: Vec<_> = machines
            .iter()
            .map(|_| TcpStream::connect(server.address).unwrap())
            .collect();
        let start = Instant::now();
        let mut waits: Vec<Duration> = thread::scope(|scope| {
            let mut clients = Vec::new();
            for (machine, connection) in machines.iter().zip(connections) {
                clients.push(scope.spawn(move || {
                    let name = machine.account.name.as_str();
                    let session = libssh::shake_hands(connection).unwrap();
                    libssh::authenticate(&session, name, &machine.key).unwrap();
                    let generation = libssh::poll(&session).unwrap();
                    assert_eq!(generation, format!("generation-of-{name}"));
                    start.elapsed()
                }));
            }
            let waits = clients.into_iter().map(|client| client.join().unwrap());
            waits.collect()
        });
        server.wait_until_quiet();
        waits.sort();
        let last = waits.len() - 1;
        println!(
            "500 machines at once: the median polled after {:.1?}, the last after {:.1?}",
            waits[last / 2],
            waits[last]
        );
    });
}

/// Limits with which no client is ended for being slow: here they share the CPU with the appliance.
fn patient() -> SessionLimits {
    SessionLimits {
        grace: DAY,
        evict_after: DAY,
        ..SessionLimits::default()
    }
}
