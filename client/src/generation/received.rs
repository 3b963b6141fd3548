//! The received part of an archive whose transfer was cut: the next pull of the same archive resumes there.
//!
//! Nothing of it is believed. It is unpacked and verified as if it came just now, and thrown away if what it begins isn't
//! the generation wanted: the server may have published the same generation again, in other bytes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bento_protocol::GenerationId;

use crate::generation::pull::Source;
use crate::state::State;
use crate::state::atomic_file;

/// How much of an archive is kept, in bytes. Of a longer one its beginning is, and the rest is fetched again.
pub(crate) const MOST: u64 = 64 << 20;

/// The beginning of an archive, in a file. Where the disk doesn't take it, nothing is kept, and the pull goes on.
#[derive(Debug)]
pub(crate) struct Received {
    path: PathBuf,
    /// None where nothing can be kept.
    file: Option<File>,
    length: u64,
}

impl Received {
    /// The part kept of this archive. Parts of other generations are removed.
    pub(crate) fn of(state: &State, generation: &GenerationId, source: &Source) -> Self {
        // A part that can't be removed takes space, and prevents no pull.
        let _ = remove_all_but(state, Some(generation));
        let from = match source {
            Source::Bundle => "bundle".to_owned(),
            Source::Delta(base) => base.id().to_string(),
        };
        let path = state.received().join(format!("{generation}.{from}"));
        let length = fs::metadata(&path).map_or(0, |found| found.len());
        Received {
            file: None,
            length,
            path,
        }
    }

    /// How many bytes are kept.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The whole archive: what is kept, and then the rest, which comes from `wire` and is kept, too.
    ///
    /// # Errors
    /// When what is kept can't be read.
    pub(crate) fn and_then<'a, R: Read>(
        &'a mut self,
        wire: R,
    ) -> io::Result<impl Read + use<'a, R>> {
        let kept = match self.length {
            0 => None,
            length => Some(File::open(&self.path)?.take(length)),
        };
        self.file = self.open().ok();
        Ok(Archive {
            kept,
            wire,
            received: self,
        })
    }

    /// Forgets what is kept of this archive, so that it is fetched from its beginning.
    pub(crate) fn forget(&mut self) {
        self.file = None;
        // The rest has a wrong length: it won't verify the next time, and is removed then.
        let _ = atomic_file::remove_if_there(&self.path);
        self.length = 0;
    }

    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.is_dir()) {
            DirBuilder::new().mode(0o700).create(folder)?;
        }
        // Secrets are in it.
        let options = &mut OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        options.open(&self.path)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = usize::try_from(MOST.saturating_sub(self.length)).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        let Some(file) = &mut self.file else {
            return;
        };
        match file.write_all(bytes) {
            Ok(()) => self.length += bytes.len() as u64,
            // A full disk must have its room back: the files of the generation need it.
            Err(_) => self.forget(),
        }
    }
}

/// Removes what is kept of generations other than this one, or all.
pub(crate) fn remove_all_but(state: &State, generation: Option<&GenerationId>) -> io::Result<()> {
    let folder = state.received();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let wanted = generation.map(|generation| format!("{generation}."));
    let is_wanted = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.zip(wanted.as_ref())
            .is_some_and(|(name, wanted)| name.starts_with(wanted))
    };
    for entry in entries {
        let path = entry?.path();
        if !is_wanted(&path) {
            atomic_file::remove_if_there(&path)?;
        }
    }
    match generation {
        Some(_) => Ok(()),
        None => fs::remove_dir(folder),
    }
}

struct Archive<'a, R> {
    kept: Option<io::Take<File>>,
    wire: R,
    received: &'a mut Received,
}

impl<R: Read> Read for Archive<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(kept) = &mut self.kept {
            let count = kept.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.kept = None;
        }
        let count = self.wire.read(buffer)?;
        self.received.keep(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::archive::tests::{ArchiveEnv, small};

    fn read(received: &mut Received, wire: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let archive = received.and_then(wire);
        archive.unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn of(env: &ArchiveEnv, digit: &str, source: &Source) -> Received {
        Received::of(&env.state, &digit.repeat(64).parse().unwrap(), source)
    }

    // Issue 10, line 30.
    #[test]
    fn what_came_is_there_at_the_next_pull_of_the_same_archive() {
        let env = ArchiveEnv::new();
        let delta = Source::Delta(Box::new(env.stage(&small())));
        assert_eq!(read(&mut of(&env, "a", &Source::Bundle), b"one "), b"one ");
        assert_eq!(read(&mut of(&env, "a", &delta), b"other"), b"other");
        let mut received = of(&env, "a", &Source::Bundle);
        assert_eq!(received.length(), 4);
        assert_eq!(read(&mut received, b"two"), b"one two");
        assert_eq!(received.length(), 7);
        assert_eq!(of(&env, "a", &delta).length(), 5);
        received.forget();
        assert_eq!(read(&mut received, b"three"), b"three");

        // Of another generation nothing is known, and nothing of the first is kept any more.
        assert_eq!(of(&env, "b", &Source::Bundle).length(), 0);
        assert_eq!(of(&env, "a", &Source::Bundle).length(), 0);
        assert_eq!(of(&env, "a", &delta).length(), 0);
        read(&mut of(&env, "a", &Source::Bundle), b"one ");
        remove_all_but(&env.state, None).unwrap();
        remove_all_but(&env.state, None).unwrap();
        assert!(!env.state.received().exists());
    }

    #[test]
    fn no_more_is_kept_than_a_disk_can_spare() {
        let env = ArchiveEnv::new();
        let mut received = of(&env, "a", &Source::Bundle);
        let wire = std::io::repeat(7).take(MOST + (1 << 20));
        let mut count = 0;
        let mut piece = vec![0; 1 << 20];
        let mut archive = received.and_then(wire).unwrap();
        loop {
            match archive.read(&mut piece).unwrap() {
                0 => break,
                more => count += more as u64,
            }
        }
        drop(archive);
        assert_eq!(count, MOST + (1 << 20));
        assert_eq!(received.length(), MOST);
        let next = of(&env, "a", &Source::Bundle);
        assert_eq!(next.length(), MOST);
    }

    #[test]
    fn a_disk_that_takes_nothing_keeps_no_pull_from_its_end() {
        let env = ArchiveEnv::new();
        let mut received = of(&env, "a", &Source::Bundle);
        // A file stands where the folder should be.
        fs::write(env.state.received(), "").unwrap();
        assert_eq!(read(&mut received, b"all of it"), b"all of it");
        assert_eq!(received.length(), 0);
        fs::remove_file(env.state.received()).unwrap();
        let mut received = of(&env, "a", &Source::Bundle);
        let mut bytes = Vec::new();
        let mut archive = received.and_then(&b"all of it"[..]).unwrap();
        archive.read_exact(&mut [0; 3]).unwrap();
        archive.read_to_end(&mut bytes).unwrap();
        drop(archive);
        received.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        received.keep(b"more");
        assert_eq!(received.length(), 0);
        assert!(!received.path.exists());
    }
}
