//! The Containerfile: built for real, it gives the same appliance as `make image`, with the OpenSSH of a newer Debian.

mod build;

use std::fs;

use anyhow::Result;
use bento_tests::{Appliance, Fleet, Options, Podman};
use serde_json::Value;

use crate::image;
use crate::machine::Machine;

#[test]
fn the_image_of_the_containerfile_is_an_appliance_like_the_other() -> Result<()> {
    let podman = Podman::new()?;
    let built = build::image(&podman)?;
    let mut fleet = Fleet::new()?;
    fleet.host("kikimora", |host| {
        host.file("configuration.nix", "{ }")?;
        Ok(())
    })?;
    let other = Appliance::start(fleet.path(), Options::default())?;
    let options = Options {
        image: Some(built.clone()),
        ..Options::default()
    };
    let appliance = Appliance::start(fleet.path(), options)?;
    let pull = |appliance| Machine::of(&fleet, "kikimora", appliance).pull();
    assert_eq!(pull(&appliance)?.id(), pull(&other)?.id());
    let checked = appliance.exec(["check"])?.success()?.stdout;
    assert_eq!(checked, other.exec(["check"])?.success()?.stdout);
    assert_eq!(
        appliance.exec(["--version"])?.success()?.stdout,
        other.exec(["--version"])?.success()?.stdout
    );

    // They say the same of how they are run, and hold the same kinds of things.
    let configuration = |image: &str| -> Result<Value> {
        let config = podman.run(["image", "inspect", "--format={{json .Config}}", image])?;
        Ok(serde_json::from_str(&config)?)
    };
    let ours = podman.run(["inspect", "--format={{.ImageName}}", other.name()])?;
    let (mut said, expected) = (configuration(&built)?, configuration(&ours)?);
    // Podman adds its own version.
    if let Some(labels) = said["Labels"].as_object_mut() {
        labels.remove("io.buildah.version");
    }
    assert_eq!(said, expected);
    let folder = tempfile::tempdir()?;
    podman.own(folder.path())?;
    let archive = folder.path().join("image.tar");
    let shown = archive.display().to_string();
    podman.run(["save", "--format=oci-archive", "--output", &shown, &built])?;
    image::holds_only_what_it_needs(&archive)
}

#[test]
fn a_part_of_sshd_that_is_missing_is_named_before_anybody_is_served() -> Result<()> {
    let podman = Podman::new()?;
    let image = build::image(&podman)?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("nothing"), "")?;
    podman.own(folder.path())?;
    let fleet = Fleet::new()?;
    // OpenSSH before 9.8 has neither, and one before 10.0 only the first.
    for part in ["sshd-session", "sshd-auth"] {
        let path = format!("/usr/lib/openssh/{part}");
        let nothing = folder.path().join("nothing");
        let options = Options {
            image: Some(image.clone()),
            podman: vec![format!("--volume={}:{path}:ro", nothing.display())],
            ..Options::default()
        };
        let appliance = Appliance::launch(fleet.path(), options)?;
        assert_eq!(appliance.exit_code()?, 1);
        let log = appliance.logs()?;
        let last = log.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("bento: sshd doesn't serve, ") && last.contains(&path),
            "{log}"
        );
        assert!(!log.contains("listening"), "{log}");
    }
    Ok(())
}
