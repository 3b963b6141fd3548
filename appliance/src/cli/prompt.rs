//! The prompt before a command changes something.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use clap::Args;

/// The option that skips the prompt.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfirmOption {
    /// Don't ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

impl ConfirmOption {
    /// Whether the user has to be asked.
    pub fn asks(self) -> bool {
        !self.yes
    }

    /// Requires a terminal for the prompt, if one is needed.
    ///
    /// # Errors
    /// When standard input isn't a terminal.
    pub fn require_terminal(self) -> anyhow::Result<()> {
        if !self.yes && !io::stdin().is_terminal() {
            bail!(
                "can't ask for confirmation, because standard input isn't a terminal: use --yes to confirm"
            );
        }
        Ok(())
    }

    /// Asks the user, unless `--yes` is given; any answer but yes means no.
    ///
    /// # Errors
    /// When standard input isn't a terminal.
    pub fn ask(self, question: &str) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        self.require_terminal()?;
        let mut errors = io::stderr();
        write!(errors, "{question} [y/N] ")
            .and_then(|()| errors.flush())
            .context("can't print the question")?;
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
