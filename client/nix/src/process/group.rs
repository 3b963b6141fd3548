use std::fmt;
use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// A process group, identified by its number and the start time of its leader, since numbers are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    leader: Pid,
    /// In clock ticks since the boot, as in proc_pid_stat(5).
    started: u64,
}

/// Time for a group to end after TERM.
const TIDY: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

impl Group {
    /// The group of a group leader.
    pub fn of(leader: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", leader.as_raw_nonzero())).ok()?;
        // The name is in parentheses, and may have any character.
        let fields = stat.rsplit_once(')')?.1;
        let started = fields.split_whitespace().nth(19)?.parse().ok()?;
        Some(Group { leader, started })
    }

    /// A group from its text.
    pub fn parse(text: &str) -> Option<Self> {
        let (leader, started) = text.trim().split_once(' ')?;
        Some(Group {
            leader: Pid::from_raw(leader.parse().ok()?)?,
            started: started.parse().ok()?,
        })
    }

    /// Ends the group, if it still exists: with TERM, and then with KILL.
    pub fn end(self) {
        if Group::of(self.leader) != Some(self) {
            return;
        }
        let _ = kill_process_group(self.leader, Signal::TERM);
        for _ in 0..TIDY.as_millis() / POLL.as_millis() {
            if rustix::process::test_kill_process_group(self.leader).is_err() {
                return;
            }
            thread::sleep(POLL);
        }
        let _ = kill_process_group(self.leader, Signal::KILL);
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {}",
            self.leader.as_raw_nonzero(),
            self.started
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_group_is_ended_and_one_of_the_same_number_is_not() {
        let mut child = Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap();
        let group = Group::of(Pid::from_child(&child)).unwrap();
        assert_eq!(Group::parse(&group.to_string()), Some(group));
        let other = Group {
            started: group.started + 1,
            ..group
        };
        other.end();
        assert!(child.try_wait().unwrap().is_none());
        let waiter = thread::spawn(move || child.wait().unwrap());
        group.end();
        assert_eq!(waiter.join().unwrap().signal(), Some(Signal::TERM.as_raw()));
        group.end();
    }
}
