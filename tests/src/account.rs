//! The account of somebody who begins: an ordinary user with rootless podman, the image in the home, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self as system, Command};

use anyhow::{Context, Result};

use crate::lifeline::Lifeline;
use crate::{Podman, artifacts, files};

/// Removes all that podman and its user have put into the home, and the home. Where that fails halfway, the ids of
/// containers still own something in it.
const CLEAR: &str = r#"
    podman rm --all --force --time=0
    podman volume rm --all --force
    podman rmi --all --force
    rm -rf "$HOME" || podman unshare rm -rf "$HOME"
    rm -rf "$HOME"
"#;
/// What the image is called in the home.
const IMAGE: &str = "bento.oci.tar";
/// Where the home has what only this machine needs.
const PROGRAMS: &str = ".env";

/// An account. Podman keeps images, containers and volumes in its home, apart from those of any other. All of it goes
/// when this value is dropped, or when this process dies.
#[derive(Debug)]
pub struct Account {
    podman: Podman,
    home: PathBuf,
    _lifeline: Lifeline,
}

impl Account {
    /// Makes a home, with the image that was built here in it.
    ///
    /// # Errors
    /// If podman can't run here, the image hasn't been built, or the home can't be made.
    pub fn open() -> Result<Self> {
        let podman = Podman::new()?;
        let folder = podman
            .home()
            .map_or_else(artifacts::target, Path::to_owned)
            .join(format!("account-{}", system::id()));
        let clear = as_owner(&podman, &folder, &["sh", "-c", CLEAR]);
        let account = Self {
            _lifeline: Lifeline::tie(&clear)?,
            podman,
            home: folder,
        };
        account
            .provision()
            .with_context(|| format!("cannot make the home {}", account.home.display()))?;
        Ok(account)
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What bash does with a script that its owner types after logging in: it stops at the first command that fails.
    #[must_use]
    pub fn bash(&self, script: &str) -> Command {
        as_owner(&self.podman, &self.home, &["bash", "-ec", script])
    }

    /// Gives its owner what somebody else put into the home.
    ///
    /// # Errors
    /// If it can't be given away.
    pub fn own(&self, path: &Path) -> Result<()> {
        self.podman.own(path)
    }

    fn provision(&self) -> Result<()> {
        let programs = self.home.join(PROGRAMS);
        fs::create_dir_all(&programs)?;
        fs::copy(artifacts::image()?, self.home.join(IMAGE))?;
        let podman = programs.join("podman");
        let script = format!(
            "#!/bin/sh\n\
             # What a machine as bare as this one needs beside what is typed.\n\
             PATH=${{PATH#*:}}\n\
             [ \"$1\" != run ] || {{ shift; set -- run {} \"$@\"; }}\n\
             exec podman {} \"$@\"\n",
            self.podman.run_options().join(" "),
            self.podman.options().join(" "),
        );
        files::write_program(&podman, script)?;
        self.podman.own(&self.home)
    }
}

fn as_owner(podman: &Podman, home: &Path, program: &[&str]) -> Command {
    let home = home.display();
    let mut command = podman.as_user("sh");
    // As a login leaves it: at home, with what .bashrc says. bash reads that by itself only from a terminal.
    let log_in = r#"
        PATH=$1:$PATH HOME=$2 BASH_ENV=$2/.bashrc LANG=C.UTF-8; shift 2
        export PATH HOME BASH_ENV LANG
        cd 2>/dev/null || cd /
        exec "$@"
    "#;
    command
        .args(["-c", log_in, "sh"])
        .arg(format!("{home}/{PROGRAMS}"))
        .arg(home.to_string())
        .args(program);
    command
}
