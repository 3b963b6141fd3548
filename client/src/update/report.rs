use anyhow::anyhow;
use bento_protocol::RunId;

use super::knowledge::Knowledge;
use super::{Effects, Transaction, UpdateOptions, pending_boot};
use crate::exit::{ExitReason, Failure};
use crate::state::record::{Before, Journal};

/// Reports the present state, also if the last report was the same. Changes nothing of the machine, but first completes
/// what a run left undone.
///
/// # Errors
/// If no server can be polled, the report can't be delivered and waits for the next run, or there is
/// nothing to report because nothing was ever installed.
pub fn report_now(effects: &mut impl Effects) -> Result<(), Failure> {
    let unreturned = super::recover(effects).unreturned;
    pending_boot::complete(effects)?;
    let run = RunId::now();
    let started = effects.now();
    let situation = effects.situation();
    let failed = |reason, error| Failure { reason, error };
    let polled = effects.poll();
    let generation = polled.map_err(|error| failed(ExitReason::Server, error))?;
    let knowledge = Knowledge::of(effects);
    // As on a machine that is held: its last attempt counts, whatever is published.
    let standing = knowledge.standing(generation, true, false, started);
    let before = Before::now(&situation, knowledge.secrets());
    let mut transaction = Transaction {
        effects,
        options: UpdateOptions::default(),
        journal: Journal {
            unreturned: unreturned.map(Box::new),
            ..Journal::begun(run, generation, started, before)
        },
        returns_by_boot: false,
    };
    if !transaction.report_change(&standing, true) {
        let nothing = "nothing was installed or tried yet: `bento-client update` does, and reports";
        return Err(failed(ExitReason::RebuildFailed, anyhow!(nothing)));
    }
    match effects.deliver() {
        true => Ok(()),
        false => Err(failed(
            ExitReason::Server,
            anyhow!("the report isn't delivered: it waits for the next run"),
        )),
    }
}
