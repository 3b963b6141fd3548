//! What of the client's doings still goes on in a guest.

use anyhow::{Context, Result, ensure};

use super::Guest;
use crate::{process, wait};

/// One a line: transient units, which are those that the client made, and the client's processes. The
/// units of the machine's configuration lie elsewhere, and `env` says what a process was asked to do.
const LIST: &str = r"
    for unit in /run/systemd/transient/bento-*; do
        [ ! -e $unit ] || echo unit ${unit##*/}
    done
    for process in /proc/[0-9]*; do
        read -r name 2>/dev/null <$process/comm || continue
        case $name in bento-*) echo process ${process#/proc/} $(tr '\0' ' ' 2>/dev/null <$process/cmdline) ;; esac
    done
";

impl Guest {
    /// What of the client goes on: its transient units and timers, and its processes, one a line.
    ///
    /// # Errors
    /// If the guest doesn't run.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let listed = self.shell(LIST)?.success()?.stdout;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Waits until nothing of the client goes on, and nothing is armed.
    ///
    /// # Errors
    /// If that isn't so within a minute: the error names what goes on.
    pub fn await_quiet(&self) -> Result<()> {
        let mut left = Vec::new();
        wait::until("the client to be done", process::SHORT, || {
            left = self.leftovers().ok()?;
            left.is_empty().then_some(())
        })
        .with_context(|| format!("still there: {left:?}"))
    }

    /// Waits until a unit that matches a pattern of systemctl's runs, and kills all of its processes.
    ///
    /// # Errors
    /// If there is none within a minute.
    pub fn kill_unit(&self, pattern: &str) -> Result<()> {
        let states = "--state=activating,active,deactivating";
        let question = ["systemctl", "list-units", "--plain", "--no-legend", states];
        wait::until(
            &format!("a unit {pattern} that runs"),
            process::SHORT,
            || {
                let units = self.run(question.iter().chain(&[pattern])).ok()?;
                (!units.stdout.trim().is_empty()).then_some(())
            },
        )?;
        let killed = self.run(["systemctl", "kill", "--signal=KILL", pattern])?;
        ensure!(
            killed.status.success(),
            "{pattern} couldn't be killed: {}",
            killed.stderr
        );
        Ok(())
    }
}
