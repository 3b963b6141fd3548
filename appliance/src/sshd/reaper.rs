use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

/// Reaps every child that has exited, adopted ones included: signals coalesce, so one SIGCHLD may stand for many. The
/// process that runs sessions must call this; they don't wait for their sshd themselves.
///
/// It takes the exit status away from any [`std::process::Child`] that is still waited for elsewhere.
pub fn reap() -> Vec<(Pid, WaitStatus)> {
    let mut exited = Vec::new();
    // An error means that there are no children.
    while let Ok(Some(child)) = wait(WaitOptions::NOHANG) {
        exited.push(child);
    }
    exited
}
