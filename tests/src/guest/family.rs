//! Finding the first process of a guest among the descendants of the one that was started.

use std::fs;

/// The number, here, of the descendant that is process 1 of a process namespace of its own.
pub(super) fn first_of_a_namespace(ancestor: u32) -> Option<u32> {
    let mut family = vec![ancestor];
    while let Some(process) = family.pop() {
        if is_first(process) {
            return Some(process);
        }
        family.extend(children(process));
    }
    None
}

/// The number, here, of the descendant that strace runs, once it is the command that strace was given.
pub(super) fn traced(ancestor: u32) -> Option<u32> {
    let mut family = vec![ancestor];
    while let Some(process) = family.pop() {
        // strace itself forks, to try what the kernel can; of a child that has ended nobody can say what it ran.
        let is_command = fs::read_link(format!("/proc/{process}/exe"))
            .is_ok_and(|program| !program.ends_with("strace"));
        if is_command && is_traced(process) {
            return Some(process);
        }
        family.extend(children(process));
    }
    None
}

/// When a process was started, in the kernel's ticks since it booted; together with its number that
/// names no other process.
pub(super) fn start_time(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may contain anything, spaces and parentheses too.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19).map(str::to_owned)
}

fn is_first(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("NSpid:"))
        // One number for each nested namespace, the innermost last.
        .any(|numbers| numbers.split_whitespace().skip(1).last() == Some("1"))
}

/// Whether the strace of a process sleeps: it has nothing to do until that process goes on.
pub(super) fn tracer_waits(process: u32) -> bool {
    tracer(process).is_some_and(|tracer| {
        let status = fs::read_to_string(format!("/proc/{tracer}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:\tS"))
    })
}

fn is_traced(process: u32) -> bool {
    tracer(process).is_some()
}

fn tracer(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:")?.trim().parse().ok())
        .filter(|tracer| *tracer != 0)
}

fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}
