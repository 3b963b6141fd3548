//! The checks before the appliance is ready.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bento_appliance::cli::CommandLine;
use bento_appliance::sshd::{HostKey, SessionLimits, Sshd, handshake, reap};
use bento_tests::{key, wait};
use clap::Parser;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::env::{DAY, SECOND, SessionEnv, inside, make_key, others};

#[test]
fn the_health_check_sees_a_real_sshd() {
    inside(|env| {
        let limits = SessionLimits {
            unauthenticated: 1,
            grace: DAY,
            ..SessionLimits::default()
        };
        let server = env.open(limits, &[]);
        // The only slot is taken.
        let _stranger = server.stranger("SSH-2.0-stranger\r\n");
        wait::expect("it is", || {
            (server.sessions.next_session() == 2).then_some(())
        });
        assert!(
            handshake(server.address, 10 * SECOND)
                .unwrap()
                .starts_with("SSH-2.0-OpenSSH")
        );
        let health = || {
            let address = server.address.to_string();
            let runtime = env.runtime.root().to_str().unwrap();
            let arguments = [
                "bento",
                "health",
                "--verbose",
                "--address",
                &address,
                "--runtime",
                runtime,
            ];
            let mut output = Vec::new();
            let result = CommandLine::parse_from(arguments).run(&mut output);
            result.map(|_| String::from_utf8(output).unwrap())
        };
        assert!(health().unwrap_err().to_string().contains("publication"));
        fs::write(env.runtime.ready(), "").unwrap();
        let output = health().unwrap();
        assert!(output.starts_with("healthy: SSH-2.0-OpenSSH"), "{output}");
        assert!(output.contains("\nbounding: CAP_"), "{output}");
        server.sessions.close();
        wait::expect("it stops", || health().is_err().then_some(()));
    });
}

#[test]
fn an_sshd_that_can_not_serve_is_an_error_with_its_cause() {
    inside(|env| {
        let SessionEnv { state, runtime, .. } = &env;
        let sshd = Sshd::prepare(state, runtime, &[]).unwrap();
        sshd.configure().unwrap();
        let answer = || sshd.answer(60 * SECOND);
        assert!(answer().unwrap().starts_with("SSH-2.0-OpenSSH"));

        let path = state.host_key();
        let aside = path.with_added_extension("aside");
        fs::rename(&path, &aside).unwrap();
        let error = format!("{:#}", answer().unwrap_err());
        assert!(error.contains("no hostkeys available"), "{error}");
        fs::rename(&aside, &path).unwrap();
        assert!(answer().is_ok());
    });
}

#[test]
fn an_sshd_that_hangs_is_no_answer_and_does_not_stay() {
    inside(|env| {
        let SessionEnv { state, runtime, .. } = &env;
        let sshd = Sshd::prepare(state, runtime, &[]).unwrap();
        // sshd waits for its configuration, a FIFO.
        mkfifo(&runtime.sshd_config(), Mode::S_IRUSR).unwrap();
        let error = format!("{:#}", sshd.answer(SECOND).unwrap_err());
        assert!(error.contains("it took too long"), "{error}");
        wait::expect("no process is left", || {
            reap();
            others().is_empty().then_some(())
        });
    });
}

#[test]
fn a_host_key_is_created_once_and_never_replaced() {
    inside(|env| {
        let SessionEnv { state, runtime, .. } = &env;
        let prepare = || Sshd::prepare(state, runtime, &[]);
        let path = state.host_key();
        let first = prepare().unwrap().host_key().clone();
        assert_eq!(prepare().unwrap().host_key(), &first);
        let other = key::public(&make_key(&env.path("other")))
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            Sshd::prepare(state, runtime, &[other])
                .unwrap_err()
                .to_string()
                .contains("host_keys")
        );
        assert!(Sshd::prepare(state, runtime, std::slice::from_ref(&first)).is_ok());

        let good = fs::read(&path).unwrap();
        let mut changed = good.clone();
        changed[good.len() / 2] ^= 1;
        for bad in [&b""[..], b"garbage\n", &good[..good.len() / 2], &changed] {
            fs::write(&path, bad).unwrap();
            assert!(prepare().is_err());
            assert_eq!(fs::read(&path).unwrap(), bad, "it is left alone");
        }
        fs::write(&path, &good).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(prepare().is_err(), "everybody can read it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

        let public_half = path.with_added_extension("pub");
        fs::remove_file(&public_half).unwrap();
        assert_eq!(prepare().unwrap().host_key(), &first);
        assert_eq!(
            fs::read_to_string(&public_half).unwrap().trim_end(),
            first.to_string()
        );
        fs::remove_file(&path).unwrap();
        assert!(prepare().unwrap_err().to_string().contains("is gone"));
        assert!(!path.exists(), "no new one is made");
    });
}

#[test]
fn an_interrupted_switch_of_keys_is_complete_after_the_next_start() {
    inside(|env| {
        let SessionEnv { state, runtime, .. } = &env;
        let old = HostKey::read_or_create(state).unwrap();
        let new = HostKey::prepare_spare(state).unwrap();
        let public_half = state.host_key().with_added_extension("pub");
        let of_old = fs::read(&public_half).unwrap();
        assert!(HostKey::switch(state, std::slice::from_ref(old.public())).is_err());
        assert_eq!(HostKey::read(state).unwrap(), old);
        assert_eq!(HostKey::switch(state, &[]).unwrap(), new);
        let of_new = fs::read(&public_half).unwrap();
        assert_ne!(of_new, of_old);

        // Interrupted before the public half was written, or while another spare key was created.
        fs::write(&public_half, of_old).unwrap();
        let half = state.spare_host_key().with_added_extension("new");
        fs::write(&half, "half").unwrap();
        let sshd = Sshd::prepare(state, runtime, &[]).unwrap();
        assert_eq!(sshd.host_key(), new.public());
        assert_eq!(fs::read(&public_half).unwrap(), of_new);
        assert!(!half.exists());
        assert_eq!(HostKey::spare(state).unwrap(), Some(old));
        HostKey::forget_spare(state).unwrap();
        assert_eq!(HostKey::spare(state).unwrap(), None);
    });
}
