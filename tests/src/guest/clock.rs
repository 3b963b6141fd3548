//! Another time of day, for one command of a guest.

use std::ffi::OsStr;

use anyhow::{Context, Result};

use super::Guest;
use crate::process::{self, Output};

/// Debian has one for each architecture.
const LIBRARY: &str = "ls /usr/lib/*/faketime/libfaketime.so.1";

/// Programs that only ask systemd for something, whose event loop fails on a clock that isn't the kernel's: they get
/// the right time, as systemd has it.
const WITHOUT: &str = r#"
    mkdir -p /run/right-time
    for program in systemctl systemd-inhibit systemd-run; do
        printf '#!/bin/sh\nunset LD_PRELOAD\nexec /usr/bin/%s "$@"\n' $program >/run/right-time/$program
        chmod 755 /run/right-time/$program
    done
    echo "/run/right-time:$PATH"
"#;

impl Guest {
    /// Runs a command, and its children, with a clock that is wrong by so many seconds: behind if it is
    /// negative. Machines can't have clocks of their own here, all share the kernel's; what the
    /// command leaves to others, e.g. to systemd, has the right time.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn run_with_clock<I>(&self, seconds: i64, command: I) -> Result<Output>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let libraries = self.shell(LIBRARY)?.success()?.stdout;
        let library = libraries
            .lines()
            .next()
            .context("there is no libfaketime")?;
        let path = self.shell(WITHOUT)?.success()?.stdout;
        let mut entered = self.command([
            "env",
            &format!("PATH={}", path.trim()),
            &format!("LD_PRELOAD={library}"),
            &format!("FAKETIME={seconds:+}"),
            // A clock that is set wrong doesn't change how long anything takes.
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ])?;
        process::run(entered.args(command), process::LONG)
    }
}
