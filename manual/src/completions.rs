//! What a shell needs in order to complete the commands.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate_to};

/// Where each shell looks, below a prefix.
const FOLDERS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions"),
    (Shell::Zsh, "share/zsh/site-functions"),
    (Shell::Fish, "share/fish/vendor_completions.d"),
];

/// Writes the completions of a program where shells look for them below a prefix.
///
/// # Errors
/// When they can't be written.
pub fn write(mut program: Command, prefix: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    for (shell, folder) in FOLDERS {
        let folder = prefix.join(folder);
        fs::create_dir_all(&folder)?;
        let written = generate_to(shell, &mut program, &name, &folder)?;
        if shell == Shell::Bash {
            // bash-completion looks for the bare name of the command.
            fs::rename(written, folder.join(&name))?;
        }
    }
    Ok(())
}
