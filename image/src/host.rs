//! The machine whose files go into the image.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::links::{self, Followed};

/// glibc's list of library folders.
const LOADER_CONFIGURATION: &str = "/etc/ld.so.conf";

/// Folders that loaders search by default. One that a loader here doesn't know does no harm: its
/// libraries are put beside the loader.
const DEFAULT_FOLDERS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// A machine's files. Paths are absolute and as that machine sees them.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    program_folders: Vec<PathBuf>,
}

impl Host {
    /// This machine, with the folders of `PATH`.
    pub fn this() -> Host {
        let path = env::var_os("PATH").unwrap_or_default();
        Host::new("/".into(), env::split_paths(&path).collect())
    }

    /// The machine whose files lie below `root`.
    pub fn new(root: PathBuf, program_folders: Vec<PathBuf>) -> Host {
        Host {
            root,
            program_folders,
        }
    }

    /// The path at which this process reads a path of that machine, which must have no symlinks.
    pub fn source(&self, real: &Path) -> PathBuf {
        self.root.join(real.strip_prefix("/").unwrap_or(real))
    }

    /// Follows all symlinks of a path.
    ///
    /// # Errors
    /// When they loop, or a folder on the way can't be read.
    pub fn follow(&self, path: &Path) -> Result<Followed> {
        links::follow(path, |at| match fs::read_link(self.source(at)) {
            Ok(target) => Ok(Some(target)),
            Err(error) => match error.kind() {
                // readlink(2) fails with EINVAL for anything but a symlink.
                ErrorKind::InvalidInput | ErrorKind::NotFound | ErrorKind::NotADirectory => {
                    Ok(None)
                }
                _ => Err(error).with_context(|| format!("following {}", at.display())),
            },
        })
    }

    /// Follows all symlinks of a path to a regular file; none if there is no file.
    ///
    /// # Errors
    /// As [`Host::follow`].
    pub fn file(&self, path: &Path) -> Result<Option<Followed>> {
        let followed = self.follow(path)?;
        let is_file = fs::symlink_metadata(self.source(&followed.real))
            .is_ok_and(|metadata| metadata.is_file());
        Ok(is_file.then_some(followed))
    }

    /// Finds a program: at its usual path, whose folder may not be in an ordinary user's `PATH`
    /// (sshd's /usr/sbin), else in `PATH`. Returns its path without symlinks.
    ///
    /// # Errors
    /// As [`Host::follow`].
    pub fn program(&self, usual: &Path) -> Result<Option<PathBuf>> {
        let elsewhere = usual.file_name().map(|name| {
            self.program_folders
                .iter()
                .filter(|folder| folder.is_absolute())
                .map(move |folder| folder.join(name))
        });
        for path in std::iter::once(usual.to_owned()).chain(elsewhere.into_iter().flatten()) {
            if let Some(found) = self.file(&path)?
                && fs::metadata(self.source(&found.real))?.mode() & 0o111 != 0
            {
                return Ok(Some(found.real));
            }
        }
        Ok(None)
    }

    /// The folders that the loader searches for every program: those of ld.so.conf, in order, then
    /// the usual ones.
    ///
    /// # Errors
    /// When ld.so.conf or a file that it includes can't be read. It may be missing.
    pub fn library_folders(&self) -> Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        let configuration = Path::new(LOADER_CONFIGURATION);
        if self.file(configuration)?.is_some() {
            self.read_configuration(configuration, &mut folders)?;
        }
        folders.extend(DEFAULT_FOLDERS.map(PathBuf::from));
        Ok(folders)
    }

    fn read_configuration(&self, file: &Path, folders: &mut Vec<PathBuf>) -> Result<()> {
        let source = self.source(&self.follow(file)?.real);
        let text = fs::read_to_string(&source)
            .with_context(|| format!("reading the loader's folders from {}", file.display()))?;
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.split_once(char::is_whitespace) {
                Some(("include", pattern)) => {
                    for included in self.matching(file, pattern.trim())? {
                        self.read_configuration(&included, folders)?;
                    }
                }
                // An obsolete directive for variants of libraries for some processors.
                Some(("hwcap", _)) => {}
                _ if line.starts_with('/') => folders.push(line.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The files of an `include` line of `file`, in the order in which ldconfig reads them.
    fn matching(&self, file: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
        let beside = file.parent().unwrap_or(Path::new("/"));
        let pattern = beside.join(pattern);
        let pattern = pattern.strip_prefix("/").unwrap_or(&pattern);
        let root = glob::Pattern::escape(&self.root.to_string_lossy());
        let rooted = Path::new(&root).join(pattern);
        let mut files = Vec::new();
        for found in glob::glob(&rooted.to_string_lossy())
            .with_context(|| format!("an include line of {}", file.display()))?
        {
            let found = found.with_context(|| format!("an include line of {}", file.display()))?;
            files.push(Path::new("/").join(found.strip_prefix(&self.root).unwrap_or(&found)));
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let host = Host::new(root.path().to_owned(), vec!["/opt/bin".into()]);
        (root, host)
    }

    #[test]
    fn the_loaders_folders_come_in_the_order_of_its_configuration() {
        let (_root, host) = host(&[
            (
                "etc/ld.so.conf",
                "include ld.so.conf.d/*.conf\n/last # with a comment\n",
            ),
            ("etc/ld.so.conf.d/b.conf", "# only a comment\n/b\n"),
            (
                "etc/ld.so.conf.d/a.conf",
                "hwcap 0 nosegneg\n/a/one\n/a/two",
            ),
            ("etc/ld.so.conf.d/c.txt", "/not/included"),
        ]);
        let folders = host.library_folders().unwrap();
        let expected = ["/a/one", "/a/two", "/b", "/last"].map(PathBuf::from);
        assert_eq!(folders[..4], expected);
        assert_eq!(folders[4..], DEFAULT_FOLDERS.map(PathBuf::from));
    }

    #[test]
    fn a_machine_without_that_file_has_the_default_folders() {
        let (_root, host) = host(&[]);
        assert_eq!(
            host.library_folders().unwrap(),
            DEFAULT_FOLDERS.map(PathBuf::from)
        );
    }

    #[test]
    fn a_program_is_at_its_usual_path_or_in_the_path_and_can_be_executed() {
        let (root, host) = host(&[("usr/sbin/sshd", ""), ("store/sshd", "")]);
        fs::create_dir_all(root.path().join("opt/bin")).unwrap();
        symlink("/store/sshd", root.path().join("opt/bin/sshd")).unwrap();
        let usual = Path::new("/usr/sbin/sshd");
        let executable = |path: &str| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(root.path().join(path), mode).unwrap();
        };
        assert_eq!(host.program(usual).unwrap(), None);
        executable("store/sshd");
        assert_eq!(
            host.program(usual).unwrap().as_deref(),
            Some(Path::new("/store/sshd"))
        );
        executable("usr/sbin/sshd");
        assert_eq!(host.program(usual).unwrap().as_deref(), Some(usual));
    }

    #[test]
    fn an_absolute_link_stays_below_the_root() {
        let (root, host) = host(&[("inside", "")]);
        symlink("/inside", root.path().join("link")).unwrap();
        let found = host.file(Path::new("/link")).unwrap().unwrap();
        assert_eq!(found.real, Path::new("/inside"));
        assert!(host.file(Path::new("/etc/passwd")).unwrap().is_none());
    }
}
