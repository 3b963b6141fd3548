//! Pause of updates by the machine's owner: it still polls and reports.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, ToSpan, Zoned};
use serde::{Deserialize, Serialize};

use crate::state::State;
use crate::state::atomic_file;
use crate::state::record;

/// Longest time for which a machine can be held: a forgotten hold mustn't end its updates.
pub const LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);

/// Record of a hold.
#[derive(Debug, Serialize, Deserialize)]
struct Hold {
    until: Timestamp,
}

/// End of the hold; none if it has passed, or if there is no hold.
///
/// An end further away than [`LONGEST`] was set while the clock was wrong, and doesn't count either. The same goes for a
/// record that can't be read: it must not stop updates for ever.
pub fn until(state: &State, now: Timestamp) -> Option<Timestamp> {
    read(state, now).unwrap_or_default()
}

/// The same, with the error if the record can't be read.
pub(crate) fn read(state: &State, now: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    let hold: Option<Hold> = record::read(&state.hold())?;
    let until = hold.map(|hold| hold.until);
    Ok(until.filter(|until| is_possible(*until, now)))
}

/// Holds the machine until a time.
pub(crate) fn begin(state: &State, until: Timestamp, now: Timestamp) -> anyhow::Result<()> {
    ensure!(until > now, "{until} has passed already");
    ensure!(
        is_possible(until, now),
        "{until} is too far away: a machine can be held for at most {} days",
        LONGEST.as_secs() / (24 * 3600)
    );
    let write = || {
        state.prepare()?;
        record::write(&state.hold(), &Hold { until })
    };
    write().context(NOT_ALLOWED)
}

/// Ends the hold.
pub(crate) fn end(state: &State) -> anyhow::Result<()> {
    atomic_file::remove_if_there(&state.hold())
        .with_context(|| format!("can't remove {}", state.hold().display()))
        .context(NOT_ALLOWED)
}

const NOT_ALLOWED: &str = "can't keep that";

fn is_possible(until: Timestamp, now: Timestamp) -> bool {
    let left = until.duration_since(now);
    Duration::try_from(left).is_ok_and(|left| !left.is_zero() && left <= LONGEST)
}

/// The time that people mean: RFC 3339 (`2026-11-24T18:00:00+01:00`), or where this machine is, `2026-11-24 18:00`, or
/// `18:00` for the next time that a clock shows it.
pub(crate) fn time(text: &str, now: &Zoned) -> anyhow::Result<Timestamp> {
    let local = |time: DateTime| Ok(time.to_zoned(now.time_zone().clone())?.timestamp());
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return local(time);
    }
    let time: Time = text.parse().ok().with_context(|| {
        format!(
            "{text:?} isn't a time such as \"18:00\", \"2026-11-24 18:00\" or \"2026-11-24T18:00:00+01:00\""
        )
    })?;
    let today = local(now.date().to_datetime(time))?;
    if today > now.timestamp() {
        return Ok(today);
    }
    local(now.date().checked_add(1.day())?.to_datetime(time))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn berlin(text: &str) -> Zoned {
        // In place of a database of time zones, which not every machine has.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        text.parse::<DateTime>().unwrap().to_zoned(zone).unwrap()
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = berlin("2026-10-24 17:00");
        for (text, expected) in [
            ("2026-10-24T18:00:00Z", "2026-10-24T18:00:00Z"),
            ("2026-10-24T18:00+02:00", "2026-10-24T16:00:00Z"),
            ("2026-10-24 18:00", "2026-10-24T16:00:00Z"),
            ("2026-10-24T18:00", "2026-10-24T16:00:00Z"),
            ("2026-12-24", "2026-12-23T23:00:00Z"),
            ("18:00", "2026-10-24T16:00:00Z"),
            // Tomorrow, and clocks have been put back until then.
            ("17:00", "2026-10-25T16:00:00Z"),
            ("06:30", "2026-10-25T05:30:00Z"),
        ] {
            assert_eq!(time(text, &now).unwrap().to_string(), expected, "{text}");
        }
        for bad in ["", "soon", "25:00", "2026-13-01 10:00", "4h"] {
            assert!(time(bad, &now).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_hold_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path()).unwrap();
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let evening: Timestamp = "2026-11-23T18:00:00Z".parse().unwrap();
        assert_eq!(until(&state, now), None);
        begin(&state, evening, now).unwrap();
        assert_eq!(until(&state, now), Some(evening));
        assert_eq!(until(&state, evening), None);
        end(&state).unwrap();
        assert_eq!(until(&state, now), None);
        end(&state).unwrap();
    }

    #[test]
    fn nonsense_is_refused_and_nonsense_on_disk_does_not_stop_updates() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path()).unwrap();
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let after = |days: i64| now + (days * 24).hours();
        let says = |until| begin(&state, until, now).unwrap_err().to_string();
        assert!(says(now).contains("has passed"));
        assert!(says(after(91)).contains("at most 90 days"));
        begin(&state, after(90), now).unwrap();
        // The clock is put back by a year: nobody asked for that long.
        assert_eq!(until(&state, after(-365)), None);
        std::fs::write(state.hold(), "{").unwrap();
        assert_eq!(until(&state, now), None);
        assert!(read(&state, now).is_err());
    }
}
