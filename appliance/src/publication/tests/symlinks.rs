//! Symlinks, as a machine sees them. Issue 10, line 3.

use bento_protocol::ManifestEntry;

use super::*;

/// An archive's entries: the target of a symlink, or the content of a file.
fn archived(path: &Path) -> Vec<(String, String)> {
    let mut archive =
        tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
    let read = |entry: io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 1, "{name}");
        let mut text = String::new();
        io::Read::read_to_string(&mut entry, &mut text).unwrap();
        if let Some(target) = entry.link_name_bytes() {
            assert!(entry.header().entry_type().is_symlink() && text.is_empty());
            text = format!("-> {}", String::from_utf8(target.into_owned()).unwrap());
        }
        (name, text)
    };
    archive.entries().unwrap().skip(1).map(read).collect()
}

fn link(appliance: &Appliance, path: &str, target: &str) {
    let path = appliance.folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&path);
    symlink(target, path).unwrap();
}

#[test]
fn an_archive_has_symlinks_and_the_plain_files_their_targets() {
    let appliance = Appliance::new();
    let (long, deep) = ("t".repeat(150), "folder/".repeat(25));
    appliance.write("hosts/a/pkgs/default.nix", "import ./a.nix");
    appliance.write("hosts/a/pkgs/a.nix", "1");
    appliance.write(&format!("hosts/a/{long}"), "long");
    link(
        &appliance,
        "hosts/a/common/default.nix",
        "../pkgs/default.nix",
    );
    link(&appliance, "hosts/a/pkgs/self", ".");
    link(&appliance, "hosts/a/dangling", "./not//there/");
    link(&appliance, "hosts/a/short", &long);
    link(
        &appliance,
        &format!("hosts/a/{deep}short"),
        &format!("{}{long}", "../".repeat(25)),
    );
    link(&appliance, "hosts/a/folder-too", "pkgs");
    let manifest = appliance.publish();
    let deep_link = format!("config/{deep}short");
    let targets: Vec<_> = manifest
        .files()
        .iter()
        .filter_map(ManifestEntry::symlink)
        .map(|link| {
            (
                link.path().as_str().to_owned(),
                format!("-> {}", link.target()),
            )
        })
        .collect();
    assert_eq!(targets.len(), 6);
    let bundle = archived(&appliance.chroot().join("bundle.tar.gz"));
    let links: Vec<_> = bundle
        .iter()
        .filter(|(_, text)| text.starts_with("-> "))
        .cloned()
        .collect();
    assert_eq!(links, targets);
    assert!(bundle.iter().map(|(name, _)| name.as_str()).is_sorted());

    let plain = |path: &str| fs::read_to_string(appliance.chroot().join(path));
    for (path, text) in [
        ("config/common/default.nix", "import ./a.nix"),
        ("config/short", "long"),
        (deep_link.as_str(), "long"),
        ("config/folder-too/a.nix", "1"),
    ] {
        assert_eq!(plain(path).unwrap(), text, "{path}");
        let found = fs::symlink_metadata(appliance.chroot().join(path)).unwrap();
        assert!(found.is_file() && found.mtime() == 1 && found.mode() & 0o777 == 0o440);
    }
    for path in [
        "config/dangling",
        "config/pkgs/self",
        "config/folder-too/self",
    ] {
        assert!(
            fs::symlink_metadata(appliance.chroot().join(path)).is_err(),
            "{path}"
        );
    }
}

#[test]
fn the_id_of_a_symlink_is_the_same_on_every_machine() {
    let ids = [0, 1].map(|_| {
        let appliance = Appliance::new();
        link(&appliance, "hosts/a/link", "flake.nix");
        appliance.publish().generation()
    });
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_delta_leads_from_any_kind_to_any_other() {
    let mut appliance = Appliance::new();
    let kinds: [&dyn Fn(&Appliance); 5] = [
        &|appliance| appliance.write("hosts/a/x", "a file"),
        &|appliance| link(appliance, "hosts/a/x", "flake.nix"),
        &|appliance| link(appliance, "hosts/a/x", "nowhere"),
        &|appliance| appliance.write("hosts/a/x/y", "in a folder"),
        &|appliance| link(appliance, "hosts/a/x", "."),
    ];
    let mut before: Option<Manifest> = None;
    for (place, kind) in kinds.iter().enumerate() {
        let x = appliance.folder.path().join("hosts/a/x");
        let _ = fs::remove_file(&x).or_else(|_| fs::remove_dir_all(&x));
        kind(&appliance);
        appliance.now += std::time::Duration::from_secs(60);
        let manifest = appliance.publish();
        if let Some(before) = &before {
            let path = appliance
                .chroot()
                .join(&names::delta(&before.generation())[1..]);
            let carried: Vec<_> = archived(&path).into_iter().map(|(name, _)| name).collect();
            let delta = Delta::between(before, &manifest);
            assert_eq!(delta.apply(before).unwrap(), manifest, "{place}");
            let changed = delta.changed.iter().map(|entry| entry.path().to_string());
            assert_eq!(carried, changed.collect::<Vec<_>>(), "{place}");
        }
        before = Some(manifest);
    }
}
