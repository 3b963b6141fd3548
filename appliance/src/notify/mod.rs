//! Notifications: a webhook gets a message when the state of a machine turns bad, and when it is good again.
//!
//! [`LastSent`] records the last message for each machine, so that none is sent twice; [`Delivery`] schedules messages
//! and retries; [`post`] sends one. The daemon's notifier uses them.

mod condition;
mod delivery;
mod last_sent;
mod message;
mod sink;

pub use condition::{Condition, Subject};
pub use delivery::{Delivery, FailureResponse, NextDelivery, Timing};
pub use last_sent::{ConditionChange, Failure, LastSent, LastSentFile, SentCondition};
pub use message::Message;
pub use sink::post;
