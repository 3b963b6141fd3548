//! Status: what the appliance knows of every machine, told truthfully.
//!
//! [`judge`] is the pure core; [`Status`] reads what it needs, a few small files a machine and never a report; and
//! [`table`] shows it to a person.

mod reading;
mod state;
pub mod table;

pub use reading::{MachineStatus, PublishedVersion, Reported, Status};
pub use state::{HostStatus, judge};
