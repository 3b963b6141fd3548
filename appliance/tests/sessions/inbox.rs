//! The requests that a machine may make over SFTP.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use bento_appliance::sshd::{SessionEvent, SessionLimits};
use bento_protocol::limits::REPORT_BYTES;

use crate::env::{inside, make_file};
use crate::server::{printed, run};

#[test]
fn a_machine_reads_its_own_files_and_drops_reports() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let other = env.machine("domovoi", 10_001);
        let server = env.open(SessionLimits::default(), &[&machine, &other]);
        let report = env.path("report");
        fs::write(&report, "all is well").unwrap();
        let output = server.sftp(
            &machine,
            &format!("ls -l /\nput {} /logs/a\n", report.display()),
        );
        assert!(output.status.success(), "{}", printed(&output));
        for name in ["generation", "logs", "secret"] {
            assert!(printed(&output).contains(name), "{}", printed(&output));
        }
        assert_eq!(machine.received("a"), b"all is well");
        assert_eq!(
            server.event(),
            SessionEvent::Authenticated {
                session: 1,
                uid: 10_000
            }
        );
        assert_eq!(
            server.event(),
            SessionEvent::Ended {
                session: 1,
                uid: Some(10_000)
            }
        );
        let got = env.path("got");
        let output = server.sftp(&other, &format!("get /secret {}", got.display()));
        assert!(output.status.success(), "{}", printed(&output));
        assert_eq!(fs::read_to_string(got).unwrap(), "only for domovoi");
    });
}

#[test]
fn nothing_else_can_be_done_over_sftp() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let server = env.open(SessionLimits::default(), &[&machine]);
        let file = env.path("file");
        fs::write(&file, "first").unwrap();
        let file = file.display();
        assert!(
            server
                .sftp(&machine, &format!("put {file} /logs/a"))
                .status
                .success()
        );
        let other = env.path("other");
        fs::write(&other, "second").unwrap();
        let other = other.display();
        for command in [
            "ls /logs".to_owned(),
            format!("get /logs/a {file}-back"),
            format!("put {other} /logs/a"),
            format!("reput {other} /logs/a"),
            "rm /logs/a".into(),
            "rename /logs/a /logs/b".into(),
            "rename -l /logs/a /logs/b".into(),
            "chmod 777 /logs/a".into(),
            "chmod 777 /logs".into(),
            "chown 0 /logs/a".into(),
            "mkdir /logs/d".into(),
            "rmdir /logs".into(),
            "ln /secret /logs/l".into(),
            "ln -s /secret /logs/s".into(),
            "copy /secret /logs/c".into(),
            "df /".into(),
            format!("put {file} /new"),
            format!("put {file} /secret"),
            "rm /secret".into(),
            "rename /secret /logs/s".into(),
            "mkdir /new".into(),
            "ls /../../domovoi".into(),
            "ls /proc".into(),
            "ls /etc".into(),
        ] {
            let output = server.sftp(&machine, &command);
            assert!(!output.status.success(), "{command}: {}", printed(&output));
        }
        assert_eq!(machine.received("a"), b"first");
        let names: Vec<_> = fs::read_dir(&machine.inbox).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let mode = fs::metadata(machine.inbox.join("a"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0);
    });
}

#[test]
fn there_is_nothing_beside_sftp() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let server = env.open(SessionLimits::default(), &[&machine]);
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        target.set_nonblocking(true).unwrap();
        let inward = format!("{}", target.local_addr().unwrap());
        let ssh = |options: &[&str], command: &[&str]| {
            let mut client = server.client("ssh", &machine, server.address.port());
            client.args(options).arg("kikimora@127.0.0.1").args(command);
            run(client, "echo uid=0\n")
        };
        // SFTP runs whatever the client wants, and doesn't understand it.
        for output in [ssh(&[], &["id"]), ssh(&[], &[]), ssh(&["-tt"], &["id"])] {
            assert!(!printed(&output).contains("uid="), "{}", printed(&output));
        }
        assert!(printed(&ssh(&["-tt"], &[])).contains("PTY allocation request failed"));
        let refused = ssh(&["-W", &inward], &[]);
        assert!(
            printed(&refused).contains("administratively prohibited"),
            "{}",
            printed(&refused)
        );
        for backward in [format!("0:{inward}"), "/logs/socket:/nowhere".into()] {
            let refused = ssh(&["-N", "-R", &backward], &[]);
            assert!(!refused.status.success(), "{}", printed(&refused));
        }
        assert!(target.accept().is_err(), "nothing was forwarded");
    });
}

#[test]
fn a_report_has_a_largest_size() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let server = env.open(SessionLimits::default(), &[&machine]);
        let [fits, too_large] = [REPORT_BYTES, REPORT_BYTES + 1].map(|bytes| {
            let path = env.path(&bytes.to_string());
            make_file(&path, bytes);
            server.sftp(&machine, &format!("put {} /logs/{bytes}", path.display()))
        });
        assert!(fits.status.success(), "{}", printed(&fits));
        assert!(!too_large.status.success());
        let size = fs::metadata(machine.inbox.join((REPORT_BYTES + 1).to_string()))
            .unwrap()
            .len();
        assert!(size <= REPORT_BYTES, "{size}");
    });
}
