//! Status: the knowledge of the appliance about every machine.
//!
//! [`judge`] is the pure core; [`StatusReading`] reads what it needs, a few small files a machine and never a report;
//! [`Status`] is the resulting document, which a remote `bento status` reads again; and [`table`] shows it to a person. A
//! [`Follower`] gives it whenever it changes.

mod document;
mod follower;
mod reading;
mod state;
pub mod table;

pub use document::{MachineStatus, PublishedVersion, RemovedMachine, Reported, Status};
pub use follower::Follower;
pub use reading::StatusReading;
pub use state::{HostStatus, judge};
