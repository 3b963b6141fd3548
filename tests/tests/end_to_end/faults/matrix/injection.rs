//! How a fault comes over an update.

use anyhow::{Context, Result, ensure};
use bento_tests::guest::Halted;
use bento_tests::process::{self, Running};
use bento_tests::wait;

use super::Fault;
use crate::faults::env::{FaultEnv, Whole};
use crate::vm::exits;

/// An update that stands still.
enum Update {
    /// It waits for an answer that never comes, or for its switch.
    Waiting(Running),
    Halted(Halted),
}

impl FaultEnv {
    /// Starts an update and halts it in a phase.
    fn halt(&self, phase: &str) -> Result<Update> {
        if phase != "poll" {
            return Ok(Update::Halted(self.vm.guest.update_halted_at(phase)?));
        }
        self.proxy.stall();
        let before = self.proxy.count().connections;
        let update = self.start_update()?;
        wait::until("the poll to begin", process::SHORT, || {
            (self.proxy.count().connections > before).then_some(())
        })?;
        Ok(Update::Waiting(update))
    }

    /// Starts an update and waits until its switch stands still halfway.
    fn halt_halfway(&self, phase: &str) -> Result<Running> {
        let at = match phase {
            "activate" => "/run/halt-activation",
            "commit" => "/run/halt-boot-loader",
            _ => anyhow::bail!("no switch goes on in the phase {phase}"),
        };
        self.vm.guest.put_file(at, "600", "")?;
        let update = self.start_update()?;
        self.await_removal(at)?;
        Ok(update)
    }

    fn kill_client(&self) -> Result<()> {
        let kill = "kill -KILL $(cat /var/lib/bento/lock)";
        self.vm.guest.shell(kill)?.success().map(drop)
    }

    /// Starts an update, lets this happen to it, and puts right what was broken, for the next one.
    pub(super) fn go_wrong(&mut self, fault: Fault, phase: &str) -> Result<()> {
        let guest = &mut self.vm.guest;
        match fault {
            Fault::Kill => match self.halt(phase)? {
                Update::Waiting(update) => {
                    self.kill_client()?;
                    update.end(process::SHORT)?;
                }
                Update::Halted(halted) => {
                    halted.kill()?;
                }
            },
            Fault::KillHalfway => {
                let update = self.halt_halfway(phase)?;
                self.kill_client()?;
                update.end(process::SHORT)?;
            }
            Fault::Unit if matches!(phase, "activate" | "commit") => {
                let update = self.halt_halfway(phase)?;
                self.vm.guest.kill_unit("bento-activate-*")?;
                exits(&update.end(process::SHORT)?, 3);
            }
            Fault::Unit => {
                let halted = guest.update_halted_at(phase)?;
                let stopped = guest.shell("systemctl stop 'bento-rollback-*.timer'")?;
                stopped.success()?;
                exits(&halted.go_on()?, 0);
            }
            Fault::RollbackUnit => {
                let halted = guest.update_halted_at(phase)?;
                halted.kill()?;
                let at = "/run/halt-activation";
                guest.put_file(at, "600", "")?;
                let time_is_over = "cd /run/systemd/transient; systemctl start --no-block bento-rollback-*.service";
                guest.shell(time_is_over)?.success()?;
                self.await_removal(at)?;
                self.vm.guest.kill_unit("bento-rollback-*.service")?;
            }
            Fault::Network => self.lose_the_network(phase)?,
            Fault::StateFull | Fault::StoreFull => self.run_out_of_disk(phase)?,
            Fault::Stop => {
                let update = self.halt(phase)?;
                self.vm.guest.stop()?;
                self.start_again(update)?;
            }
            Fault::PowerCut => {
                let update = self.halt(phase)?;
                self.vm.guest.cut_power()?;
                self.start_again(update)?;
            }
            Fault::PowerCutHalfway => {
                let update = self.halt_halfway(phase)?;
                self.vm.guest.cut_power()?;
                self.start_again(Update::Waiting(update))?;
            }
        }
        self.proxy.mend();
        Ok(())
    }

    fn lose_the_network(&mut self, phase: &str) -> Result<()> {
        let boot = self.vm.guest.boot_id()?;
        let halted = match self.halt(phase)? {
            Update::Waiting(update) => {
                self.proxy.cut();
                exits(&update.end(process::SHORT)?, 4);
                return Ok(());
            }
            Update::Halted(halted) => halted,
        };
        self.proxy.cut();
        if !matches!(phase, "activate" | "confirm") {
            let output = halted.go_on()?;
            match phase {
                "reboot" => {
                    let booted = self.vm.guest.await_another_boot(&boot);
                    booted.with_context(|| format!("{}{}", output.stdout, output.stderr))?;
                }
                "pull" => exits(&output, 4),
                _ => exits(&output, 0),
            }
            return Ok(());
        }
        // The client gives the network some time to come back with the old system.
        std::thread::scope(|scope| {
            let run = scope.spawn(|| halted.go_on());
            let back = wait::until("the old system to come back", process::SHORT, || {
                let decided = "test -e /var/lib/bento/armed/*.rolled-back";
                let decided = self.vm.guest.shell(decided).ok()?;
                decided.status.success().then_some(())
            });
            self.proxy.mend();
            let output = run.join().expect("it doesn't panic")?;
            back?;
            exits(&output, 3);
            Ok(())
        })
    }

    fn run_out_of_disk(&mut self, phase: &str) -> Result<()> {
        let boot = self.vm.guest.boot_id()?;
        if phase == "poll" {
            self.vm.guest.fill()?;
            let output = self.vm.update()?;
            ensure!(output.code() != 0, "{}{}", output.stdout, output.stderr);
        } else {
            let halted = self.vm.guest.update_halted_at(phase)?;
            self.vm.guest.fill()?;
            halted.go_on()?;
            if phase == "reboot" {
                self.vm.guest.await_another_boot(&boot)?;
            }
        }
        self.vm.guest.free()
    }

    /// After the machine's end: it comes up wholly old or wholly new before any client was started.
    fn start_again(&mut self, update: Update) -> Result<()> {
        // It ended with the machine, in whatever way.
        match update {
            Update::Waiting(update) => update.end(process::SHORT)?,
            Update::Halted(halted) => halted.end()?,
        };
        self.vm.guest.start()?;
        let Whole {
            running, booted, ..
        } = self.whole(false)?;
        ensure!(running == booted, "{booted} was booted, {running} runs");
        Ok(())
    }
}
