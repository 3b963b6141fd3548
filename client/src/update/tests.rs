//! The transaction, driven through a machine in memory.

mod crashes;
mod effects;
mod failures;
mod fake;
mod fake_effects;
mod invariant;
mod machine;
mod orders;
mod random;
mod reboots;
