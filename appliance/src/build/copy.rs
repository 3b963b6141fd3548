//! Copies systems to other stores.

use bento_nix::{Tail, flake_command};
use bento_protocol::SystemPath;

use super::BuildOptions;
use super::interruption::Interruption;
use super::screen::Screen;
use super::ssh::ssh_options;
use crate::text::sanitise::line_as_is;
use crate::text::terminal::to_stderr;

/// The number of lines of ssh that are shown: the last ones hold the cause.
const SSH_LINES: usize = 3;

/// Copies systems with their closures to a store, such as `file:///srv/cache` or `ssh://cache`. An error is in Nix'
/// words.
pub(super) fn copy(
    systems: &[&SystemPath],
    store: &str,
    interruption: &Interruption,
    line: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let mut command = flake_command(&["copy", "--to", store]);
    command.args(systems.iter().map(|system| system.as_str()));
    command.env("NIX_SSHOPTS", ssh_options());
    let mut said = Tail::default();
    let status = interruption.run(command, &mut |text| {
        said.push(text);
        line(text);
    });
    let status = status.map_err(|error| format!("{error:#}"))?;
    match bento_nix::failure("nix copy", status, &said) {
        None => Ok(()),
        Some(_) if interruption.is_requested() => Err("interrupted".to_owned()),
        Some(failed) => {
            let reason = format!("{}{:#}", ssh_error(store, &said), failed);
            // The other side may send anything.
            let lines = reason.lines().map(line_as_is);
            Err(lines.collect::<Vec<_>>().join("\n"))
        }
    }
}

/// The output of ssh before Nix' own error: Nix doesn't know the cause.
fn ssh_error(store: &str, said: &Tail) -> String {
    if !store.starts_with("ssh") {
        return String::new();
    }
    let is_nix = |line: &&str| line.contains("error:");
    let lines = said.lines().take_while(|line| !is_nix(line));
    let lines = lines.filter(|line| !line.trim().is_empty() && !line.starts_with("copying "));
    let lines: Vec<_> = lines.collect();
    let last = &lines[lines.len().saturating_sub(SSH_LINES)..];
    last.iter()
        .map(|line| format!("{}\n", line.trim()))
        .collect()
}

/// Copies systems to all stores of the options; returns the stores that failed, with the cause.
pub(super) fn copy_to_stores(
    systems: &[&SystemPath],
    options: &BuildOptions,
    interruption: &Interruption,
    screen: &mut Screen<'_>,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut uncopied = Vec::new();
    if systems.is_empty() {
        return Ok(uncopied);
    }
    let what = match systems.len() {
        1 => "1 system".to_owned(),
        count => format!("{count} systems"),
    };
    for store in &options.copy_to {
        if interruption.is_requested() {
            break;
        }
        screen.print_line(&format!("Copying {what} to {store}"))?;
        let copied = copy(systems, store, interruption, &mut |line| {
            if options.verbose {
                to_stderr(line);
            }
        });
        if let Err(reason) = copied {
            screen.print_error(&format!("can't copy to {store}:"), &reason)?;
            uncopied.push((store.clone(), reason));
        }
    }
    Ok(uncopied)
}
