//! A build of nothing: it shows that Nix can build what is published next.

use std::process::Command;
use std::time::Duration;

use bento_protocol::RunId;

use crate::machine::health;
use crate::machine::health::Problem;

/// Longest time of a build. It takes less than a second where nothing else builds or collects garbage.
const LIMIT: Duration = Duration::from_secs(60);

/// Variables that only count if the next client's unit sets them.
const NOT_OURS: [&str; 2] = ["NIX_REMOTE", "NIX_CONFIG"];

/// Messages of the system and of Nix' database when a disk is full.
const FULL: [&str; 2] = ["No space left on device", "database or disk is full"];

/// Evaluates and builds a derivation that no store has, on this machine alone: a builder or a cache
/// that is away is no fault of the system. The environment is that of the client that will build next, and none where
/// that is this one.
pub(crate) fn run(
    environment: Option<&[(String, String)]>,
    line: &mut dyn FnMut(&str),
) -> Result<(), Problem> {
    let mut disk_is_full = false;
    let built = health::run("nix", command(environment), LIMIT, &mut |text| {
        disk_is_full |= FULL.iter().any(|full| text.contains(full));
        line(text);
    });
    // The old system would have no more room.
    if disk_is_full { Ok(()) } else { built }
}

fn command(environment: Option<&[(String, String)]>) -> Command {
    let mut command = bento_nix::flake_command(&["build"]);
    if let Some(environment) = environment {
        for name in NOT_OURS {
            command.env_remove(name);
        }
        let variables = environment.iter().map(|(name, value)| (name, value));
        command.envs(variables);
    }
    for (name, value) in [
        ("max-jobs", "1"),
        ("builders", ""),
        ("substitute", "false"),
        // It might upload what is built to a cache.
        ("post-build-hook", ""),
    ] {
        command.args(["--option", name, value]);
    }
    // Without a link, which would be a root of Nix' garbage collector.
    command.args(["--no-link", "--impure", "--expr", &derivation()]);
    command
}

/// Built by Nix itself, so that it needs no other program.
fn derivation() -> String {
    format!(
        "derivation {{ name = \"bento-trial\"; system = \"builtin\"; builder = \"builtin:buildenv\"; \
         derivations = \"\"; manifest = \"/none\"; preferLocalBuild = true; allowSubstitutes = false; \
         run = \"{}\"; }}",
        RunId::now()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 19.
    #[test]
    fn each_trial_is_a_new_build_that_asks_nobody() {
        assert_ne!(derivation(), derivation());
        let environment = [("PATH".to_owned(), "/nix/store/x/bin".to_owned())];
        let command = command(Some(&environment));
        let arguments: Vec<_> = command.get_args().map(|it| it.to_str().unwrap()).collect();
        for option in [
            ["builders", ""],
            ["max-jobs", "1"],
            ["substitute", "false"],
            ["post-build-hook", ""],
        ] {
            assert!(
                arguments.windows(2).any(|pair| pair == option),
                "{option:?}"
            );
        }
        let variables: Vec<_> = command.get_envs().collect();
        assert!(variables.contains(&("PATH".as_ref(), Some("/nix/store/x/bin".as_ref()))));
        assert!(variables.contains(&("NIX_REMOTE".as_ref(), None)));
    }
}
