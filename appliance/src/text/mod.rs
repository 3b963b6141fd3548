//! Text for people: terminals, lists and sizes in words, escaping of foreign text, and a limit for log lines.

pub(crate) mod list;
pub(crate) mod log_limiter;
pub mod sanitise;
pub(crate) mod size;
pub mod terminal;
