//! Notifications: a command or a webhook is told when the state of a machine turns bad, and when it is good again.
//!
//! [`LastSent`] knows what was told last, so that nothing is told twice; [`Delivery`] when to try again what couldn't be
//! told; [`Sink`] how to tell it. Who does so, and when, is the supervisor's affair.

mod command;
mod condition;
mod delivery;
mod last_sent;
mod message;
mod sink;
mod webhook;

pub use condition::{Condition, Subject};
pub use delivery::{Delivery, Next, Pace, Sequel};
pub use last_sent::{Difference, Failure, LastSent, Notified, Told};
pub use message::Message;
pub use sink::{Sink, ways};
