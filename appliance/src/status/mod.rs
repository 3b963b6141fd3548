//! Status: the state of every machine.
//!
//! [`judge`] is the pure core; [`StatusReading`] reads its input, a few small files for each machine and never a report;
//! [`Status`] is the resulting document, which a remote `bento status` reads again; [`table`] shows it to a person; and a
//! [`Follower`] returns it after each change.

mod document;
mod follower;
mod reading;
mod state;
pub mod table;

pub use document::{MachineStatus, PublishedVersion, RemovedMachine, Reported, Status};
pub use follower::Follower;
pub use reading::StatusReading;
pub use state::{HostStatus, judge};
