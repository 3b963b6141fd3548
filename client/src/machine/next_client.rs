//! The client that the machine starts next, as its unit says.

use std::fs;
use std::path::PathBuf;

use crate::machine::Machine;

/// The unit that starts the client.
const UNIT: &str = "bento-update.service";

/// Program and environment of the client's unit in the running system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextClient {
    /// The program.
    pub(crate) program: PathBuf,
    /// The variables that the unit sets.
    pub(crate) environment: Vec<(String, String)>,
}

impl NextClient {
    /// None where there is no such unit.
    pub(crate) fn of(machine: &Machine) -> Option<Self> {
        Self::parse(&fs::read_to_string(machine.units().join(UNIT)).ok()?)
    }

    fn parse(unit: &str) -> Option<Self> {
        let values = |key: &'static str| {
            let lines = unit.lines();
            lines.filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
        };
        let words = values("ExecStart").next()?;
        Some(NextClient {
            program: words.split_whitespace().next()?.into(),
            environment: values("Environment").filter_map(variable).collect(),
        })
    }
}

/// One variable, as NixOS writes it: `"NAME=value"`.
fn variable(assignment: &str) -> Option<(String, String)> {
    let text = match assignment.starts_with('"') {
        true => serde_json::from_str(assignment).ok()?,
        false => assignment.to_owned(),
    };
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.replace("%%", "%")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_nixos_tells_what_it_starts_and_with_which_environment() {
        let next = NextClient::parse(
            "[Unit]\nDescription=x\n[Service]\nEnvironment=\"NIX_PATH=a=b:c\"\nEnvironment=\"PATH=/nix/store/x/bin:\
             /nix/store/100%%/bin\"\nEnvironment=PLAIN=1\nExecStart=/nix/store/x/bin/bento-client update\n",
        )
        .unwrap();
        assert_eq!(next.program, PathBuf::from("/nix/store/x/bin/bento-client"));
        let of = |name: &str| {
            let found = next.environment.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(of("NIX_PATH"), Some("a=b:c"));
        assert_eq!(of("PATH"), Some("/nix/store/x/bin:/nix/store/100%/bin"));
        assert_eq!(of("PLAIN"), Some("1"));
        assert_eq!(NextClient::parse("[Service]\nType=oneshot\n"), None);
    }
}
