//! Generations: a host tree becomes a manifest, with the digest of each file and the id of the whole.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use bento_protocol::{
    Digest, File, FileList, HostName, Manifest, ManifestEntry, ManifestError, Policy, Reboot,
    limits,
};
use jiff::Timestamp;
use rustix::io::Errno;
use serde::Serialize;
use sha2::Digest as _;

use crate::fleet::Host;
use crate::problem::Problem;
use crate::scan::{FleetFolder, HostTree, Stamp, TreeFile};

/// Digests of files by stamp, so that an unchanged fleet costs one stat for each file.
#[derive(Debug, Default)]
pub struct DigestCache {
    known: HashMap<Stamp, Digest>,
    /// Those used since the last [`Self::forget_unused`].
    used: HashMap<Stamp, Digest>,
}

impl DigestCache {
    /// The number of digests above which unused ones are forgotten in any case: some 15 MB.
    const LARGE: usize = 100_000;

    /// The least age of a stamp when its file is read: a second change in the same tick of a filesystem's clock would have
    /// the same stamp.
    const MIN_AGE: Duration = Duration::from_secs(2);

    /// Whether it is so large that unused digests must be forgotten.
    pub fn is_large(&self) -> bool {
        self.known.len() + self.used.len() > Self::LARGE
    }

    /// Forgets the digests that weren't used since the last call.
    pub fn forget_unused(&mut self) {
        self.known = std::mem::take(&mut self.used);
    }

    fn get(&mut self, fleet: &FleetFolder, file: &TreeFile) -> Result<Digest, ReadError> {
        let known = self
            .known
            .get(&file.stamp)
            .or_else(|| self.used.get(&file.stamp))
            .copied();
        if let Some(digest) = known {
            self.used.insert(file.stamp, digest);
            return Ok(digest);
        }
        let is_old = file.stamp.is_older_than(Self::MIN_AGE);
        let mut hasher = sha2::Sha256::new();
        read(fleet, file, |chunk| {
            hasher.update(chunk);
            Ok(())
        })?;
        let digest = Digest::from_hasher(hasher);
        if is_old {
            self.used.insert(file.stamp, digest);
        }
        Ok(digest)
    }
}

/// A failed read of a file of a tree.
#[derive(Debug)]
pub enum ReadError {
    /// This file, relative to the fleet folder, has changed since the scan: scan again when it is stable.
    Changed(PathBuf),
    /// A file can't be read.
    Unreadable(Problem),
    /// The output couldn't be written.
    Output(io::Error),
}

/// Reads a file of a tree, if it is the same from the scan to the last byte.
pub fn read(
    fleet: &FleetFolder,
    file: &TreeFile,
    mut output: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ReadError> {
    let stamp_of = |opened: &std::fs::File| rustix::fs::fstat(opened).map(|stat| Stamp::of(&stat));
    let mut opened = fleet
        .read(&file.real)
        .map_err(|error| unreadable(file, &error))?;
    let mut length = 0;
    let mut buffer = [0; 64 << 10];
    loop {
        let count = opened
            .read(&mut buffer)
            .map_err(|error| unreadable(file, &error))?;
        length += count as u64;
        if count == 0 || length > file.stamp.size {
            break;
        }
        output(&buffer[..count]).map_err(ReadError::Output)?;
    }
    match stamp_of(&opened) {
        Ok(stamp) if stamp == file.stamp && length == stamp.size => Ok(()),
        _ => Err(ReadError::Changed(file.real.clone())),
    }
}

fn unreadable(file: &TreeFile, error: &io::Error) -> ReadError {
    let place = file.real.to_string_lossy();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // Gone, or a symlink by now: the tree changes.
        Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => ReadError::Changed(file.real.clone()),
        Some(Errno::ACCESS | Errno::PERM) => ReadError::Unreadable(Problem::new(
            place,
            "can't be read by the user who runs the appliance",
            "let that user read it (chmod, or an ACL)",
        )),
        _ => {
            let advice = "check the disk and the mount";
            ReadError::Unreadable(Problem::new(
                place,
                format!("can't be read: {error}"),
                advice,
            ))
        }
    }
}

/// The manifest of a host tree.
pub fn manifest(
    name: &HostName,
    host: &Host,
    tree: &HostTree,
    fleet: &FleetFolder,
    cache: &mut DigestCache,
    now: Timestamp,
) -> Result<Manifest, ReadError> {
    let files = files(tree, fleet, cache)?;
    Manifest::new(name.clone(), policy(host, tree), files, now)
        .map_err(|error| impossible(host, &error))
}

/// The files of a host tree, for all machines that get the same files.
pub fn file_list(
    host: &Host,
    tree: &HostTree,
    fleet: &FleetFolder,
    cache: &mut DigestCache,
) -> Result<FileList, ReadError> {
    let files = files(tree, fleet, cache)?;
    FileList::new(files).map_err(|error| impossible(host, &error))
}

fn files(
    tree: &HostTree,
    fleet: &FleetFolder,
    cache: &mut DigestCache,
) -> Result<Vec<ManifestEntry>, ReadError> {
    let file = |file: &TreeFile| {
        // The target of a symlink was read with its stamp.
        if let Some(link) = &file.symlink {
            return Ok(link.clone().into());
        }
        let file = File {
            path: file.path.clone(),
            executable: file.stamp.is_executable(),
            size: file.stamp.size,
            sha256: cache.get(fleet, file)?,
        };
        Ok(file.into())
    };
    tree.files().map(file).collect()
}

fn impossible(host: &Host, error: &ManifestError) -> ReadError {
    let advice = "rename one of them";
    ReadError::Unreadable(Problem::new(
        host.source.to_string(),
        error.to_string(),
        advice,
    ))
}

/// Refuses a generation that no client would take. It isn't a part of [`manifest`], because only generations that are about
/// to be published need it.
pub fn require_size(manifest: &Manifest, host: &Host) -> Result<(), ReadError> {
    match too_large(manifest, &host.source.to_string()) {
        Some(problem) => Err(ReadError::Unreadable(problem.of(manifest.host()))),
        None => Ok(()),
    }
}

/// The problem of a manifest that a client would refuse for its size.
fn too_large(manifest: &Manifest, place: &str) -> Option<Problem> {
    // The head of a manifest has some hundred bytes beside its policy.
    if size(manifest.policy()) > limits::HEAD_BYTES / 2 {
        let what = format!(
            "the settings of this machine have more than {} KiB",
            limits::HEAD_BYTES / 2 / 1024
        );
        return Some(Problem::new("fleet.toml", what, "shorten nix_args"));
    }
    let most = limits::MANIFEST_BYTES;
    (size_at_most(manifest) > most && size(manifest) > most).then(|| {
        let what = format!(
            "has so many files that their list has more than {} MiB",
            most >> 20
        );
        Problem::new(place, what, "narrow it with exclude")
    })
}

/// An upper bound of the size of a manifest as JSON, in bytes, without writing it: a file has at most 136 bytes beside its
/// path, a symlink fewer beside path and target; the escape of each of their bytes takes one more at most.
fn size_at_most(manifest: &Manifest) -> u64 {
    let of_file = |entry: &ManifestEntry| {
        let target = entry.symlink().map_or(0, |link| link.target().len());
        136 + 2 * (entry.path().as_str().len() + target) as u64
    };
    let files: u64 = manifest.files().iter().map(of_file).sum();
    limits::HEAD_BYTES + files
}

/// The size of something as JSON, in bytes.
fn size(value: &impl Serialize) -> u64 {
    struct Length(u64);
    impl Write for Length {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    match serde_json::to_writer(&mut length, value) {
        Ok(()) => length.0,
        // A manifest that can't be written can't be published either.
        Err(_) => u64::MAX,
    }
}

/// The settings for the client: the host's own ones, then its marker files, then the defaults.
pub fn policy(host: &Host, tree: &HostTree) -> Policy {
    let mut terms = host.terms.clone();
    if tree.has_config("REBOOT") && !host.overruled.reboot {
        terms.reboot = Reboot::Immediate;
    }
    terms.self_update |= tree.has_config("SELF_UPDATE") && !host.overruled.self_update;
    terms.into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bento_protocol::{Area, FilePath, Symlink, Terms};

    use super::*;

    fn manifest(files: usize, nix_args: Vec<String>) -> Manifest {
        let file = |number| File {
            path: FilePath::new(Area::Config, &format!("{}{number}", "folder/".repeat(450)))
                .unwrap(),
            executable: false,
            size: 0,
            sha256: Digest::of(""),
        };
        let terms = Terms {
            nix_args: nix_args.try_into().unwrap(),
            ..Terms::default()
        };
        let files = (0..files).map(file).map(ManifestEntry::from);
        let link = FilePath::new(Area::Config, "link").unwrap();
        let link = Symlink::new(link, "\"\\".repeat(1000)).unwrap();
        Manifest::new(
            "a".parse().unwrap(),
            terms.into(),
            files.chain([link.into()]).collect::<Vec<_>>(),
            Timestamp::UNIX_EPOCH,
        )
        .unwrap()
    }

    fn refusal(manifest: &Manifest) -> Option<String> {
        too_large(manifest, "hosts/a").map(|problem| problem.to_string())
    }

    #[test]
    fn a_digest_is_cached_only_by_a_stamp_that_is_old_enough() {
        let cached = |folder: &Path, file: &str| {
            let fleet = FleetFolder::open(folder).unwrap();
            let file = TreeFile {
                path: FilePath::new(Area::Config, file).unwrap(),
                real: file.into(),
                stamp: Stamp::of(&fleet.find(Path::new(file)).unwrap().stat),
                symlink: None,
            };
            let mut digests = DigestCache::default();
            digests.get(&fleet, &file).unwrap();
            digests.used.contains_key(&file.stamp)
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("young"), "1").unwrap();
        assert!(!cached(folder.path(), "young"));
        // A source file of this test is old enough.
        assert!(cached(Path::new(env!("CARGO_MANIFEST_DIR")), "Cargo.toml"));
    }

    // Issue 10, line 13.
    #[test]
    fn a_machines_own_key_beats_its_marker_file_which_beats_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("hosts/a");
        std::fs::create_dir_all(&source).unwrap();
        for marker in ["configuration.nix", "REBOOT", "SELF_UPDATE"] {
            std::fs::write(source.join(marker), "").unwrap();
        }
        let keys = "reboot = \"never\"\nself_update = false\n";
        let terms = |defaults: &str, own: &str| {
            let text = format!("[server]\naddress = \"x\"\n[defaults]\n{defaults}[hosts.a]\n{own}");
            let fleet = crate::fleet::read(&text).unwrap().fleet;
            let (name, host) = fleet.hosts.first_key_value().unwrap();
            let opened = FleetFolder::open(folder.path()).unwrap();
            let tree = HostTree::walk(&opened, name, host).unwrap();
            let terms = policy(host, &tree).terms().clone();
            (terms.reboot, terms.self_update)
        };
        assert_eq!(terms("", keys), (Reboot::Never, false));
        assert_eq!(terms(keys, ""), (Reboot::Immediate, true));
        assert_eq!(terms("", ""), (Reboot::Immediate, true));
        assert_eq!(terms("", "reboot = \"never\"\n"), (Reboot::Never, true));
    }

    #[test]
    fn a_generation_that_no_client_would_take_is_refused() {
        let arguments = |count| vec!["--fallback".to_owned(); count];
        assert_eq!(refusal(&manifest(1000, arguments(1000))), None);
        for files in [1000, 5000] {
            let manifest = manifest(files, arguments(0));
            assert!(size(&manifest) <= size_at_most(&manifest));
        }
        let many = refusal(&manifest(12_000, arguments(0))).unwrap();
        assert!(many.starts_with("hosts/a: has so many files"), "{many}");
        let long = refusal(&manifest(0, arguments(20_000))).unwrap();
        assert!(long.contains("shorten nix_args"), "{long}");
    }
}
