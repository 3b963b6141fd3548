//! What is wrong with a fleet, for the person who can mend it.

use std::fmt;

use bento_protocol::HostName;
use serde::{Deserialize, Serialize};

use crate::report::is_shown;

/// One thing that is wrong: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// A file or folder, relative to the fleet folder, with a line where there is one: `fleet.toml:12`.
    pub place: String,
    /// The machine whose publication it stops; none when it concerns the whole fleet.
    pub host: Option<HostName>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl Problem {
    /// A problem with a file or folder of the fleet.
    pub fn new(
        place: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Problem {
            place: place.into(),
            host: None,
            what: what.into(),
            advice: advice.into(),
        }
    }

    /// The same problem, as one of this machine.
    #[must_use]
    pub fn of(mut self, host: &HostName) -> Self {
        self.host = Some(host.clone());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names come from files and may hold anything: a newline or an escape sequence must not reach a terminal, nor
        // what lets one name look like another.
        let safe = |text: &str| text.chars().flat_map(escape).collect::<String>();
        write!(formatter, "{}: ", safe(&self.place))?;
        if let Some(host) = &self.host {
            write!(formatter, "{host}: ")?;
        }
        write!(formatter, "{}: {}", safe(&self.what), safe(&self.advice))
    }
}

fn escape(character: char) -> Vec<char> {
    if is_shown(character) {
        vec![character]
    } else {
        character.escape_default().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_file_steers_no_terminal() {
        let problem = Problem::new("a\u{1b}[2J", "is \u{202e}xin.ekalf\u{200b}\n", "rename it");
        let shown = r"a\u{1b}[2J: is \u{202e}xin.ekalf\u{200b}\n: rename it";
        assert_eq!(problem.to_string(), shown);
    }
}
