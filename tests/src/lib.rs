//! The test environment: what the end-to-end tests and the demonstration stand on.
//!
//! Nothing here pretends. [`Appliance`] runs the real image in rootless podman, [`Guest`] is a whole
//! machine with systemd and Nix, [`Fleet`] writes the folder that an administrator would write, and
//! [`Proxy`] counts the round trips between the two. [`namespace`] gives them, where the machine
//! doesn't, what every desktop and server distribution has.

pub mod account;
pub mod appliance;
pub mod artifacts;
pub mod demo;
pub mod files;
pub mod fleet;
pub mod guest;
pub mod key;
pub mod length;
mod lifeline;
pub mod namespace;
pub mod podman;
pub mod process;
pub mod proxy;
pub mod report;
pub mod unshare;
pub mod volume;
pub mod wait;

pub use account::Account;
pub use appliance::{Appliance, Options};
pub use fleet::Fleet;
pub use guest::Guest;
pub use podman::Podman;
pub use proxy::Proxy;
pub use volume::Volume;
