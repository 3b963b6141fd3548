//! What the reader of the tutorial has and the test environment hasn't.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};

/// Something that isn't typed here as it stands in the document.
#[derive(Debug)]
struct Substitution {
    /// What stands in the document.
    written: &'static str,
    /// What is typed here.
    typed: String,
    because: &'static str,
    is_used: bool,
}

/// All there is of that. Anything else is typed as it stands.
#[derive(Debug)]
pub(super) struct Substitutions(Vec<Substitution>);

/// Where a machine has what it copies to the server, by the path that it has there.
pub(super) const SENT: &str = "/run/sent/";

impl Substitutions {
    /// For a server at an address of this machine.
    pub(super) fn new(server: Ipv4Addr) -> Self {
        let table = [
            (
                "--publish 2222:2222",
                format!("--publish {server}:2222:2222"),
                "on this machine's other addresses the port may be taken",
            ),
            (
                "nix-channel --add https://github.com/OWNER/bento/archive/main.tar.gz bento",
                "test -e /nix/var/nix/profiles/per-user/root/channels/bento/nixos/client.nix"
                    .into(),
                "nothing can be downloaded here: the channel is there already, and is nixos/ of this repository",
            ),
            (
                "nix-channel --update bento",
                "test -e /nix/var/nix/profiles/per-user/root/channels/nixos/nixos".into(),
                "as above: so is that of nixpkgs, which is its stand-in",
            ),
            (
                "nix-build '<bento>' --attr bento-client --out-link ~/bento",
                "ln -s /opt/bento ~/bento".into(),
                "the stand-in for nixpkgs has no Rust: the client that was built on this machine is there instead",
            ),
            (
                "scp /etc/nixos/*.nix bento@bento.example.org:",
                format!("set -- /etc/nixos/*.nix; install -D -m 644 \"$@\" -t {SENT}"),
                "no sshd is here for ordinary users: the test takes the files from there to the server",
            ),
        ];
        Self(table.map(Substitution::from).into())
    }

    /// What is typed here for what stands in the document.
    pub(super) fn apply(&mut self, script: &str) -> String {
        let mut script = script.to_owned();
        for one in &mut self.0 {
            one.is_used |= script.contains(one.written);
            script = script.replace(one.written, &one.typed);
        }
        script
    }

    /// That each was needed.
    pub(super) fn were_all_used(&self) -> Result<()> {
        for Substitution {
            written,
            because,
            is_used,
            ..
        } in &self.0
        {
            ensure!(
                *is_used,
                "the document doesn't have `{written}`, for which something else was to be typed here, because {because}"
            );
        }
        Ok(())
    }
}

impl From<(&'static str, String, &'static str)> for Substitution {
    fn from((written, typed, because): (&'static str, String, &'static str)) -> Self {
        Self {
            written,
            typed,
            because,
            is_used: false,
        }
    }
}
