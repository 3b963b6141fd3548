//! What must be right before the appliance is ready.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bento_appliance::commands::CommandLine;
use bento_appliance::session::{Limits, Sshd, handshake};
use clap::Parser;

use crate::ground::{DAY, Ground, SECOND, inside, make_key, public, until};

#[test]
fn the_health_check_sees_a_real_sshd() {
    inside(|ground| {
        let limits = Limits {
            unauthenticated: 1,
            grace: DAY,
            ..Limits::default()
        };
        let server = ground.open(limits, &[]);
        // The only slot is taken.
        let _stranger = server.stranger("SSH-2.0-stranger\r\n");
        until("it is", || {
            (server.sessions.next_session() == 2).then_some(())
        });
        assert!(
            handshake(server.address, 10 * SECOND)
                .unwrap()
                .starts_with("SSH-2.0-OpenSSH")
        );
        let health = || {
            let address = server.address.to_string();
            let runtime = ground.runtime.root().to_str().unwrap();
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
        fs::write(ground.runtime.ready(), "").unwrap();
        let output = health().unwrap();
        assert!(output.starts_with("healthy: SSH-2.0-OpenSSH"), "{output}");
        assert!(output.contains("\nbounding: CAP_"), "{output}");
        server.sessions.close();
        until("it stops", || health().is_err().then_some(()));
    });
}

#[test]
fn a_host_key_is_made_once_and_never_replaced() {
    inside(|ground| {
        let Ground { state, runtime, .. } = &ground;
        let prepare = || Sshd::prepare(state, runtime, &[]);
        let path = state.host_key();
        let first = prepare().unwrap().host_key().clone();
        assert_eq!(prepare().unwrap().host_key(), &first);
        let other = public(&make_key(&ground.path("other"))).parse().unwrap();
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
