//! The password file and the key files of the accounts. sshd reads them for every connection, so nothing is restarted.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bento_protocol::HostName;

use crate::fleet::PublicKey;
use crate::store::atomic_file;
use crate::store::paths::Runtime;

/// The user ids of machines; the group id of each is the same number. The container's id map must have all of them: the
/// default of 65,536 subordinate ids does.
pub const UIDS: Range<u32> = 10_000..30_000;

/// The account of sshd's own unprivileged process.
pub const SSHD_UID: u32 = 74;

/// The shell, which is never run: sshd ignores it in a chroot, and runs its own SFTP server.
const SHELL: &str = "/usr/sbin/nologin";

/// Readable for all, because sshd opens a key file as the user who logs in; writable only for root, because it refuses
/// the file otherwise.
const PUBLIC: u32 = 0o644;
const FOLDER: u32 = 0o755;
const PRIVATE: u32 = 0o600;

/// A machine that may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name of the machine and its account.
    pub name: HostName,
    /// Its user id and group id, one of [`UIDS`].
    pub uid: u32,
    /// Its keys.
    pub keys: Vec<PublicKey>,
}

/// Makes these the only machines that can log in from now on. Open sessions stay open.
///
/// Revoked keys are removed first, and new ones are added last: after a crash in between, only keys of the old list or the
/// new one work.
///
/// # Errors
/// When a user id isn't one of [`UIDS`], or a file can't be written.
pub fn write(runtime: &Runtime, logins: &[Login]) -> Result<()> {
    for Login { name, uid, .. } in logins {
        ensure!(
            UIDS.contains(uid),
            "the user id {uid} of {name} isn't one of {UIDS:?}"
        );
    }
    let keys = runtime.authorized_keys();
    create_folder(runtime.root())?;
    create_folder(&keys)?;
    remove_others(&keys, logins)?;
    replace(&runtime.passwd(), &passwd(logins), PUBLIC)?;
    replace(&runtime.group(), &group(logins), PUBLIC)?;
    replace(&runtime.shadow(), &shadow(logins), PRIVATE)?;
    for account in logins {
        replace(
            &keys.join(account.name.as_str()),
            &authorized_keys(account),
            PUBLIC,
        )?;
    }
    Ok(())
}

fn passwd(logins: &[Login]) -> String {
    let machines = logins
        .iter()
        .map(|account| (account.name.as_str(), account.uid));
    [("root", 0), ("sshd", SSHD_UID)]
        .into_iter()
        .chain(machines)
        .map(|(name, uid)| format!("{name}:*:{uid}:{uid}::/:{SHELL}\n"))
        .collect()
}

fn group(logins: &[Login]) -> String {
    let machines = logins
        .iter()
        .map(|account| (account.name.as_str(), account.uid));
    [("root", 0), ("sshd", SSHD_UID)]
        .into_iter()
        .chain(machines)
        .map(|(name, gid)| format!("{name}:*:{gid}:\n"))
        .collect()
}

/// The shadow file. `*` is a password that nothing matches; with `!` the account would be locked, and sshd would refuse
/// every key.
fn shadow(logins: &[Login]) -> String {
    let machines = logins.iter().map(|account| account.name.as_str());
    ["root", "sshd"]
        .into_iter()
        .chain(machines)
        .map(|name| format!("{name}:*:::::::\n"))
        .collect()
}

fn authorized_keys(account: &Login) -> String {
    account
        .keys
        .iter()
        .map(|key| format!("restrict {}\n", key.authorized_line()))
        .collect()
}

fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(FOLDER)))
        .with_context(|| format!("can't prepare the folder {}", path.display()))
}

/// Removes all other key files, and the leftovers of an interrupted write.
fn remove_others(keys: &Path, logins: &[Login]) -> Result<()> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(keys)? {
            let entry = entry?;
            if !logins
                .iter()
                .any(|account| entry.file_name() == account.name.as_str())
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    remove().with_context(|| format!("can't remove keys from {}", keys.display()))
}

/// Replaces a file in one step, if its content or its mode isn't right. It needn't survive the container.
fn replace(path: &Path, content: &str, mode: u32) -> Result<()> {
    let has_mode = |found: fs::Metadata| found.permissions().mode() & 0o7777 == mode;
    let is_right = fs::metadata(path).is_ok_and(has_mode)
        && fs::read(path).is_ok_and(|old| old == content.as_bytes());
    if is_right {
        return Ok(());
    }
    // No account has a dot in its name: this file never counts as the keys of an account.
    let aside = atomic_file::aside(path);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&aside)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content.as_bytes())?;
        fs::rename(&aside, path)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";

    fn account(name: &str, uid: u32) -> Login {
        let keys = vec![format!("{ONE} root@{name}").parse().unwrap()];
        Login {
            name: name.parse().unwrap(),
            uid,
            keys,
        }
    }

    fn key_files(runtime: &Runtime) -> Vec<String> {
        let entries = fs::read_dir(runtime.authorized_keys()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_machine_is_an_account_with_restricted_keys() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(folder.path().join("bento"));
        write(&runtime, &[account("kikimora", 10_000)]).unwrap();
        let read = |path| fs::read_to_string(path).unwrap();
        assert_eq!(
            read(runtime.passwd()),
            "root:*:0:0::/:/usr/sbin/nologin\nsshd:*:74:74::/:/usr/sbin/nologin\n\
             kikimora:*:10000:10000::/:/usr/sbin/nologin\n"
        );
        assert_eq!(
            read(runtime.group()),
            "root:*:0:\nsshd:*:74:\nkikimora:*:10000:\n"
        );
        assert_eq!(
            read(runtime.shadow()),
            "root:*:::::::\nsshd:*:::::::\nkikimora:*:::::::\n"
        );
        let keys = runtime.authorized_keys().join("kikimora");
        assert_eq!(read(keys.clone()), format!("restrict {ONE}\n"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&keys), 0o644);
        assert_eq!(mode(&runtime.shadow()), 0o600);
        assert_eq!(mode(&runtime.authorized_keys()), 0o755);
    }

    #[test]
    fn a_removed_machine_has_no_keys_left() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(folder.path());
        write(
            &runtime,
            &[account("kikimora", 10_000), account("domovoi", 10_001)],
        )
        .unwrap();
        fs::write(runtime.authorized_keys().join("domovoi.new"), "half").unwrap();
        write(&runtime, &[account("domovoi", 10_001)]).unwrap();
        assert_eq!(key_files(&runtime), ["domovoi"]);
        assert!(
            !fs::read_to_string(runtime.passwd())
                .unwrap()
                .contains("kikimora")
        );
        assert!(
            !fs::read_to_string(runtime.shadow())
                .unwrap()
                .contains("kikimora")
        );
    }

    #[test]
    fn no_machine_becomes_root() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(folder.path());
        for uid in [0, SSHD_UID, UIDS.start - 1, UIDS.end] {
            assert!(
                write(&runtime, &[account("kikimora", uid)]).is_err(),
                "{uid}"
            );
        }
    }
}
