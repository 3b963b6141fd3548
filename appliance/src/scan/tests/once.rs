//! The number of system calls in one scan.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::*;

/// The number of times that each of these was opened for reading by `done`.
fn opened(folder: &Path, paths: &[&str], done: impl FnOnce()) -> BTreeMap<String, usize> {
    let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
    let watched: BTreeMap<i32, &str> = paths
        .iter()
        .map(|path| {
            let number = inotify::add_watch(&watch, folder.join(path), WatchFlags::OPEN).unwrap();
            (number, *path)
        })
        .collect();
    done();
    let mut counts = BTreeMap::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(watch, &mut buffer);
    while let Ok(event) = events.next() {
        assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
        // Events of a folder's entries are reported for the folder, too.
        if event.file_name().is_none() {
            *counts.entry(watched[&event.wd()].to_owned()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn shared_files_are_read_once_for_many_machines() {
    let folder = folder();
    write(folder.path(), ".gitignore", "*.log\n");
    write(folder.path(), "shared/flake.nix", "{}");
    write(folder.path(), "shared/modules/x.nix", "{}");
    write(folder.path(), "utils/deep/y.nix", "{}");
    symlink("../utils", folder.path().join("shared/utils")).unwrap();
    for number in 0..20 {
        let own = folder.path().join(format!("hosts/m{number}"));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("flake.nix"), "{}").unwrap();
        symlink("../../utils", own.join("utils")).unwrap();
    }
    let fleet = FleetFolder::open(folder.path()).unwrap();
    let mut sources = Sources::new(&fleet, Listings::default());
    let once = [
        "shared",
        "shared/modules",
        "utils",
        "utils/deep",
        ".gitignore",
    ];
    let counts = opened(folder.path(), &once, || {
        for number in 0..20 {
            let tables = [
                "source = \"shared\"\n".to_owned(),
                format!("source = \"shared\"\nexclude = [\"{number}.md\"]\n"),
                format!("source = \"hosts/m{number}\"\n"),
            ];
            for (kind, table) in tables.iter().enumerate() {
                let name = format!("m{number}-{kind}").parse().unwrap();
                let tree = sources.walk(&name, &host(table)).unwrap();
                assert!(tree.has_config("utils/deep/y.nix"));
            }
        }
    });
    let expected = once.map(|path| (path.to_owned(), 1));
    assert_eq!(counts, expected.into());
}

#[test]
fn an_unchanged_listing_is_shared_between_scans() {
    let folder = folder();
    let fleet = FleetFolder::open(folder.path()).unwrap();
    let mut before = Listings::default();
    let mut scan = || {
        let mut sources = Sources::new(&fleet, std::mem::take(&mut before));
        let [one, other] = ["a", "b"].map(|name| {
            let host = host("source = \"hosts/a\"\n");
            sources.walk(&name.parse().unwrap(), &host).unwrap()
        });
        assert!(Arc::ptr_eq(&one.source, &other.source));
        before = sources.into_listings();
        one
    };
    let (first, second) = (scan(), scan());
    assert!(Arc::ptr_eq(&first.source, &second.source));
    write(folder.path(), "hosts/a/new.nix", "");
    let third = scan();
    assert!(first != third && third.has_config("new.nix"));
}
