//! Events of the fleet folder: a hint to look sooner. They are missed on some filesystems and when too many come at
//! once, so that the periodic look decides.

use std::path::Path;
use std::sync::mpsc::Sender;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

/// Sends to `hints` whenever something below the folder changes, until the returned watcher is dropped. None when
/// the folder can't be watched, which is logged.
pub(super) fn watch(folder: &Path, hints: Sender<()>) -> Option<RecommendedWatcher> {
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
