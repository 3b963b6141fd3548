//! Checks what no archive brought: the files that a delta leaves out, and a generation that was staged before.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bento_protocol::{self as protocol, Area, Digest, FilePath, GenerationId, Manifest};
use rustix::fs::OFlags;
use sha2::Digest as _;

use crate::generations::{self, Staged};
use crate::partial::{self, Partial};
use crate::pull::{PullError, Pulled, Source};
use crate::state::State;

/// A generation of which every byte was checked against its manifest, still aside.
#[derive(Debug)]
pub struct Verified {
    pub(crate) partial: Partial,
    pub(crate) manifest: Manifest,
}

/// Completes a pull: what a delta left out is taken over from the generation before, if it is what it should be.
pub(crate) fn verify(state: &State, pulled: Pulled) -> Result<Verified, PullError> {
    if let Source::Delta(base) = &pulled.source {
        let base = base.manifest.generation();
        for file in pulled.unpacked.missing() {
            let path = path_in(state, &base, &file.path);
            check_file(&path, file)
                .with_context(|| format!("generation {} on this machine was changed", base.short()))
                .map_err(PullError::Unverified)?;
            pulled.partial.link(file, &path).map_err(PullError::Local)?;
        }
    }
    Ok(Verified {
        partial: pulled.partial,
        manifest: pulled.unpacked.manifest,
    })
}

/// The generation, if it is staged and still is what its manifest says. Otherwise what is left of it is removed, and
/// told to `complain`.
pub(crate) fn staged(
    state: &State,
    id: &GenerationId,
    complain: &mut dyn FnMut(anyhow::Error),
) -> anyhow::Result<Option<Staged>> {
    let found = generations::find(state, id).and_then(|staged| {
        if let Some(staged) = &staged {
            check_all(state, &staged.manifest)?;
        }
        Ok(staged)
    });
    match found {
        Ok(Some(staged)) => return Ok(Some(staged)),
        Ok(None) => {}
        Err(error) => complain(error.context(format!("generation {} is pulled again", id.short()))),
    }
    let folder = state.generation(id);
    crate::durable::remove_folder_if_there(&folder)
        .with_context(|| format!("can't remove {}", folder.display()))?;
    Ok(None)
}

fn path_in(state: &State, id: &GenerationId, path: &FilePath) -> PathBuf {
    folder_of(state, id, path.area()).join(path.rest())
}

fn folder_of(state: &State, id: &GenerationId, area: Area) -> PathBuf {
    match area {
        Area::Config => state.generation(id).join(area.folder()),
        Area::Secrets => state.secrets_of(id),
    }
}

/// Compares a generation that is in place with its manifest: no file more, none less, none other.
fn check_all(state: &State, manifest: &Manifest) -> anyhow::Result<()> {
    let id = manifest.generation();
    let mut count = 0;
    for area in [Area::Config, Area::Secrets] {
        count += count_files(&folder_of(state, &id, area))?;
    }
    for file in manifest.files() {
        check_file(&path_in(state, &id, &file.path), file)?;
    }
    ensure!(
        count == manifest.files().len(),
        "{} has {count} files, and its manifest lists {}",
        state.generation(&id).display(),
        manifest.files().len()
    );
    Ok(())
}

fn count_files(folder: &Path) -> anyhow::Result<usize> {
    let context = || format!("can't list {}", folder.display());
    let mut count = 0;
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        count += match entry.file_type().with_context(context)?.is_dir() {
            true => count_files(&entry.path())?,
            false => 1,
        };
    }
    Ok(count)
}

/// Checks that there is a regular file with the permissions, the size and the digest of the manifest.
fn check_file(path: &Path, file: &protocol::File) -> anyhow::Result<()> {
    let shown = path.display();
    let opened = OpenOptions::new()
        .read(true)
        // Not a link to what is elsewhere, and not a FIFO that never answers.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let mut opened = opened.with_context(|| format!("can't open {shown}"))?;
    let metadata = opened
        .metadata()
        .with_context(|| format!("can't look at {shown}"))?;
    ensure!(metadata.is_file(), "{shown} isn't a regular file");
    ensure!(
        metadata.len() == file.size,
        "{shown} has {} bytes, not {}",
        metadata.len(),
        file.size
    );
    let mode = metadata.permissions().mode() & 0o7777;
    ensure!(
        mode == partial::mode(file),
        "{shown} has the permissions {mode:o}, not {:o}",
        partial::mode(file)
    );
    let digest = digest_of(&mut opened).with_context(|| format!("can't read {shown}"))?;
    ensure!(
        digest == file.sha256,
        "{shown} has another content than it had"
    );
    if metadata.modified().ok() != Some(partial::the_time()) {
        opened
            .set_modified(partial::the_time())
            .with_context(|| format!("can't set the time of {shown}"))?;
    }
    Ok(())
}

fn digest_of(file: &mut File) -> std::io::Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    let mut piece = [0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest::from_hasher(hasher)),
            count => hasher.update(&piece[..count]),
        }
    }
}
