//! One archive of everything that a state holds and that can't be made again: written while the appliance runs, and taken
//! into an empty state.
//!
//! In one moment, in which nobody changes anything, a folder beside the state gets a second name for each file; that one
//! is read then, however slowly. The files of a state are replaced and never written to, so that a name is as good as a
//! copy.

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

/// The name of the first entry, which says what the archive is.
const HEAD: &str = "bento-backup.json";
/// The name of the last entry, without which an archive isn't whole.
const END: &str = "bento-backup.end.json";

#[cfg(test)]
mod tests;
