//! `bento init --existing`: writes a `fleet.toml` for a repository with one flake for all machines.

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
use machines::{FlakeMachine, FoundMachines};

/// The most items of a kind that are listed.
const NAMED: usize = 6;
/// The most scans, each without the unpublishable files of the scan before.
const TRIES: usize = 10;

/// Writes the `fleet.toml` of a repository, and prints a preview.
///
/// # Errors
/// When the file exists, there is no flake, or the file can't be written.
pub(super) fn init(
    folder: &Path,
    address: &Address,
    port: u16,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let path = folder.join(FILE_NAME);
    if fs::symlink_metadata(&path).is_ok() {
        bail!(
            "{} already exists, and init never overwrites files: run `bento check` for a preview of this folder",
            path.display()
        );
    }
    if !folder.join("flake.nix").is_file() {
        bail!(
            "there is no flake.nix in {}: name the folder with the flake of all machines, or run `bento init` in an empty \
             folder",
            folder.display()
        );
    }
    let folder = fs::canonicalize(folder)?;
    let found = FoundMachines::find(&folder)?;
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
    // This would be a bug; nothing is written then.
    if let Err(problems) = fleet::read(&text) {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        bail!(
            "the {FILE_NAME} would have errors:\n{}",
            problems.join("\n")
        );
    }
    let mut file =
        fs::File::create_new(&path).with_context(|| format!("can't write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    writeln!(output, "Wrote {}.\n", folder.join(FILE_NAME).display())?;
    print_summary(&found, &allowed, &problems, output)?;
    check::preview(&folder, output)?;
    write!(
        output,
        "\nNext:\n\n    \
         {FILE_NAME}                       correct the address and the files of each machine\n    \
         bento build --dry-run NAME       check that a machine evaluates with its files; needs Nix\n    \
         bento host add NAME --key KEY    enrol a machine, and print its setup\n"
    )?;
    Ok(())
}

/// The publishable files, and the problems of the others.
fn files(folder: &Path) -> anyhow::Result<(Vec<TreeFile>, Vec<Problem>)> {
    let opened =
        FleetFolder::open(folder).with_context(|| format!("can't read {}", folder.display()))?;
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
    bail!("can't publish the folder:\n{}", problems.join("\n"))
}

/// The files with their contents as far as [`Allowed`] needs them.
fn repository_files(folder: &Path, files: &[TreeFile]) -> Vec<RepositoryFile> {
    let read =
        |file: &TreeFile| RepositoryFile::of(file.path.rest(), &head(&folder.join(&file.real)));
    files.iter().map(read).collect()
}

/// The beginning of a file; empty if it can't be read, which `check` reports.
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
fn settings(address: &Address, port: u16, machines: &[FlakeMachine], allowed: &Allowed) -> String {
    let mut text = format!(
        "# The machines of the flake in this folder. `bento check` prints a preview and lists problems.\n\n\
         [server]\n# The address and port of the appliance for the machines.\naddress = \"{address}\"\nport = {port}\n\n\
         [defaults]\nsource = \".\"\n\
         # A machine gets only the paths in include, so a new path, such as a folder of secrets, isn't published until it\n\
         # is added here. {{name}} is the machine's name.\n\
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
    found: &FoundMachines,
    allowed: &Allowed,
    problems: &[Problem],
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let count = found.machines.len();
    match count {
        0 => writeln!(
            output,
            "No machines found {}: add a [hosts.NAME] for each.",
            found.source
        )?,
        1 => writeln!(output, "1 machine, {}.", found.source)?,
        _ => writeln!(output, "{count} machines, {}.", found.source)?,
    }
    if let Some(why) = &found.nix_error {
        writeln!(
            output,
            "Can't read the machines from Nix ({why}): check the names."
        )?;
    }
    for machine in &found.machines {
        if machine.attribute != machine.name.as_str() {
            writeln!(
                output,
                "{} is named {} in the fleet, because {} can't be the name of a user.",
                machine.attribute, machine.name, machine.attribute
            )?;
        }
    }
    for plain in allowed.plain.iter().take(NAMED) {
        writeln!(
            output,
            "{} isn't encrypted, but machines get it because {} uses it: move secrets to bento-secrets.",
            plain.path, plain.named_by
        )?;
    }
    more(allowed.plain.len(), output)?;
    if !allowed.left_out.is_empty() {
        writeln!(
            output,
            "Not published: {}.",
            first_few(allowed.left_out.iter(), NAMED * 2)
        )?;
    }
    for problem in problems.iter().take(NAMED) {
        writeln!(output, "Can't be published: {problem}")?;
    }
    more(problems.len(), output)?;
    writeln!(output)?;
    Ok(())
}

/// Prints the number of items that aren't listed.
fn more(count: usize, output: &mut dyn Write) -> std::io::Result<()> {
    match count.saturating_sub(NAMED) {
        0 => Ok(()),
        more => writeln!(output, "… and {more} more of them."),
    }
}
