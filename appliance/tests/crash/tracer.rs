//! The tracer: stops before every system call of the appliance that changes its state. The appliance has no hook for this:
//! it is traced, as by strace, but the steps of its threads are counted together.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::appliance::{Appliance, events};

/// A system call that is about to be made.
#[derive(Debug, Clone)]
pub struct Step {
    pub call: &'static str,
    /// The path that it changes or creates.
    pub path: PathBuf,
}

/// The decision at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    GoOn,
    Kill,
}

/// The end of a traced appliance.
#[derive(Debug)]
pub enum End {
    /// At the wanted step.
    Killed(Step),
    /// After everything was done.
    Done,
}

/// The argument with the path of a call.
enum Place {
    /// A file descriptor.
    Open(usize),
    /// A path.
    Path(usize),
    /// A path below a folder's file descriptor, which is the argument before.
    Below(usize),
}

use Place::{Below, Open, Path as At};

/// All calls that change the disk, except writes to open files: content counts from its fsync or rename on.
const CALLS: &[(libc::c_long, &str, Place)] = &[
    (libc::SYS_openat, "openat", Below(1)),
    (libc::SYS_mkdirat, "mkdirat", Below(1)),
    (libc::SYS_unlinkat, "unlinkat", Below(1)),
    (libc::SYS_symlinkat, "symlinkat", Below(2)),
    (libc::SYS_linkat, "linkat", Below(3)),
    (libc::SYS_renameat, "renameat", Below(3)),
    (libc::SYS_renameat2, "renameat2", Below(3)),
    (libc::SYS_fsync, "fsync", Open(0)),
    (libc::SYS_fdatasync, "fdatasync", Open(0)),
    (libc::SYS_syncfs, "syncfs", Open(0)),
];

/// The older ones, which new architectures don't have.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(libc::c_long, &str, Place)] = &[
    (libc::SYS_mkdir, "mkdir", At(0)),
    (libc::SYS_unlink, "unlink", At(0)),
    (libc::SYS_rmdir, "rmdir", At(0)),
    (libc::SYS_symlink, "symlink", At(1)),
    (libc::SYS_link, "link", At(1)),
    (libc::SYS_rename, "rename", At(1)),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(libc::c_long, &str, Place)] = &[];

/// The longest run of an appliance, including the work at its steps, on a machine that is busy with other tests.
const STANDSTILL: Duration = Duration::from_secs(600);

/// Runs an appliance until its log has an event, or kills it before the step of this number, from 1, of those that count.
/// Returns that step; none if there are fewer.
pub fn kill_before(
    appliance: &Appliance<'_>,
    event: &str,
    number: u32,
    counts: impl Fn(&Step) -> bool,
) -> Option<Step> {
    let mut passed = 0;
    let end = trace(appliance, event, |step| {
        passed += u32::from(counts(step));
        if passed == number {
            Next::Kill
        } else {
            Next::GoOn
        }
    });
    match end {
        End::Killed(step) => Some(step),
        End::Done => None,
    }
}

/// Runs an appliance until its log has an event, and calls a function at each step below its state.
pub fn trace(appliance: &Appliance<'_>, event: &str, mut at: impl FnMut(&Step) -> Next) -> End {
    let mut child = appliance.halted().spawn().unwrap();
    let leader = Pid::from_raw(child.id().cast_signed());
    waitpid(leader, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::seize(leader, options).unwrap();
    kill(leader, Signal::SIGCONT).unwrap();
    // Threads that have written something since the last check.
    let mut writers = BTreeSet::new();
    let mut check = |thread| {
        let call = Call::of(thread)?;
        if writers.remove(&thread) && !events(&appliance.logged(), event).is_empty() {
            return Some(End::Done);
        }
        if call.number == libc::SYS_write {
            writers.insert(thread);
        }
        let step = call
            .step()
            .filter(|step| step.path.starts_with(appliance.state.root()))?;
        (at(&step) == Next::Kill).then_some(End::Killed(step))
    };
    let mut end = None;
    // It scans its folder every 30 s, so there is always another call.
    let deadline = Instant::now() + STANDSTILL;
    loop {
        assert!(
            Instant::now() < deadline,
            "it stands still:\n{}",
            appliance.logged()
        );
        let any = Pid::from_raw(-1);
        let (thread, signal) = match waitpid(any, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceSyscall(thread) if end.is_none() => {
                end = check(thread);
                if end.is_some() {
                    kill(leader, Signal::SIGKILL).unwrap();
                }
                (thread, None)
            }
            WaitStatus::PtraceSyscall(thread) | WaitStatus::PtraceEvent(thread, ..) => {
                (thread, None)
            }
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            WaitStatus::Signaled(thread, ..) | WaitStatus::Exited(thread, _)
                if thread == leader =>
            {
                break;
            }
            _ => continue,
        };
        // One that was killed in the meantime is gone.
        let _ = ptrace::syscall(thread, signal);
    }
    // It was waited for above.
    let _ = child.try_wait();
    end.unwrap_or_else(|| panic!("it ended by itself:\n{}", appliance.logged()))
}

/// The system call before which a thread has stopped.
struct Call {
    thread: Pid,
    number: libc::c_long,
    arguments: Vec<u64>,
}

impl Call {
    /// None if the thread stopped for another reason, or after the call.
    fn of(thread: Pid) -> Option<Self> {
        if ptrace::syscall_info(thread).ok()?.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return None;
        }
        let text = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
        let mut words = text.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let hexadecimal = words.filter_map(|word| word.strip_prefix("0x"));
        let arguments = hexadecimal.filter_map(|word| u64::from_str_radix(word, 16).ok());
        Some(Call {
            thread,
            number,
            arguments: arguments.take(6).collect(),
        })
    }

    /// The path that it changes; none if it changes nothing.
    fn step(&self) -> Option<Step> {
        let mut known = CALLS.iter().chain(OLD_CALLS);
        let (_, call, place) = known.find(|(number, ..)| *number == self.number)?;
        let creates = self.arguments.get(2)? & u64::from(libc::O_CREAT.cast_unsigned()) != 0;
        if *call == "openat" && !creates {
            return None;
        }
        let path = match *place {
            Open(index) => self.open(index)?,
            At(index) => self.path(index)?,
            Below(index) => self.open(index - 1)?.join(self.path(index)?),
        };
        Some(Step { call, path })
    }

    /// The path of the file descriptor in an argument.
    fn open(&self, index: usize) -> Option<PathBuf> {
        let thread = self.thread;
        // A C int: only the lower half of the register counts.
        let link = match *self.arguments.get(index)? as i32 {
            libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
            number => format!("/proc/{thread}/fd/{number}"),
        };
        fs::read_link(link).ok()
    }

    /// The path to which an argument points.
    fn path(&self, index: usize) -> Option<PathBuf> {
        let memory = File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        let mut text = vec![0; libc::PATH_MAX.cast_unsigned() as usize];
        // Shorter where what is mapped ends.
        let read = memory
            .read_at(&mut text, *self.arguments.get(index)?)
            .ok()?;
        let end = text.get(..read)?.iter().position(|byte| *byte == 0)?;
        text.truncate(end);
        Some(OsString::from_vec(text).into())
    }
}
