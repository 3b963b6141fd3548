//! The keys of machines.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes a key pair; its private half lies there then.
pub fn make(private: &Path) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(private)
        .status()
        .expect("ssh-keygen, of openssh-client");
    assert!(status.success());
}

/// The public half of a private key.
pub fn public(private: &Path) -> String {
    let public = fs::read_to_string(private.with_added_extension("pub")).unwrap();
    public.trim().to_owned()
}
