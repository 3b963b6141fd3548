//! SSH key pairs, made with ssh-keygen.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process;

/// Makes a key pair with this comment; the public half lies beside the private one.
///
/// # Errors
/// If ssh-keygen fails.
pub fn make(private: &Path, comment: &str) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]);
    process::run(command.arg(private), process::SHORT)?.success()?;
    Ok(())
}

/// The public half of a private key, as one line.
///
/// # Errors
/// If it can't be read.
pub fn public(private: &Path) -> io::Result<String> {
    let public = fs::read_to_string(private.with_added_extension("pub"))?;
    Ok(public.trim_end().to_owned())
}
