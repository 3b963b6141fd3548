//! Where the things under test lie: the binaries and the image.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The folder of the programs: `debug`, or `release` in tests of what is delivered, and in the demo.
fn profile() -> String {
    env::var("PROFILE").unwrap_or_else(|_| "debug".to_owned())
}

/// A binary: `bento`, `bento-client` or `bento-image`.
///
/// # Errors
/// If it hasn't been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    built(target().join(profile()).join(name))
}

/// The image as an archive, for `podman load`.
///
/// # Errors
/// If it hasn't been built.
pub fn image() -> Result<PathBuf> {
    let folder = match profile().as_str() {
        "release" => target(),
        other => target().join(other),
    };
    built(folder.join("bento.oci.tar"))
}

/// The folder for all that is built.
#[must_use]
pub fn target() -> PathBuf {
    // Relative to where cargo was started, as cargo itself reads it: the root of the repository.
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || repository().join("target"),
        |folder| repository().join(folder),
    )
}

fn built(path: PathBuf) -> Result<PathBuf> {
    if !path.exists() {
        bail!("{} doesn't exist: `make test` builds it", path.display());
    }
    Ok(path)
}
