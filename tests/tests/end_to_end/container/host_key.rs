//! The key by which machines know the appliance, when something happened to it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::Result;
use bento_tests::{Appliance, Options};

use super::fleet;
use crate::machine::Machine;

/// Starts an appliance whose key was tampered with, sees it refuse, and gives what it says in the end.
fn refusal(appliance: &Appliance) -> Result<String> {
    appliance.start_again()?;
    assert_eq!(appliance.exit_code()?, 1);
    let log = appliance.logs()?;
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("bento: "), "{log}");
    Ok(last.to_owned())
}

#[test]
fn a_host_key_that_is_no_good_is_told_of_and_left_alone() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let known = appliance.host_key()?;
    assert_eq!(appliance.stop()?, 0);
    let path = appliance.state_folder()?.join("keys/ssh_host_ed25519_key");
    let public = path.with_added_extension("pub");
    let good = fs::read(&path)?;
    let mut corrupt = good.clone();
    corrupt[good.len() / 2] ^= 1;

    for bad in [&b""[..], &corrupt, &good[..good.len() / 2]] {
        fs::write(&path, bad)?;
        let said = refusal(&appliance)?;
        assert!(
            said.contains("host key /state/keys/ssh_host_ed25519_key"),
            "{said}"
        );
        assert_eq!(fs::read(&path)?, bad, "it is left alone");
    }
    fs::remove_file(&path)?;
    let said = refusal(&appliance)?;
    assert!(said.contains("is gone"), "{said}");
    assert!(!path.exists(), "no new one is made");
    fs::create_dir(&path)?;
    let said = refusal(&appliance)?;
    assert!(said.contains("isn't a file"), "{said}");
    fs::remove_dir(&path)?;

    let (root, group) = appliance.ids();
    fs::write(&path, &good)?;
    let give = |path: &Path, owner: u32, mode: u32| -> Result<()> {
        chown(path, Some(owner), Some(group))?;
        Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
    };
    // The container's root could read each of these, and ssh-keygen minds only the first.
    for (owner, mode) in [(root, 0o640), (0, 0o600)] {
        give(&path, owner, mode)?;
        let said = refusal(&appliance)?;
        assert!(said.contains("isn't private"), "{said}");
    }
    give(&path, root, 0o600)?;
    fs::remove_file(public)?;
    appliance.restart()?;
    assert_eq!(appliance.host_key()?, known);
    Machine::of(&fleet, "kikimora", &appliance).pull()?;
    Ok(())
}
