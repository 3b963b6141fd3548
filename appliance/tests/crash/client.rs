//! A machine, with the client of OpenSSH.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use bento_appliance::store::paths::State;

use crate::env::CrashEnv;
use crate::fleet::private_key;

/// `sftp` as this machine, which reads its commands from its standard input.
pub fn sftp(env: &CrashEnv, state: &State, name: &str) -> Command {
    let known_hosts = env.path("known_hosts");
    let host_key = fs::read_to_string(state.host_key().with_added_extension("pub")).unwrap();
    fs::write(&known_hosts, format!("[127.0.0.1]:2222 {host_key}")).unwrap();
    let mut command = Command::new("sftp");
    command
        .args(["-q", "-F", "/dev/null", "-P", "2222", "-b", "-", "-i"])
        .arg(private_key(env, name));
    for option in [
        &format!("UserKnownHostsFile={}", known_hosts.display()),
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
    ] {
        command.args(["-o", option]);
    }
    command.arg(format!("{name}@127.0.0.1"));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A file, as this machine pulls it.
pub fn pull(env: &CrashEnv, state: &State, name: &str, file: &str) -> Result<Vec<u8>> {
    let to = env.path("pulled");
    let commands = env.path("commands");
    fs::write(&commands, format!("get {file} {}\n", to.display()))?;
    let mut sftp = sftp(env, state, name);
    let output = sftp.stdin(fs::File::open(commands)?).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(fs::read(to)?)
}
