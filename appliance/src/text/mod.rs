//! Text for people: a terminal, lists and sizes in words, text of strangers made harmless, and a limit on log lines.

pub(crate) mod list;
pub(crate) mod log_limiter;
pub mod sanitise;
pub(crate) mod size;
pub mod terminal;
