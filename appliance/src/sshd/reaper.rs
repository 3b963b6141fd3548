use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

/// Collects every child that has exited, adopted ones included, until there is none left: signals coalesce, so one
/// SIGCHLD may stand for many. Sessions don't wait for their sshd themselves; the process that runs them must call
/// this.
///
/// It takes the exit status away from any [`std::process::Child`] that somebody else still waits for.
pub fn reap() -> Vec<(Pid, WaitStatus)> {
    let mut exited = Vec::new();
    // An error says that there are no children at all.
    while let Ok(Some(child)) = wait(WaitOptions::NOHANG) {
        exited.push(child);
    }
    exited
}
