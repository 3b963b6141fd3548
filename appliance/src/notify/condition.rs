use std::collections::BTreeMap;
use std::fmt;

use bento_protocol::HostName;
use jiff::Timestamp;

use crate::status::{HostStatus, MachineStatus, Status};
use crate::text::sanitise::one_line;

/// The longest error in a message, in characters.
const ERROR: usize = 1000;

/// The subject of a condition. The fleet sorts before its machines.
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

/// The condition of a machine or of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it needs attention.
    pub bad: bool,
    /// The machine's state; for the fleet, `faulty` or `good`.
    pub state: &'static str,
    /// Whether the machine is silent.
    pub silent: bool,
    /// Whether it is bad only because of the error, not because of its state.
    pub faulty: bool,
    /// The beginning of the condition, if known.
    pub since: Option<Timestamp>,
    /// The error, in one line.
    pub error: Option<String>,
}

impl Condition {
    /// The condition of the fleet and of each machine; none if unknown, which causes no message.
    ///
    /// With `no_silence`, silent machines are unknown: after a long outage of the appliance all are silent, until they
    /// have had time to connect.
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
        // A machine that was just added will be published in a moment, or has an error.
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

/// The beginning of a machine's state: the later of its newest report and the publication. Unknown if a problem
/// prevents its publication.
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
    fn a_machine_that_was_just_added_is_bad_only_with_a_problem() {
        let kept = Kept::new("[hosts.a]\n");
        assert!(!of(&kept, false)[&machine("a")].as_ref().unwrap().bad);
        let problem = Problem::new("hosts/a", "is missing", "make it");
        kept.set_problems(&[problem.of(&"a".parse().unwrap())]);
        assert!(of(&kept, false)[&machine("a")].as_ref().unwrap().bad);
        assert!(!of(&kept, false)[&Subject::Fleet].as_ref().unwrap().bad);
    }

    #[test]
    fn silent_machines_are_unknown_with_no_silence() {
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
    fn without_an_appliance_the_fleet_is_unknown() {
        let kept = Kept::new("");
        std::fs::remove_file(kept.runtime.problems()).unwrap();
        assert_eq!(of(&kept, false), [(Subject::Fleet, None)].into());
    }
}
