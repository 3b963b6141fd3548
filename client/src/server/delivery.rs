//! Delivers the reports that wait.

use std::time::Duration;

use anyhow::bail;
use bento_protocol::{Report, ReportName, RunId, chroot};
use jiff::Timestamp;

use crate::server::connection::{Connection, Created};
use crate::state::State;
use crate::state::record;
use crate::state::record::Delivered;
use crate::state::spool;
use crate::state::spool::{Spool, Waiting};

/// How many names are tried for one report in one run. An upload that was cut leaves one name taken; more taken ones
/// mean that the server refuses for a reason that its answer doesn't show.
const ATTEMPTS: u32 = 3;
/// The pause after a report. Those that come within one tick of the server's clock, at most 10 ms, it could only order by
/// the ids of their runs; these begin with the time, and a clock that was set back would put the later run first.
const PAUSE: Duration = Duration::from_millis(20);

/// Delivers the reports that wait, in the order of their runs; the first that can't be delivered stops the rest.
/// Reports that can't be read are dropped, and passed to `complain`.
pub(crate) fn deliver(
    connection: &Connection,
    state: &State,
    complain: &mut dyn FnMut(anyhow::Error),
) -> anyhow::Result<()> {
    let spool = Spool::new(state);
    for waiting in spool.waiting()? {
        match spool.report(&waiting) {
            Ok(report) => {
                let delivered = upload(connection, &spool, waiting)?;
                record_delivery(state, &report, connection.server())?;
                spool.remove(&delivered)?;
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                complain(error.context("a report is lost"));
                spool.remove(&waiting)?;
            }
        }
    }
    Ok(())
}

/// Remembers that a server has a report.
pub(crate) fn record_delivery(state: &State, report: &Report, server: &str) -> anyhow::Result<()> {
    let path = state.delivered();
    // One that is damaged is as good as none.
    let last = record::read(&path).ok().flatten();
    let delivered = Delivered::after(last, report, server, Timestamp::now());
    record::write(&path, &delivered)
}

/// Delivers a report that is nowhere on disk.
pub(crate) fn send(connection: &Connection, report: &Report) -> anyhow::Result<()> {
    let content = spool::compressed(report)?;
    for attempt in 1..=ATTEMPTS {
        let name = ReportName {
            run: report.run,
            attempt,
        };
        if connection.create(&format!("{}/{name}", chroot::LOGS), &content)? == Created::Written {
            return Ok(());
        }
    }
    bail!("{}", not_taken(connection, report.run))
}

fn not_taken(connection: &Connection, run: RunId) -> String {
    format!(
        "{} doesn't take the report of run {run}: its {} may be full",
        connection.server(),
        chroot::LOGS
    )
}

fn upload(connection: &Connection, spool: &Spool, mut waiting: Waiting) -> anyhow::Result<Waiting> {
    let content = spool.content(&waiting)?;
    for _ in 0..ATTEMPTS {
        match connection.create(&format!("{}/{}", chroot::LOGS, waiting.name), &content) {
            Ok(Created::Written) => return Ok(waiting),
            // Left by an upload that was cut in a run before.
            Ok(Created::Exists) => waiting = spool.next_attempt(&waiting)?,
            Err(error) => {
                // The name may be taken now, by a part of the report.
                spool.next_attempt(&waiting)?;
                return Err(error.into());
            }
        }
    }
    bail!("{}", not_taken(connection, waiting.name.run))
}
