//! Nix with a store of its own, so that nothing of this machine is touched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use bento_tests::process::{self, Output};
use serde_json::Value;
use tempfile::TempDir;

/// A Nix with a store of its own.
pub(super) struct Nix(TempDir);

impl Nix {
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("conf"))?;
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\n";
        fs::write(folder.path().join("conf/nix.conf"), conf)?;
        Ok(Nix(folder))
    }

    pub(super) fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.0.path().join(name);
        let mut command = Command::new(program);
        command
            .env("HOME", path("home"))
            .env("NIX_CONF_DIR", path("conf"))
            .env("NIX_STORE_DIR", path("store"))
            .env("NIX_STATE_DIR", path("state"))
            .env("NIX_LOG_DIR", path("log"))
            .env_remove("NIX_PATH");
        command
    }

    /// Evaluates an expression to JSON.
    pub(super) fn evaluate(&self, expression: &str) -> Result<Value> {
        let output = self.try_to_evaluate(expression)?.success()?;
        Ok(serde_json::from_str(&output.stdout)?)
    }

    pub(super) fn try_to_evaluate(&self, expression: &str) -> Result<Output> {
        let mut instantiate = self.command("nix-instantiate");
        instantiate.args(["--eval", "--strict", "--json", "--expr", expression]);
        process::run(&mut instantiate, process::SHORT)
    }

    /// Builds what an expression gives, and says where it is.
    pub(super) fn build(&self, expression: &str) -> Result<PathBuf> {
        let mut build = self.command("nix-build");
        build.args(["--no-out-link", "--expr", expression]);
        let output = process::run(&mut build, process::LONG)?.success()?;
        Ok(output.stdout.trim().into())
    }
}
