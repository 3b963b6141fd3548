//! Shell completions.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use clap_complete::{Shell, generate_to};

/// The folder of each shell's completions, below a prefix.
const FOLDERS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions"),
    (Shell::Zsh, "share/zsh/site-functions"),
    (Shell::Fish, "share/fish/vendor_completions.d"),
];

/// Writes the completions of a program to the folders of the shells, below a prefix.
///
/// # Errors
/// When they can't be written.
pub fn write(program: Command, prefix: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    if name == "bento" {
        return write_asking(&name, prefix);
    }
    let mut program = shown(&program);
    for (shell, folder) in FOLDERS {
        let folder = prefix.join(folder);
        fs::create_dir_all(&folder)?;
        let written = generate_to(shell, &mut program, &name, &folder)?;
        if shell == Shell::Bash {
            // bash-completion searches for the bare name of the command.
            fs::rename(written, folder.join(&name))?;
        }
    }
    Ok(())
}

/// Writes scripts that ask the program itself, which knows the names of the machines.
fn write_asking(name: &str, prefix: &Path) -> io::Result<()> {
    let shells: [(&dyn EnvCompleter, String); 3] = [
        (&Bash, name.to_owned()),
        (&Zsh, format!("_{name}")),
        (&Fish, format!("{name}.fish")),
    ];
    for ((shell, file), (_, folder)) in shells.into_iter().zip(FOLDERS) {
        let folder = prefix.join(folder);
        fs::create_dir_all(&folder)?;
        let mut script = Vec::new();
        shell.write_registration("COMPLETE", name, name, name, &mut script)?;
        fs::write(folder.join(file), script)?;
    }
    Ok(())
}

/// The command without its hidden arguments and subcommands, which clap's scripts would offer, too.
fn shown(command: &Command) -> Command {
    let arguments = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    let below = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set());
    let about = command.get_about().cloned().unwrap_or_default();
    // clap needs names with the lifetime of the program, which ends in a moment.
    let name: &'static str = command.get_name().to_owned().leak();
    let version: &'static str = command.get_version().unwrap_or_default().to_owned().leak();
    Command::new(name)
        .about(about)
        .version(version)
        .args(arguments.cloned())
        .subcommands(below.map(shown))
}
