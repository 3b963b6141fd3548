//! The settings of sshd, as it prints them.

use std::process::Command;

use bento_appliance::sshd::SessionLimits;

use crate::env::inside;

#[test]
fn a_session_is_sftp_and_nothing_else() {
    inside(|env| {
        let machine = env.machine("kikimora", 10_000);
        let _server = env.open(SessionLimits::default(), &[&machine]);
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.arg("-T").arg("-f").arg(env.runtime.sshd_config());
        sshd.args(["-C", "user=kikimora,host=localhost,addr=127.0.0.1"]);
        let output = sshd.output().unwrap();
        assert!(output.status.success());
        let settings = String::from_utf8(output.stdout).unwrap();
        let has = |line: &str| settings.lines().any(|setting| setting == line);
        for setting in [
            "maxsessions 1",
            "permittty no",
            "permituserrc no",
            "permituserenvironment no",
            "disableforwarding yes",
            "allowtcpforwarding no",
            "allowstreamlocalforwarding no",
            "allowagentforwarding no",
            "x11forwarding no",
            "permittunnel no",
            "gatewayports no",
            "authenticationmethods publickey",
            "passwordauthentication no",
            "kbdinteractiveauthentication no",
            "hostbasedauthentication no",
            "gssapiauthentication no",
            "permitrootlogin no",
            "usepam no",
            "usedns no",
            "banner none",
            "trustedusercakeys none",
            "authorizedkeyscommand none",
            "authorizedprincipalscommand none",
        ] {
            assert!(has(setting), "{setting} isn't in {settings}");
        }
        // No variable of a client's environment is accepted.
        assert!(!settings.contains("acceptenv"), "{settings}");
        assert!(!settings.contains("setenv"), "{settings}");
        for server in ["forcecommand ", "subsystem sftp "] {
            let line = settings.lines().find(|line| line.starts_with(server));
            assert!(
                line.is_some_and(|line| line.contains("internal-sftp")),
                "{line:?}"
            );
        }
    });
}
