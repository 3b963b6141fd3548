//! Checks what no archive brought: the files that a delta leaves out, and a generation that was staged before.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bento_nix::normal;
use bento_protocol::stream::Head;
use bento_protocol::{self as protocol, Area, Digest, GenerationId, ManifestEntry, Symlink};
use rustix::fs::OFlags;
use sha2::Digest as _;

use crate::generation::folders;
use crate::generation::partial;
use crate::generation::partial::Partial;
use crate::generation::pull::{PullError, Pulled, Source};
use crate::generation::staged;
use crate::generation::staged::Staged;
use crate::state::State;

/// A generation whose every byte was checked against its manifest, still aside.
#[derive(Debug)]
pub struct Verified {
    pub(crate) partial: Partial,
    pub(crate) head: Head,
}

/// Completes a pull: what a delta left out is taken over from the generation before, if it is what it should be.
pub fn verify(state: &State, pulled: Pulled) -> Result<Verified, PullError> {
    if let Source::Delta(base) = &pulled.source {
        let base = base.id();
        for file in pulled.partial.missing().map_err(PullError::Local)? {
            let file = file.map_err(PullError::Local)?;
            let path = folder_of(state, &base, file.path().area()).join(file.path().rest());
            check(&path, &file)
                .with_context(|| format!("generation {} on this machine was changed", base.short()))
                .map_err(PullError::Unverified)?;
            match &file {
                ManifestEntry::File(file) => pulled.partial.link(file, &path),
                ManifestEntry::Symlink(link) => pulled.partial.symlink(link),
            }
            .map_err(PullError::Local)?;
        }
    }
    Ok(Verified {
        partial: pulled.partial,
        head: pulled.head,
    })
}

/// The generation, if it is staged and matches its manifest. Otherwise its files are removed, and the reason is passed to
/// `complain`.
pub fn staged(
    state: &State,
    id: &GenerationId,
    complain: &mut dyn FnMut(anyhow::Error),
) -> anyhow::Result<Option<Staged>> {
    let found = staged::find(state, id).and_then(|staged| {
        if let Some(staged) = &staged {
            check_all(state, staged)?;
        }
        Ok(staged)
    });
    match found {
        Ok(Some(staged)) => return Ok(Some(staged)),
        Ok(None) => {}
        Err(error) => complain(error.context(format!("generation {} is pulled again", id.short()))),
    }
    let folder = state.generation(id);
    crate::state::atomic_file::remove_folder_if_there(&folder)
        .with_context(|| format!("can't remove {}", folder.display()))?;
    Ok(None)
}

fn folder_of(state: &State, id: &GenerationId, area: Area) -> PathBuf {
    match area {
        Area::Config => state.generation(id).join(area.folder()),
        Area::Secrets => state.secrets_of(id),
    }
}

/// Compares a generation that is in place with its list: no file or folder more, none less, none other.
fn check_all(state: &State, staged: &Staged) -> anyhow::Result<()> {
    let folder = |area| folder_of(state, &staged.id(), area);
    folders::walk(
        staged.files()?,
        &mut |file| check(&folder(file.path().area()).join(file.path().rest()), file),
        &mut |left| check_folder(&left.path_in(&folder(left.area)), left.entries),
    )
}

/// Checks that there is a folder, not a link to one, with so many files and folders.
fn check_folder(path: &Path, entries: usize) -> anyhow::Result<()> {
    let shown = path.display();
    let read = || {
        let is_folder = fs::symlink_metadata(path)?.is_dir();
        Ok::<_, std::io::Error>((is_folder, fs::read_dir(path)?.count()))
    };
    let (is_folder, found) = read().with_context(|| format!("can't list {shown}"))?;
    ensure!(is_folder, "{shown} isn't a folder");
    ensure!(
        found == entries,
        "{shown} has {found} files and folders, not {entries}"
    );
    Ok(())
}

fn check(path: &Path, entry: &ManifestEntry) -> anyhow::Result<()> {
    match entry {
        ManifestEntry::File(file) => check_file(path, file),
        ManifestEntry::Symlink(link) => check_symlink(path, link),
    }
}

/// Checks that there is a symlink with the target of the manifest.
fn check_symlink(path: &Path, link: &Symlink) -> anyhow::Result<()> {
    let shown = path.display();
    let found = fs::read_link(path).with_context(|| format!("can't read the symlink {shown}"))?;
    ensure!(
        found.as_os_str() == link.target(),
        "{shown} leads to {}, not to {}",
        found.display(),
        link.target()
    );
    let modified = fs::symlink_metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok();
    if modified != Some(normal::the_time()) {
        normal::normalize_link(path).with_context(|| format!("can't set the time of {shown}"))?;
    }
    Ok(())
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
        .with_context(|| format!("can't read {shown}"))?;
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
    if metadata.modified().ok() != Some(normal::the_time()) {
        opened
            .set_modified(normal::the_time())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::generation::archive::tests::{ArchiveEnv, small};

    #[test]
    fn a_staged_generation_is_kept_only_if_nothing_was_done_to_it() {
        let env = ArchiveEnv::new();
        let id = env.stage(&small()).id();
        let found = |complaint: &mut String| {
            staged(&env.state, &id, &mut |error| {
                *complaint = format!("{error:#}");
            })
            .unwrap()
        };
        let mut complaint = String::new();
        assert!(found(&mut complaint).is_some(), "{complaint}");

        type Harm = fn(&Path, &Path) -> std::io::Result<()>;
        let harms: [(Harm, &str); 10] = [
            (|config, _| fs::write(config.join("more"), ""), "not 2"),
            (|config, _| fs::create_dir(config.join("sub/more")), "not 1"),
            (|_, secrets| fs::write(secrets.join("more"), ""), "not 1"),
            (
                |config, _| fs::remove_file(config.join("flake.nix")),
                "can't open",
            ),
            (
                |config, _| fs::write(config.join("flake.nix"), "{ outputs = _: {x}; }"),
                "has another content",
            ),
            (
                |config, _| {
                    fs::rename(config.join("sub"), config.with_file_name("sub"))?;
                    symlink("../sub", config.join("sub"))
                },
                "isn't a folder",
            ),
            (
                |_, secrets| {
                    let elsewhere = secrets.with_file_name("elsewhere");
                    fs::rename(secrets, &elsewhere)?;
                    symlink(elsewhere, secrets)
                },
                "isn't a folder",
            ),
            (
                |config, _| {
                    let permissions = fs::Permissions::from_mode(0o644);
                    fs::set_permissions(config.join("sub/run.sh"), permissions)
                },
                "has the permissions",
            ),
            (
                |config, _| {
                    let list = config.with_file_name("files");
                    let text = fs::read_to_string(&list)?;
                    fs::write(&list, text.replacen("file x", "file -", 1))
                },
                "with its list it is",
            ),
            (
                |config, _| {
                    let head = config.with_file_name("head.json");
                    let text = fs::read_to_string(&head)?;
                    fs::write(&head, text.replacen("kikimora", "kikimore", 1))
                },
                "with its list it is",
            ),
        ];
        for (harm, expected) in harms {
            harm(
                &env.state.generation(&id).join("config"),
                &env.state.secrets_of(&id),
            )
            .unwrap();
            let mut complaint = String::new();
            assert!(found(&mut complaint).is_none(), "{expected}");
            assert!(complaint.contains(expected), "{expected}: {complaint}");
            env.stage(&small());
        }
    }
}
