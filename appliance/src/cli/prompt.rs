//! Asks before something is done.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use clap::Args;

/// Whether a command may go on without asking.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfirmOption {
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

impl ConfirmOption {
    /// Whether somebody has to be asked.
    pub fn asks(self) -> bool {
        !self.yes
    }

    /// That somebody is there to be asked, unless nobody needs to be.
    ///
    /// # Errors
    /// When there is nobody who could answer.
    pub fn require_terminal(self) -> anyhow::Result<()> {
        if !self.yes && !io::stdin().is_terminal() {
            bail!("nobody is there to be asked whether that is wanted: say --yes if it is");
        }
        Ok(())
    }

    /// Whether the administrator wants it: asks, unless that was said before. Anything but a clear yes is a no.
    ///
    /// # Errors
    /// When there is nobody who could answer.
    pub fn ask(self, question: &str) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        self.require_terminal()?;
        let mut errors = io::stderr();
        write!(errors, "{question} [y/N] ")
            .and_then(|()| errors.flush())
            .context("can't ask")?;
        let mut answer = String::new();
        io::stdin()
            .lock()
            .read_line(&mut answer)
            .context("can't read the answer")?;
        Ok(matches!(
            answer.trim().to_ascii_lowercase().as_str(),
            "y" | "yes"
        ))
    }
}
