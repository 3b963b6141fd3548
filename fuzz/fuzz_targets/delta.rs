//! Lists that a delta merges. An input is a list of lines: `o` and a path for an old file, `c` for a changed or new
//! one, `r` for a removed one, and `n` for one of another generation. `path -> target` is a symlink.

#![no_main]

use std::collections::BTreeMap;

use bento_protocol::{
    Delta, DeltaError, Digest, File, FilePath, Manifest, ManifestEntry, ManifestError, PathOrder,
    Policy, Symlink, merge, stream,
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

/// The paths of a letter's lines, in order; lines without a path are skipped.
fn paths(text: &str, letter: char) -> Vec<FilePath> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(letter));
    lines
        .filter_map(|path| format!("config/{path}").parse().ok())
        .collect()
}

fn files(text: &str, letter: char) -> Vec<ManifestEntry> {
    let entry = |path: FilePath| {
        if let Some((path, target)) = path.as_str().split_once(" -> ") {
            let path = path.parse().ok()?;
            return Symlink::new(path, target.to_owned())
                .ok()
                .map(ManifestEntry::from);
        }
        let file = File {
            executable: path.as_str().len().is_multiple_of(2),
            size: 1,
            sha256: Digest::of([letter as u8]),
            path,
        };
        Some(file.into())
    };
    paths(text, letter).into_iter().filter_map(entry).collect()
}

fn manifest(files: Vec<ManifestEntry>) -> Result<Manifest, ManifestError> {
    let host = "kikimora".parse().expect("it is a name");
    Manifest::new(host, Policy::default(), files, Timestamp::UNIX_EPOCH)
}

/// The right result of a delta, whatever its order: removals first.
fn meant(
    old: &[ManifestEntry],
    removed: &[FilePath],
    changed: &[ManifestEntry],
) -> Option<Vec<ManifestEntry>> {
    let by_path = |file: &ManifestEntry| (file.path().clone(), file.clone());
    let mut files: BTreeMap<_, _> = old.iter().map(by_path).collect();
    for path in removed {
        files.remove(path)?;
    }
    files.extend(changed.iter().map(by_path));
    Some(files.into_values().collect())
}

fn merged(
    old: &[ManifestEntry],
    removed: &[FilePath],
    changed: &[ManifestEntry],
) -> Result<Vec<ManifestEntry>, DeltaError> {
    let (mut order, mut files) = (PathOrder::default(), Vec::new());
    merge(
        old.iter().cloned().map(Ok),
        removed.iter().cloned().map(Ok),
        changed.iter().cloned().map(Ok),
        &mut |file: ManifestEntry| {
            order.check(file.path())?;
            files.push(file);
            Ok::<_, DeltaError>(())
        },
    )?;
    Ok(files)
}

/// The delta between any two generations leads from one to the other, also when it is streamed.
fn leads_from_one_to_the_other(old: &Manifest, new: &Manifest) {
    let delta = Delta::between(old, new);
    assert_eq!(delta.apply(old).as_ref(), Ok(new));
    let json = serde_json::to_vec(&delta).expect("it is JSON");
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    let head = stream::read_delta(
        &mut serde_json::Deserializer::from_slice(&json),
        &mut |file| {
            changed.push(file);
            Ok(())
        },
        &mut |path| {
            removed.push(path);
            Ok(())
        },
    );
    let head = head.expect("it was written");
    assert_eq!(
        (head.from, head.head.generation),
        (old.generation(), new.generation())
    );
    assert_eq!((&changed, &removed), (&delta.changed, &delta.removed));
    assert_eq!(
        merged(old.files(), &removed, &changed).as_deref(),
        Ok(new.files())
    );
}

fuzz_target!(|text: &str| {
    let Ok(old) = manifest(files(text, 'o')) else {
        return;
    };
    if let Ok(new) = manifest(files(text, 'n')) {
        leads_from_one_to_the_other(&old, &new);
    }
    let (removed, changed) = (paths(text, 'r'), files(text, 'c'));
    let meant = meant(old.files(), &removed, &changed);
    match merged(old.files(), &removed, &changed) {
        Ok(files) => assert_eq!(Some(files), meant),
        // A delta in order, with a possible result, isn't refused.
        Err(error) => {
            let in_order = removed.is_sorted_by(|one, other| one < other)
                && changed.is_sorted_by(|one, other| one.path() < other.path());
            let is_possible = meant.is_some_and(|files| manifest(files).is_ok());
            assert!(!(in_order && is_possible), "refused: {error}");
        }
    }
});
