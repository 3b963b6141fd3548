use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::store::paths::{Runtime, State};

/// The SFTP server. Files are created without any permission and can be written to only through the handle that created
/// them. `-p` lists the allowed requests, by the names that `sftp-server -Q requests` prints: those for reading, and for
/// creating such a file. All others are refused, also those of a later sshd. The last two are extensions: a report counts
/// as delivered once fsync was answered, and clients ask for limits before they read in large pieces. `-R` would refuse
/// the creation, too.
const SFTP_SERVER: &str = "internal-sftp -u 0777 -p open,close,read,write,lstat,stat,fstat,\
                           opendir,readdir,realpath,readlink,fsync,limits";

/// Settings that not every sshd knows; [`super::Sshd`] adds those that its own does.
pub(super) const OPTIONAL: [&str; 5] = [
    // Port forwarding of rootless podman shows every machine under one address: one bad machine would ban them all.
    "PerSourcePenalties no",
    "RequiredRSASize 2048",
    "UsePAM no",
    "DebianBanner no",
    // The appliance ends such sessions itself, and earlier.
    "UnusedConnectionTimeout 1m",
];

/// The configuration for every connection of every machine: `%u` is the account, so it never changes.
///
/// # Errors
/// When a path can't be written in a configuration of sshd.
pub(super) fn text(state: &State, runtime: &Runtime) -> Result<String> {
    let host_key = state.host_key();
    let (host_key, keys, hosts) = (
        literal(&host_key)?,
        runtime.authorized_keys(),
        state.hosts(),
    );
    let (keys, hosts) = (literal(&keys)?, literal(&hosts)?);
    Ok(format!(
        "\
# Written by bento at every start.
HostKey {host_key}
AuthorizedKeysFile {keys}/%u
ChrootDirectory {hosts}/%u/current
ForceCommand {SFTP_SERVER}
Subsystem sftp {SFTP_SERVER}

# A machine proves with its key who it is, and in no other way.
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
PermitEmptyPasswords no
PermitRootLogin no
AuthorizedPrincipalsFile none
TrustedUserCAKeys none
StrictModes yes

# A client tries each key of its agent; this is enough for several. The appliance ends who is slow before sshd does.
MaxAuthTries 10
LoginGraceTime 60
MaxSessions 1

# One SFTP session, and nothing beside it.
DisableForwarding yes
AllowTcpForwarding no
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
GatewayPorts no
PermitOpen none
PermitListen none
PermitTTY no
PermitUserRC no
PermitUserEnvironment no
Banner none
PrintMotd no
PrintLastLog no
UseDNS no
PidFile none
# Archives are compressed already.
Compression no

# A peer that died is noticed within four minutes.
TCPKeepAlive yes
ClientAliveInterval 60
ClientAliveCountMax 3

# What this sshd prefers, post-quantum key exchange first where it has one, without what is old. curve25519 is for
# libssh2, which has no other of these. So are the last two MACs, of which ssh-audit warns because they encrypt and MAC:
# before 1.11, as in Debian 12, libssh2 has neither AES-GCM nor the others.
KexAlgorithms -ecdh-*,diffie-hellman-*
HostKeyAlgorithms ssh-ed25519
Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512

# The appliance learns whose a session is from the user id of the process that logs this session's start; only at
# this level does sshd log it.
LogLevel VERBOSE
"
    ))
}

/// The text of a path without characters that are special in a configuration of sshd.
fn literal(path: &Path) -> Result<&str> {
    let text = path
        .to_str()
        .with_context(|| format!("{} isn't UTF-8", path.display()))?;
    let plain = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '/' | '.' | '_' | '-')
    };
    ensure!(
        text.starts_with('/') && text.chars().all(plain),
        "sshd can't use the path {text:?}: use an absolute path of letters, digits and \"._-\""
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_confined_to_its_publication() {
        let state = State::new("/state");
        let text = text(&state, &Runtime::new("/run/bento")).unwrap();
        let current = state.host(&"kikimora".parse().unwrap()).current();
        let setting = text
            .lines()
            .find_map(|line| line.strip_prefix("ChrootDirectory "))
            .unwrap();
        assert_eq!(Path::new(&setting.replace("%u", "kikimora")), current);
    }

    #[test]
    fn a_path_can_not_become_a_setting() {
        let runtime = Runtime::new("/run/bento");
        for bad in [
            "/state\nPermitTTY yes",
            "/%u",
            "/a b",
            "/\"",
            "/a#b",
            "state",
            "",
        ] {
            assert!(text(&State::new(bad), &runtime).is_err(), "{bad:?}");
        }
    }
}
