//! Files and folders of every image besides programs and libraries.

use std::path::Path;

use anyhow::{Result, bail};

use crate::host::Host;
use crate::tree::{Content, Entry, Tree};

/// Mount points of the container. Files of the image in them would be hidden.
///
/// sshd's own empty folder (Debian: /run/sshd) isn't here: /run is a tmpfs in a read-only
/// container, and the appliance creates the folder there.
const RUN_TIME: [&str; 7] = ["/config", "/dev", "/proc", "/run", "/state", "/sys", "/tmp"];

/// The root is read-only in a running container, but accounts change with the fleet: so the
/// appliance writes them to a tmpfs.
const ACCOUNTS: [(&str, &str); 3] = [
    ("/etc/passwd", "/run/bento/passwd"),
    ("/etc/group", "/run/bento/group"),
    ("/etc/shadow", "/run/bento/shadow"),
];

/// Limits the lookup of accounts to files. Without it the C library would try modules that the
/// image doesn't have.
const NAME_SERVICES: (&str, &str) = (
    "/etc/nsswitch.conf",
    "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
);

/// Folders that may be merged into others on a host (Debian: /lib into /usr/lib; Arch and Fedora:
/// /usr/sbin into /usr/bin).
const MERGED: [&str; 5] = ["/bin", "/lib", "/lib64", "/sbin", "/usr/sbin"];

/// Adds the folders and files.
///
/// # Errors
/// When the tree has another entry in the place of one.
pub fn add(tree: &mut Tree) -> Result<()> {
    for folder in RUN_TIME {
        tree.add(Path::new(folder), Entry::Directory)?;
    }
    for (path, target) in ACCOUNTS {
        tree.add(Path::new(path), Entry::Symlink(target.into()))?;
    }
    let (path, text) = NAME_SERVICES;
    let names = Entry::File {
        content: Content::Text(text),
        executable: false,
    };
    tree.add(Path::new(path), names)
}

/// Adds the host's merged folders as symlinks, so that the path of the loader in a program leads to
/// the same place as on the host. They must be added before all other entries.
///
/// # Errors
/// When the host's symlinks loop.
pub fn add_merged_folders(tree: &mut Tree, host: &Host) -> Result<()> {
    for folder in MERGED {
        let followed = host.follow(Path::new(folder))?;
        for (link, target) in &followed.links {
            tree.add(link, Entry::Symlink(target.clone()))?;
        }
        if !followed.links.is_empty() {
            tree.add(&followed.real, Entry::Directory)?;
        }
    }
    Ok(())
}

/// Checks that no entry would be hidden at run time.
///
/// # Errors
/// When one would be; the first one is named.
pub fn check_nothing_is_hidden(tree: &Tree) -> Result<()> {
    for (path, _) in tree.entries() {
        if let Some(folder) = RUN_TIME
            .iter()
            .find(|folder| path != Path::new(folder) && path.starts_with(folder))
        {
            bail!(
                "{} can't be in the image: {folder} holds other things while the container runs; \
                 install that program or library somewhere else",
                path.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_merged_host_gives_a_merged_tree() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        fs::create_dir_all(root.path().join("sbin")).unwrap();
        symlink("usr/lib", root.path().join("lib")).unwrap();
        let host = Host::new(root.path().to_owned(), Vec::new());
        let mut tree = Tree::default();
        add_merged_folders(&mut tree, &host).unwrap();
        let paths: Vec<_> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/lib", "/usr", "/usr/lib"].map(Path::new));
    }

    #[test]
    fn a_prepared_tree_may_have_the_same_but_no_other_accounts() {
        let mut tree = Tree::default();
        add(&mut tree).unwrap();
        add(&mut tree).unwrap();

        let mut tree = Tree::default();
        let accounts = Entry::File {
            content: Content::Text("root:x:0:0:::\n"),
            executable: false,
        };
        tree.add(Path::new("/etc/passwd"), accounts).unwrap();
        let error = add(&mut tree).unwrap_err().to_string();
        assert!(error.contains("/etc/passwd"), "{error}");
    }

    #[test]
    fn a_file_below_a_mount_point_is_refused() {
        let mut tree = Tree::default();
        add(&mut tree).unwrap();
        check_nothing_is_hidden(&tree).unwrap();
        tree.add(Path::new("/running"), Entry::Directory).unwrap();
        check_nothing_is_hidden(&tree).unwrap();
        tree.add(Path::new("/run/sshd"), Entry::Directory).unwrap();
        let error = check_nothing_is_hidden(&tree).unwrap_err().to_string();
        assert!(
            error.starts_with("/run/sshd can't be in the image"),
            "{error}"
        );
    }
}
