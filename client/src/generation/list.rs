//! Sorted lists on disk, one item a line: those of a generation's files may be too long for the memory.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use bento_protocol::{FilePath, ManifestError, PathOrder};

/// The longest line, in bytes: a path and the target of a symlink; what else stands there takes less than 100.
const LINE_BYTES: u64 = 2 * FilePath::MAX_BYTES as u64 + 100;

/// Writes a list.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    order: PathOrder,
    written: io::Result<()>,
}

impl Writer {
    /// Begins a list, in a new file.
    pub(crate) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(Writer {
            path,
            file: BufWriter::new(file),
            order: PathOrder::default(),
            written: Ok(()),
        })
    }

    /// Adds an item, if its path may follow those before. Whether it was written is said when the list is finished.
    pub(crate) fn add(
        &mut self,
        path: &FilePath,
        item: &impl Display,
    ) -> Result<(), ManifestError> {
        self.order.check(path)?;
        if self.written.is_ok() {
            self.written = writeln!(self.file, "{item}");
        }
        Ok(())
    }

    /// Ends the list.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.written
            .and_then(|()| self.file.flush())
            .with_context(|| format!("can't write {}", self.path.display()))
    }
}

/// Reads a list, item by item.
pub(crate) fn read<T>(
    path: &Path,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<T>> + use<T>>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let path = path.to_owned();
    let file = File::open(&path).with_context(|| format!("can't open {}", path.display()))?;
    let mut file = BufReader::new(file);
    let mut line = String::new();
    Ok(std::iter::from_fn(move || {
        line.clear();
        let item = match file.by_ref().take(LINE_BYTES).read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => parse(&line),
            Err(error) => Err(error.into()),
        };
        Some(item.with_context(|| format!("{} is damaged", path.display())))
    }))
}

fn parse<T>(line: &str) -> anyhow::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let item = line
        .strip_suffix('\n')
        .context("it has a line that doesn't end")?;
    Ok(item.parse()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bento_protocol::{Digest, File, ManifestEntry, Symlink};

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files");
        let mut files: Vec<ManifestEntry> = ["config/a", "config/b c", "secrets/ä"]
            .map(|path| File {
                path: path.parse().unwrap(),
                executable: false,
                size: 1,
                sha256: Digest::of("1"),
            })
            .map(ManifestEntry::from)
            .to_vec();
        // The longest line that there can be. Issue 10, line 3.
        let long = FilePath::new(bento_protocol::Area::Config, &"c".repeat(3490)).unwrap();
        let link = Symlink::new(long, "t".repeat(FilePath::MAX_BYTES)).unwrap();
        files.insert(2, link.into());
        let mut writer = Writer::create(path.clone()).unwrap();
        for file in &files {
            writer.add(file.path(), file).unwrap();
        }
        assert!(writer.add(files[0].path(), &files[0]).is_err());
        writer.finish().unwrap();
        let items: Vec<ManifestEntry> = read(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(items, files);

        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(read::<File>(&path).unwrap().last().unwrap().is_err());
        fs::write(&path, "x".repeat(1 << 20)).unwrap();
        let error = read::<File>(&path).unwrap().next().unwrap().unwrap_err();
        assert!(format!("{error:#}").contains("doesn't end"), "{error:#}");
    }

    #[test]
    fn a_full_disk_is_noticed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(folder.path().join("files")).unwrap();
        writer.file = BufWriter::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
        writer.add(&"config/a".parse().unwrap(), &"a").unwrap();
        assert!(writer.finish().is_err());
    }
}
