//! Status: what the appliance knows of every machine, told truthfully.
//!
//! [`judge`] is the pure core; [`Reading`] reads what it needs, a few small files a machine and never a report;
//! [`Status`] is the document that comes of it, which is also read again where somebody looks from elsewhere; and
//! [`table`] shows it to a person. A [`Follower`] tells it anew whenever it changes.

mod changes;
mod document;
mod follower;
mod reading;
mod state;
pub mod table;

pub use document::{MachineStatus, PublishedVersion, RemovedMachine, Reported, Status};
pub use follower::Follower;
pub use reading::Reading;
pub use state::{HostStatus, judge};
