//! Waits for the reports that a machine leaves from now on.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::Context;
use bento_protocol::HostName;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use rustix::event::{PollFd, PollFlags, poll};

use super::{Entry, History};
use crate::store::paths::{HostState, State};

/// What ends the waiting for a moment, or for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// There may be a new report.
    Look,
    /// Nobody reads what is printed any more.
    End,
}

/// Gives each report to `show`, oldest first: of those that there are the last `count`, and then each that comes, until
/// [`Wake::End`] comes.
///
/// # Errors
/// When `show` fails, the machine was removed, or its folder can't be watched.
pub fn follow(
    state: &State,
    name: &HostName,
    count: usize,
    ends: impl FnOnce(Sender<Wake>),
    mut show: impl FnMut(&Entry) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (wakes, wake) = mpsc::channel();
    ends(wakes.clone());
    let mut watched: Option<(Identity, RecommendedWatcher)> = None;
    let mut shown: Option<(Option<jiff::Timestamp>, u64)> = None;
    loop {
        let host = state.host(name);
        // Before it is looked, so that nothing comes in between.
        let found = identity(&host);
        let is_watched =
            matches!((&watched, &found), (Some((known, _)), Ok(found)) if known == found);
        let history = if is_watched {
            History::open(state, name)?
        } else {
            // Why it isn't there is known there, if it isn't.
            History::open(state, name)?;
            let found = found.with_context(|| cannot_watch(&host))?;
            watched = Some((found, watch(&host, wakes.clone())?));
            History::open(state, name)?
        };
        // A name that was removed and came again is another machine, whose reports are counted anew.
        let after = shown.filter(|(since, _)| *since == history.since());
        let number = after.map(|(_, number)| number);
        let mut newest: Vec<Entry> = match number {
            None => history.entries().take(count).collect(),
            Some(number) => history
                .entries()
                .take_while(|entry| entry.number > number)
                .collect(),
        };
        newest.reverse();
        newest.iter().try_for_each(&mut show)?;
        let last = newest.last().map(|entry| entry.number).or(number);
        shown = Some((history.since(), last.unwrap_or_default()));
        if wake.recv().is_ok_and(|wake| wake == Wake::End) {
            return Ok(());
        }
    }
}

/// Which folder lies at a path.
type Identity = (u64, u64);

fn identity(host: &HostState) -> io::Result<Identity> {
    let folder = fs::metadata(host.root())?;
    Ok((folder.dev(), folder.ino()))
}

/// Whenever reports were taken in the summary is written anew.
fn watch(host: &HostState, wakes: Sender<Wake>) -> anyhow::Result<RecommendedWatcher> {
    let (summary, root) = (host.summary(), host.root().to_owned());
    let matters = move |path: &Path| path == summary || path == root;
    let handler = move |event: notify::Result<notify::Event>| {
        let is_news = event.map_or(true, |event| {
            !event.kind.is_access() && event.paths.iter().any(|path| matters(path))
        });
        if is_news {
            // Nobody waits any more.
            let _ = wakes.send(Wake::Look);
        }
    };
    let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(host.root(), RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher.with_context(|| cannot_watch(host))
}

fn cannot_watch(host: &HostState) -> String {
    format!("{} can't be watched", host.root().display())
}

/// Tells when nobody reads our output any more, as when the `head` behind it has seen enough.
pub fn when_output_ends(wakes: Sender<Wake>) {
    thread::spawn(move || {
        let output = io::stdout();
        let mut output = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::empty())];
        // What isn't asked for but told all the same is that the other end is gone.
        while poll(&mut output, None).is_ok_and(|told| told == 0) {}
        let _ = wakes.send(Wake::End);
    });
}

/// Tells when our input ends: whoever asked from elsewhere is gone then.
pub fn when_input_ends(wakes: Sender<Wake>) {
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut ignored = [0; 256];
        while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
        let _ = wakes.send(Wake::End);
    });
}
