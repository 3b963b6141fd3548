//! Events of the fleet folder: a hint to look sooner. They are missed on some filesystems and when too many come at
//! once, so that the periodic look decides.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

/// How soon it is noticed that another folder lies at the watched one's place.
const LOOK: Duration = Duration::from_secs(1);

/// Sends to `hints` whenever something below the folder changes, for as long as the process lives. A watch stays with
/// the folder that it was set on, so that one which comes to lie there later, such as a volume that is mounted again,
/// needs a watch of its own; that this has happened is a hint, too.
pub(super) fn follow(folder: PathBuf, hints: Sender<()>) {
    thread::spawn(move || {
        let mut watched = None;
        loop {
            let found = fs::metadata(&folder).map(|found| (found.dev(), found.ino()));
            let found = found.ok();
            if watched.as_ref().is_none_or(|(known, _)| *known != found) {
                watched = Some((found, watch(&folder, hints.clone())));
                // The receiver only goes when the appliance stops.
                let _ = hints.send(());
            }
            thread::sleep(LOOK);
        }
    });
}

/// Watches a folder until the returned watcher is dropped. None when it can't be watched, which is logged.
fn watch(folder: &Path, hints: Sender<()>) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Opening and reading is what the appliance itself does there.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // The receiver only goes when the appliance stops.
            let _ = hints.send(());
        }
    };
    let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    watcher
        .map_err(|error| {
            warn!(
                "{} can't be watched ({error}): changes are found by looking",
                folder.display()
            )
        })
        .ok()
}
