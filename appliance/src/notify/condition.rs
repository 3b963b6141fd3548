use std::collections::BTreeMap;
use std::fmt;

use bento_protocol::HostName;
use jiff::Timestamp;

use crate::status::{HostStatus, MachineStatus, Status};
use crate::text::sanitise::one_line;

/// The longest error that is told, in characters.
const ERROR: usize = 1000;

/// Whose condition it is. The fleet comes before its machines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The fleet as a whole.
    Fleet,
    /// A machine.
    Machine(HostName),
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Fleet => formatter.write_str("the fleet"),
            Subject::Machine(name) => name.fmt(formatter),
        }
    }
}

/// How a machine, or the fleet, is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether somebody has to look at it.
    pub bad: bool,
    /// The machine's state; for the fleet `faulty` or `good`.
    pub state: &'static str,
    /// Whether the machine is silent.
    pub silent: bool,
    /// Whether it is bad though its state by itself is not, because of the error.
    pub faulty: bool,
    /// Since when that is so; none where it isn't known.
    pub since: Option<Timestamp>,
    /// What is wrong, in one line.
    pub error: Option<String>,
}

impl Condition {
    /// The condition of the fleet and of each machine; none where it can't be judged, which changes nothing for whoever
    /// was told.
    ///
    /// With `no_silence` that isn't judged by which machines are silent: where the appliance was away for long, all of
    /// them are, until they have had time to come again.
    pub fn of_all(status: &Status, no_silence: bool) -> BTreeMap<Subject, Option<Self>> {
        let fleet = status.problems.as_deref().map(Self::of_fleet);
        let machines = status.hosts.iter().map(|machine| {
            let condition = Self::of_machine(machine);
            let is_heard = !(no_silence && condition.silent);
            (
                Subject::Machine(machine.name.clone()),
                Some(condition).filter(|_| is_heard),
            )
        });
        [(Subject::Fleet, fleet)]
            .into_iter()
            .chain(machines)
            .collect()
    }

    fn of_machine(machine: &MachineStatus) -> Self {
        let silent = machine.silent == Some(true);
        // For a machine that was just added something is published in a moment; if it can't be, there is an error.
        let is_awaited =
            machine.state == HostStatus::Unpublished && machine.error.is_none() && !silent;
        Condition {
            bad: machine.needs_attention() && !is_awaited,
            state: machine.state.as_str(),
            silent,
            faulty: machine.is_faulty(),
            since: since(machine).filter(|_| !silent),
            error: machine.error.as_deref().map(|error| one_line(error, ERROR)),
        }
    }

    fn of_fleet(problems: &[String]) -> Self {
        let bad = !problems.is_empty();
        Condition {
            bad,
            state: if bad { "faulty" } else { "good" },
            silent: false,
            faulty: false,
            since: None,
            error: bad.then(|| one_line(&problems.join("; "), ERROR)),
        }
    }
}

/// Since when a machine is in its state: since its newest report came, or since something else is published. Of what keeps
/// something from being published the time isn't known.
fn since(machine: &MachineStatus) -> Option<Timestamp> {
    let reported = machine.reported.as_ref()?;
    let published = machine.published.as_ref()?;
    (machine.problems.is_empty()).then(|| reported.at.max(published.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Kept;
    use crate::problem::Problem;
    use crate::publication::published::Published;
    use crate::report::fixture::{generation, report, second};

    fn of(kept: &Kept, no_silence: bool) -> BTreeMap<Subject, Option<Condition>> {
        let status = Status::read(&kept.state, &kept.runtime, second(7200)).unwrap();
        Condition::of_all(&status, no_silence)
    }

    fn machine(name: &str) -> Subject {
        Subject::Machine(name.parse().unwrap())
    }

    #[test]
    fn a_machine_that_was_just_added_is_bad_only_if_it_cannot_be_published() {
        let kept = Kept::new("[hosts.a]\n");
        assert!(!of(&kept, false)[&machine("a")].as_ref().unwrap().bad);
        let problem = Problem::new("hosts/a", "is missing", "make it");
        kept.tell(&[problem.of(&"a".parse().unwrap())]);
        assert!(of(&kept, false)[&machine("a")].as_ref().unwrap().bad);
        assert!(!of(&kept, false)[&Subject::Fleet].as_ref().unwrap().bad);
    }

    #[test]
    fn silence_is_not_judged_before_machines_had_time_to_come() {
        let kept = Kept::new("[defaults]\nsilent_after = \"1h\"\n[hosts.away]\n[hosts.here]\n");
        for (name, contact) in [("away", 0), ("here", 7000)] {
            kept.publish(name, &Published::new(generation('a'), second(0)));
            kept.report(name, &[report('a')]);
            kept.contact(name, second(contact));
        }
        let bad = |no_silence, name| {
            let condition = &of(&kept, no_silence)[&machine(name)];
            condition.as_ref().map(|condition| condition.bad)
        };
        assert_eq!((bad(true, "away"), bad(true, "here")), (None, Some(false)));
        assert_eq!(
            (bad(false, "away"), bad(false, "here")),
            (Some(true), Some(false))
        );
    }

    #[test]
    fn without_an_appliance_nobody_knows_of_the_fleet() {
        let kept = Kept::new("");
        std::fs::remove_file(kept.runtime.problems()).unwrap();
        assert_eq!(of(&kept, false), [(Subject::Fleet, None)].into());
    }
}
