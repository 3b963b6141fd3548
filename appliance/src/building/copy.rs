//! Brings systems to other stores.

use bento_nix::{BuildError, Tail, flake_command};
use bento_protocol::SystemPath;

use super::Options;
use super::interruption::Interruption;
use super::screen::Screen;

/// Copies systems, with all that they need, to a store, such as `file:///srv/cache` or `ssh://cache`. Why it can't is
/// said in Nix' words.
pub(super) fn copy(
    systems: &[&SystemPath],
    store: &str,
    interruption: &Interruption,
    line: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let mut command = flake_command(&["copy", "--to", store]);
    command.args(systems.iter().map(|system| system.as_str()));
    let mut said = Tail::default();
    let status = interruption.run(command, &mut |text| {
        said.push(text);
        line(text);
    });
    let status = status.map_err(|error| format!("{error:#}"))?;
    match BuildError::of_program("nix copy", status, &said) {
        None => Ok(()),
        Some(_) if interruption.is_wanted() => Err("interrupted".to_owned()),
        Some(failed) => Err(format!("{:#}", failed.error)),
    }
}

/// Copies systems to all stores that the options name; gives those that it can't be copied to, and why.
pub(super) fn fill(
    systems: &[&SystemPath],
    options: &Options,
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
        if interruption.is_wanted() {
            break;
        }
        screen.say(&format!("Copying {what} to {store}"))?;
        let copied = copy(systems, store, interruption, &mut |line| {
            if options.verbose {
                eprintln!("{line}");
            }
        });
        if let Err(essence) = copied {
            screen.fail(&format!("can't copy to {store}:"), &essence)?;
            uncopied.push((store.clone(), essence));
        }
    }
    Ok(uncopied)
}
