//! `bento init --existing`: makes a fleet of a repository with one flake for all machines, by a `fleet.toml` alone.

mod allow;
mod machines;

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use bento_protocol::Address;

use super::super::check;
use crate::fleet::{self, FILE_NAME};
use crate::problem::Problem;
use crate::scan::{FleetFolder, HostTree, TreeFile};
use crate::text::list::first_few;
use allow::{Allowed, RepositoryFile};
use machines::{Machine, Machines};

/// How many things of a kind are named.
const NAMED: usize = 6;
/// How many times files that can't be published are left out before what is wrong is told instead.
const TRIES: usize = 10;

/// Writes the `fleet.toml` of a repository, and says what each machine would get.
///
/// # Errors
/// When there is one already, when there is no flake, or when the file can't be written.
pub(super) fn init(
    folder: &Path,
    address: &Address,
    port: u16,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let path = folder.join(FILE_NAME);
    if fs::symlink_metadata(&path).is_ok() {
        bail!(
            "{} is there already, and init never overwrites: `bento check` says what it makes of this folder",
            path.display()
        );
    }
    if !folder.join("flake.nix").is_file() {
        bail!(
            "there is no flake.nix in {}: name the folder that holds the flake of all machines, or make a fleet with \
             `bento init` in an empty folder",
            folder.display()
        );
    }
    let folder = fs::canonicalize(folder)?;
    let found = Machines::find(&folder)?;
    let (files, problems) = files(&folder)?;
    let refused: Vec<_> = problems
        .iter()
        .map(|problem| problem.place.as_str())
        .collect();
    let allowed = Allowed::of(
        &repository_files(&folder, &files),
        &refused,
        &found.machines,
    );
    let text = settings(address, port, &found.machines, &allowed);
    // It would be a fault of ours, and nothing is written then.
    if let Err(problems) = fleet::read(&text) {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        bail!(
            "the {FILE_NAME} would have errors:\n{}",
            problems.join("\n")
        );
    }
    let mut file = fs::File::create_new(&path)
        .with_context(|| format!("{} can't be written", path.display()))?;
    file.write_all(text.as_bytes())?;
    writeln!(output, "{} is written.\n", folder.join(FILE_NAME).display())?;
    print_summary(&found, &allowed, &problems, output)?;
    check::preview(&folder, output)?;
    write!(
        output,
        "\nNext:\n\n    \
         {FILE_NAME}                       correct the address, and what a machine gets\n    \
         bento build --dry-run NAME       proves that a machine evaluates with what it gets; needs Nix\n    \
         bento host add NAME --key KEY    enrols a machine, and prints what its configuration needs\n"
    )?;
    Ok(())
}

/// Every file that could be published, and what can't be.
fn files(folder: &Path) -> anyhow::Result<(Vec<TreeFile>, Vec<Problem>)> {
    let opened =
        FleetFolder::open(folder).with_context(|| format!("{} can't be read", folder.display()))?;
    let mut problems: Vec<Problem> = Vec::new();
    for _ in 0..TRIES {
        let places = problems
            .iter()
            .map(|problem| allow::pattern(&problem.place));
        let excluded: Vec<String> = places.map(allow::quoted).collect();
        let text = format!(
            "[server]\naddress = \"localhost\"\n[hosts.all]\nsource = \".\"\nexclude = [{}]\n",
            excluded.join(", ")
        );
        let reading = fleet::read(&text).ok();
        let hosts = reading.map(|reading| reading.fleet.hosts);
        let Some((name, host)) = hosts.and_then(|mut hosts| hosts.pop_first()) else {
            break;
        };
        match HostTree::walk(&opened, &name, &host) {
            Ok(tree) => return Ok((tree.config().to_vec(), problems)),
            Err(new) => problems.extend(new.into_iter().map(|problem| Problem {
                host: None,
                ..problem
            })),
        }
    }
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    bail!("the folder can't be published:\n{}", problems.join("\n"))
}

/// What must be known of the files in order to say who needs them.
fn repository_files(folder: &Path, files: &[TreeFile]) -> Vec<RepositoryFile> {
    let read =
        |file: &TreeFile| RepositoryFile::of(file.path.rest(), &head(&folder.join(&file.real)));
    files.iter().map(read).collect()
}

/// The beginning of a file; nothing of one that can't be read, of which `check` tells.
fn head(path: &Path) -> Vec<u8> {
    use std::io::Read;
    const LIMIT: u64 = 1 << 20;
    let mut head = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        _ = file.take(LIMIT).read_to_end(&mut head);
    }
    head
}

/// The text of `fleet.toml`.
fn settings(address: &Address, port: u16, machines: &[Machine], allowed: &Allowed) -> String {
    let mut text = format!(
        "# The machines of the flake in this folder. `bento check` says what each gets, and what is wrong.\n\n\
         [server]\n# What the machines dial.\naddress = \"{address}\"\nport = {port}\n\n\
         [defaults]\nsource = \".\"\n\
         # A machine gets nothing but what include names, so that whatever is new here, such as a folder of secrets, is\n\
         # nobody's until it is named. {{name}} is the machine's name.\n\
         exclude = [\"*\"]\ninclude = {}\n",
        list(&allowed.include)
    );
    for machine in machines {
        _ = write!(text, "\n[hosts.{}]\nkeys = []\n", machine.name);
        if machine.attribute != machine.name.as_str() {
            _ = writeln!(text, "attribute = {}", allow::quoted(&machine.attribute));
        }
        if let Some(own) = allowed.own.get(&machine.name) {
            _ = writeln!(text, "include = {}", list(own));
        }
    }
    text
}

fn list(patterns: &[String]) -> String {
    let lines: String = patterns
        .iter()
        .map(|pattern| format!("  {},\n", allow::quoted(pattern)))
        .collect();
    format!("[\n{lines}]")
}

fn print_summary(
    found: &Machines,
    allowed: &Allowed,
    problems: &[Problem],
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let count = found.machines.len();
    match count {
        0 => writeln!(
            output,
            "No machine was found {}: write a [hosts.NAME] for each.",
            found.source
        )?,
        1 => writeln!(output, "1 machine, {}.", found.source)?,
        _ => writeln!(output, "{count} machines, {}.", found.source)?,
    }
    if let Some(why) = &found.nix_error {
        writeln!(
            output,
            "Nix couldn't say which there are ({why}): correct the names if need be."
        )?;
    }
    for machine in &found.machines {
        if machine.attribute != machine.name.as_str() {
            writeln!(
                output,
                "{} is called {} in the fleet: {} can't be a user's name.",
                machine.attribute, machine.name, machine.attribute
            )?;
        }
    }
    for plain in allowed.plain.iter().take(NAMED) {
        writeln!(
            output,
            "{} isn't encrypted, and machines get it because {} names it: what is secret belongs into bento-secrets.",
            plain.path, plain.named_by
        )?;
    }
    more(allowed.plain.len(), output)?;
    if !allowed.left_out.is_empty() {
        writeln!(
            output,
            "No machine gets {}.",
            first_few(allowed.left_out.iter(), NAMED * 2)
        )?;
    }
    for problem in problems.iter().take(NAMED) {
        writeln!(output, "Left out: {problem}")?;
    }
    more(problems.len(), output)?;
    writeln!(output)?;
    Ok(())
}

/// How many more there are than are named.
fn more(count: usize, output: &mut dyn Write) -> std::io::Result<()> {
    match count.saturating_sub(NAMED) {
        0 => Ok(()),
        more => writeln!(output, "… and {more} more of them."),
    }
}
