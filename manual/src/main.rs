//! `bento-manual`: writes man pages, completions and the reference.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use bento_manual::{completions, pages, programs, reference};
use clap::Parser;

/// Generate the manual of bento's commands
#[derive(Debug, Parser)]
#[command(name = "bento-manual", version)]
enum CommandLine {
    /// Write man pages and completions to share/ in a folder
    Install {
        /// The folder, such as /usr/local
        prefix: PathBuf,
        /// Only for these programs
        programs: Vec<String>,
    },
    /// Print docs/reference.md
    Reference,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bento-manual: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match CommandLine::parse() {
        CommandLine::Install {
            prefix,
            programs: wanted,
        } => install(&prefix, &wanted),
        CommandLine::Reference => {
            let text = reference::text();
            std::io::stdout()
                .write_all(text.as_bytes())
                .context("can't print")
        }
    }
}

fn install(prefix: &std::path::Path, wanted: &[String]) -> anyhow::Result<()> {
    let all = programs();
    let is_known = |name: &&String| {
        all.iter()
            .any(|program| program.get_name() == name.as_str())
    };
    if let Some(unknown) = wanted.iter().find(|name| !is_known(name)) {
        bail!("there is no program {unknown}");
    }
    for program in all {
        let name = program.get_name();
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let written = completions::write(program.clone(), prefix)
            .and_then(|()| pages::write(program, prefix));
        written.with_context(|| format!("{} can't be written", prefix.display()))?;
    }
    Ok(())
}
