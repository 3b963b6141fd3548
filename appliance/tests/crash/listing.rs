//! The listing of a state, for a comparison of two.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use bento_appliance::store::accounts::Accounts;
use bento_appliance::store::paths::State;

use crate::inspection::walk;

/// A line for each file and folder: path, kind and mode, owner, machine of the group. The numbers of publications and of
/// accounts are left out, because they may differ; so are times, and everything that depends on them.
pub fn listing(state: &State) -> Result<BTreeSet<String>> {
    let accounts = Accounts::read(state)?;
    let mut lines = Vec::new();
    walk(state.root(), &mut |path, _| {
        let found = fs::symlink_metadata(path)?;
        // Made by a contact, whenever one is.
        if path.ends_with("seen") {
            return Ok(());
        }
        let link = fs::read_link(path)
            .map(|target| anonymous(&target))
            .unwrap_or_default();
        lines.push(format!(
            "{} {:o} {} {} {link}",
            anonymous(path.strip_prefix(state.root())?),
            found.mode(),
            found.uid(),
            accounts
                .name(found.gid())
                .map_or("nobody", |name| name.as_str())
        ));
        Ok(())
    })?;
    lines.sort();
    // The same path twice is two publications where there should be one.
    let count = |(index, line): (usize, String)| format!("{line} {index}");
    let groups = lines
        .chunk_by(|one, other| one == other)
        .flat_map(|same| same.iter().cloned().enumerate().map(count));
    Ok(groups.collect())
}

fn anonymous(path: &Path) -> String {
    let part = |part: &std::ffi::OsStr| {
        let part = part.to_string_lossy();
        let (stem, rest) = part.split_once('.').unwrap_or((&part, ""));
        let is_number = stem.parse::<u64>().is_ok() && matches!(rest, "" | "json");
        if is_number {
            format!("#{rest}")
        } else {
            part.into_owned()
        }
    };
    path.iter().map(part).collect::<Vec<_>>().join("/")
}

/// The lines of a listing that only a crash leaves: asides, and publications beside another.
pub fn debris(listing: &BTreeSet<String>) -> Vec<&String> {
    let is_debris = |line: &&String| {
        let (path, rest) = line.split_once(' ').unwrap();
        path.ends_with(".new")
            || path.contains(".new.")
            || path.contains(".partial")
            || path.ends_with("/publications/#") && !rest.ends_with(" 0")
    };
    listing.iter().filter(is_debris).collect()
}
