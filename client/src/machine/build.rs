//! Builds the system that a staged generation describes.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bento_nix::{Kind, SystemBuild, Tail};
use bento_protocol::{Policy, SystemPath};

use crate::generation::staged::Staged;
use crate::settings::Settings;
use crate::state::State;
use crate::state::atomic_file;

/// Source of a build: a generation as it was published, or a working copy of it.
#[derive(Debug, Clone)]
pub(crate) struct BuildSource<'a> {
    /// The folder that Nix builds.
    pub(crate) config: &'a Path,
    /// The policy of the generation.
    pub(crate) policy: &'a Policy,
    /// Logins of Nix for private inputs.
    pub(crate) netrc: Option<PathBuf>,
}

impl<'a> BuildSource<'a> {
    /// A generation as it was published.
    pub(crate) fn published(state: &State, staged: &'a Staged) -> Self {
        let netrc = state.secrets_of(&staged.id()).join("netrc");
        BuildSource {
            config: &staged.config,
            policy: staged.policy(),
            netrc: netrc.is_file().then_some(netrc),
        }
    }
}

/// Builds, and gives the store path of the system. The result stays linked from the state folder.
pub(crate) fn build(
    settings: &Settings,
    state: &State,
    source: &BuildSource<'_>,
    tail: &mut Tail,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<SystemPath> {
    let kind = Kind::of(source.config)?;
    let result = state.result();
    // A link that an earlier build left must not pass for this one's.
    atomic_file::remove_if_there(&result)
        .with_context(|| format!("can't remove {}", result.display()))?;
    let build = SystemBuild {
        kind: &kind,
        host: &settings.name,
        terms: source.policy.terms(),
        nix_path: Some(&settings.nix_path),
        netrc: source.netrc.as_deref(),
        arguments: settings.nix_args.as_slice(),
        result: &result,
    };
    let limit = settings.timeouts.build.duration();
    bento_nix::run(build.command(), limit, tail, line)?;
    bento_nix::system(&result)
}
