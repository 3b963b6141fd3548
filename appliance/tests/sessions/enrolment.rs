//! Who gets in, and who must leave.

use bento_appliance::session::Limits;

use crate::gate;
use crate::ground::{DAY, inside, make_key, public, until};
use crate::server::{Session, printed, run};

#[test]
fn only_a_machines_own_key_opens_its_door() {
    inside(|ground| {
        let machine = ground.machine("kikimora", 10_000);
        let other = ground.machine("domovoi", 10_001);
        let server = ground.open(Limits::default(), &[&machine, &other]);
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
fn a_removed_machine_is_out() {
    inside(|ground| {
        let machine = ground.machine("kikimora", 10_000);
        let other = ground.machine("domovoi", 10_001);
        let server = ground.open(gentle(), &[&machine, &other]);
        let open = server.log_in(&machine);
        let mut untouched = server.log_in(&other);
        let (gate, authenticating) = gate::before(server.address);
        let late = Session::begin(server.sftp_through(&machine, "kikimora", gate));
        until("the session begins", || {
            (server.sessions.next_session() == 4).then_some(())
        });
        // Its key still opens the door, as for one that came in just before the key was removed.
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
fn a_replaced_key_ends_what_it_opened() {
    inside(|ground| {
        let mut machine = ground.machine("kikimora", 10_000);
        let other = ground.machine("domovoi", 10_001);
        let server = ground.open(gentle(), &[&machine, &other]);
        let open = server.log_in(&machine);
        let mut untouched = server.log_in(&other);
        // The new key is good for this one, too: it began before, so nobody can tell.
        let (gate, authenticating) = gate::before(server.address);
        let new = make_key(&ground.path("new"));
        let old = std::mem::replace(&mut machine.key, new);
        let late = Session::begin(server.sftp_through(&machine, "kikimora", gate));
        until("the session begins", || {
            (server.sessions.next_session() == 4).then_some(())
        });
        machine.account.keys = vec![public(&machine.key).parse().unwrap()];
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

/// Nothing ends for being slow, and nothing is killed: to cut the wire must do.
fn gentle() -> Limits {
    Limits {
        grace: DAY,
        hang_up: DAY,
        ..Limits::default()
    }
}
