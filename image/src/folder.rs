//! A tree as a folder on disk.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::tree::{Content, Entry, Tree};

/// Reads a folder as a tree. Of its owners, times and modes, only "executable" counts.
///
/// # Errors
/// When an entry can't be read, or isn't a folder, file or symlink.
pub fn read(folder: &Path) -> Result<Tree> {
    ensure!(folder.is_dir(), "{} isn't a folder", folder.display());
    let mut tree = Tree::default();
    read_below(folder, Path::new("/"), &mut tree)?;
    Ok(tree)
}

fn read_below(folder: &Path, in_image: &Path, tree: &mut Tree) -> Result<()> {
    let reading = || format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let source = entry.path();
        let path = in_image.join(entry.file_name());
        let kind = entry.file_type().with_context(reading)?;
        if kind.is_dir() {
            tree.add(&path, Entry::Directory)?;
            read_below(&source, &path, tree)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&source)
                .with_context(|| format!("reading the symlink {}", source.display()))?;
            tree.add(&path, Entry::Symlink(target))?;
        } else if kind.is_file() {
            let executable = entry.metadata().with_context(reading)?.mode() & 0o100 != 0;
            let content = Content::Copy(source);
            tree.add(
                &path,
                Entry::File {
                    content,
                    executable,
                },
            )?;
        } else {
            bail!(
                "{} is a device, socket or pipe; an image can't have it",
                source.display()
            );
        }
    }
    Ok(())
}

/// Writes a tree as a folder, atomically: after any failure `output` is complete or missing. Owners
/// and times are set later, when the folder is packed.
///
/// # Errors
/// When `output` exists and isn't an empty folder, or a file can't be read or written.
pub fn write(tree: &Tree, output: &Path) -> Result<()> {
    let parent = match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let aside = tempfile::Builder::new()
        .prefix(".bento-rootfs-")
        .tempdir_in(parent)
        .with_context(|| format!("creating a folder in {}", parent.display()))?;
    for (path, entry) in tree.entries() {
        let at = aside.path().join(path.strip_prefix("/").unwrap_or(path));
        write_entry(&at, path, entry).with_context(|| format!("writing {}", at.display()))?;
    }
    fs::set_permissions(aside.path(), Permissions::from_mode(0o755))
        .with_context(|| format!("opening {} to all", aside.path().display()))?;
    fs::rename(aside.path(), output).with_context(|| {
        format!(
            "writing {}, which must not exist yet, or be an empty folder",
            output.display()
        )
    })?;
    // It was renamed: nothing is left to remove.
    let _moved: PathBuf = aside.keep();
    Ok(())
}

fn write_entry(at: &Path, path: &Path, entry: &Entry) -> Result<()> {
    let mode = entry.mode(path);
    match entry {
        Entry::Directory => DirBuilder::new().mode(mode).create(at)?,
        Entry::Symlink(target) => return Ok(symlink(target, at)?),
        Entry::File { content, .. } => OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(at)?
            .write_all(&content.read()?)?,
    }
    // Again, because the umask has taken bits from the mode above.
    Ok(fs::set_permissions(at, Permissions::from_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        let file = |executable| Entry::File {
            content: Content::Text("text"),
            executable,
        };
        tree.add(Path::new("/bin"), Entry::Symlink("usr/bin".into()))
            .unwrap();
        tree.add(Path::new("/usr/bin/run"), file(true)).unwrap();
        tree.add(Path::new("/usr/read"), file(false)).unwrap();
        tree.add(Path::new("/tmp"), Entry::Directory).unwrap();
        tree
    }

    #[test]
    fn what_is_written_reads_the_same_with_the_modes_of_the_image() {
        let parent = tempfile::tempdir().unwrap();
        let output = parent.path().join("rootfs");
        write(&tree(), &output).unwrap();
        let again = read(&output).unwrap();
        assert_eq!(again.entries().count(), tree().entries().count());
        for ((path, entry), (path_again, entry_again)) in tree().entries().zip(again.entries()) {
            assert_eq!(path, path_again);
            assert_eq!(entry.mode(path), entry_again.mode(path));
            let on_disk = output.join(path.strip_prefix("/").unwrap());
            let mode = fs::symlink_metadata(&on_disk).unwrap().mode() & 0o7777;
            assert_eq!(mode, entry.mode(path), "{}", path.display());
        }
        assert_eq!(
            fs::read_link(output.join("bin")).unwrap(),
            Path::new("usr/bin")
        );
        assert_eq!(fs::read(output.join("bin/run")).unwrap(), b"text");
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("precious"), "").unwrap();
        let error = write(&tree(), parent.path()).unwrap_err().to_string();
        assert!(error.contains("must not exist yet"), "{error}");
        assert!(parent.path().join("precious").exists());
    }

    #[test]
    fn a_socket_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("socket is a device, socket or pipe"),
            "{error}"
        );
    }
}
