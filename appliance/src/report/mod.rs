//! Reports: from the inbox of a machine, whose content is hostile until checked, to the records that status and logs read.
//!
//! [`take_in`] empties an inbox: a report becomes a [`Record`] in the [`Store`], any other file is refused. The [`Summary`]
//! sums up the store, so that status never opens a report.

#[cfg(test)]
pub(crate) mod fixture;
mod gzip;
mod inbox;
mod record;
mod store;
mod summary;

pub use inbox::{Intake, Refuse, Writers, count, take_in};
pub use record::{Content, Record};
pub use store::{RetentionLimits, Store, copy};
pub use summary::Summary;
