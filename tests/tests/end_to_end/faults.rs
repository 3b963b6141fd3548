//! An update that can't strand a machine: whatever goes wrong, and wherever, the machine comes out of it wholly old or
//! wholly new, and says which.

mod env;
mod matrix;

mod boot;
mod bus;
mod confirm;
mod endurance;
mod manners;
mod server;
