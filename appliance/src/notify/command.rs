use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Message;
use crate::sshd::Exits;
use crate::text::sanitise::one_line;

/// How often the command is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How much of the end of its output is kept, in bytes.
const TAIL: usize = 4096;
/// How much of that is shown, in characters.
const SHOWN: usize = 300;

/// Runs a command with the message on its standard input and in its environment, without a shell; it is killed with its
/// whole process group after the limit.
///
/// # Errors
/// When it can't be run, fails, or takes too long.
pub(super) fn run(
    command: &[String],
    message: &Message,
    limit: Duration,
    exits: &Exits,
) -> anyhow::Result<String> {
    let (program, arguments) = command.split_first().context("there is no command")?;
    let (mut output, theirs) = io::pipe()?;
    set_nonblocking(&output)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(message.environment())
        // What podman tells the appliance is none of its business.
        .env_remove("NOTIFY_SOCKET")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(document(message)?))
        .stdout(theirs.try_clone()?)
        .stderr(theirs);
    let mut child = exits.spawn(&mut command).with_context(|| {
        format!(
            "{program} can't be run: in the container there are no programs but bento's, so mount one into it that \
             needs nothing else, or use a webhook"
        )
    })?;
    // With it goes our copy of the pipe's other end.
    drop(command);
    let mut tail = Vec::new();
    let ended = wait(&mut child, &mut output, &mut tail, limit, exits);
    if !matches!(ended, Ok(Some(_))) {
        kill(&mut child, exits);
    }
    let said = end_of(&tail);
    let said = if said.is_empty() {
        said
    } else {
        format!(": {said}")
    };
    match ended? {
        Some(status) if status.success() => Ok(format!("ended with {status}{said}")),
        Some(status) => bail!("{program} ended with {status}{said}"),
        None => bail!(
            "{program} took longer than {} s and was killed{said}; [notify] timeout in fleet.toml sets how long it may \
             take",
            limit.as_secs()
        ),
    }
}

/// The message as a file in memory: whoever doesn't read it holds up nobody, as a pipe that is full would.
fn document(message: &Message) -> io::Result<File> {
    let mut file = File::from(memfd_create("notification", MemfdFlags::CLOEXEC)?);
    file.write_all(&message.json())?;
    file.rewind()?;
    Ok(file)
}

fn set_nonblocking(pipe: &PipeReader) -> io::Result<()> {
    Ok(fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?)
}

/// Waits until it has ended, and keeps the end of what it says; none if it takes too long.
fn wait(
    child: &mut Child,
    output: &mut PipeReader,
    tail: &mut Vec<u8>,
    limit: Duration,
    exits: &Exits,
) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    loop {
        let ended = exits.ended(child)?;
        drain(output, tail);
        if ended.is_some() || Instant::now() >= until {
            return Ok(ended);
        }
        thread::sleep(LOOK);
    }
}

/// Reads what is there, for one turn at most as much as a pipe holds: it may be written faster than it is read.
fn drain(output: &mut PipeReader, tail: &mut Vec<u8>) {
    let mut bytes = [0; TAIL];
    for _ in 0..16 {
        match output.read(&mut bytes) {
            Ok(length) if length > 0 => tail.extend_from_slice(&bytes[..length]),
            _ => break,
        }
    }
    let surplus = tail.len().saturating_sub(TAIL);
    tail.drain(..surplus);
}

/// The end of what it said, in one line: what failed is said last as a rule.
fn end_of(tail: &[u8]) -> String {
    let line = one_line(&String::from_utf8_lossy(tail), TAIL);
    let surplus = line.chars().count().saturating_sub(SHOWN);
    line.chars().skip(surplus).collect()
}

/// Ends it, and all that it started and that is still of its group.
fn kill(child: &mut Child, exits: &Exits) {
    // It may just have gone.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let until = Instant::now() + Duration::from_secs(1);
    // Where nobody else reaps, it would stay as a zombie.
    while matches!(exits.ended(child), Ok(None)) && Instant::now() < until {
        thread::sleep(LOOK);
    }
    exits.forget(child);
}

#[cfg(test)]
mod tests;
