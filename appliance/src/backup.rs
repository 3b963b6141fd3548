//! `bento backup` and `bento restore`: one archive of a state, written while the appliance runs, and restored to an
//! empty state.
//!
//! A snapshot holds hard links to all files of the state, made in one moment without changes. The files of a state are
//! replaced, never written to, so a hard link is as good as a copy, however slowly it is read.

mod digest;
mod entry;
mod install;
mod restore;
mod snapshot;
mod writer;

pub use self::install::finish;
pub use self::restore::{Restored, restore};
pub use self::snapshot::{StateSnapshot, clear_leftovers};
pub use self::writer::write;

/// The name of the first entry, which identifies the archive.
const HEAD: &str = "bento-backup.json";
/// The name of the last entry; an archive without it is incomplete.
const END: &str = "bento-backup.end.json";

#[cfg(test)]
mod tests;
