//! Symlinks of a configuration, as a real Nix sees them. Issue 10, line 3.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bento_protocol::Digest;

use crate::env::{ClientEnv, NAME, flake, host, with};
use crate::publisher::{Content, Generation};

/// Where the configuration has a symlink that Nix follows.
const OVERLAY: &str = "config/common/overlays/default.nix";

/// A system that depends on what its overlay is, and on all that lies in its folder.
const FLAKE: &str = "{ outputs = { self }: { nixosConfigurations.kikimora.config.system.build.toplevel =\n\
    derivation ((import ./system.nix ./.).drvAttrs // {\n\
    whole = \"${self}\"; overlay = import ./common/overlays; }); }; }";

fn configuration(version: &str, more: Vec<Content>) -> Vec<Content> {
    let mut contents = with(flake(version), "config/flake.nix", FLAKE);
    contents.push(Content::new(
        "config/pkgs/default.nix",
        "import ./hello.nix",
    ));
    contents.push(Content::new("config/pkgs/hello.nix", "\"hello\""));
    contents.extend(more);
    contents
}

fn link(target: &str) -> Vec<Content> {
    vec![
        Content::symlink(OVERLAY, target),
        Content::symlink("config/dotfiles/theme", "../.local/theme"),
    ]
}

/// What lies in a folder: paths, with the targets of symlinks and the contents of files.
fn listed(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let content = match kind.is_symlink() {
                true => fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
                false => fs::read(&path).unwrap(),
            };
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
            found.push((format!("config/{name}"), content));
        }
    }
    found.sort();
    found
}

/// The machine has exactly the tree that was published, also in Nix' store.
#[track_caller]
fn has(env: &ClientEnv, generation: &Generation) {
    let id = generation.manifest.generation().to_string();
    let config = env.state(&format!("generations/{id}/config"));
    let files = generation.manifest.files().iter();
    let expected: Vec<_> = files
        .map(|entry| (entry.path().to_string(), generation.bytes(entry).to_vec()))
        .collect();
    assert_eq!(listed(&config), expected);
    let store = fs::read_dir(env.path("nix/store")).unwrap();
    let sources: Vec<_> = store
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with("-source"))
        .collect();
    assert!(
        sources.iter().any(|source| listed(source) == expected),
        "none of {sources:?} is what was published"
    );
}

#[test]
fn a_configuration_with_symlinks_is_built_as_it_is_in_git() {
    let mut env = ClientEnv::new();
    let copy = vec![Content::new(OVERLAY, "import ../../pkgs/hello.nix")];
    let folder = vec![Content::symlink("config/common/overlays", "../pkgs")];
    let other = vec![Content::new("config/pkgs/other.nix", "\"other\"")];
    let steps = [
        configuration("1", link("../../pkgs/default.nix")),
        // From a symlink to a file, and back.
        configuration("2", copy),
        configuration("3", link("../../pkgs/default.nix")),
        // To another target.
        configuration("4", [link("../../pkgs/other.nix"), other].concat()),
        // To a folder, from a symlink in one.
        configuration("5", folder),
        configuration("6", link("../../pkgs/hello.nix")),
    ];
    let mut before: Option<Generation> = None;
    for (place, contents) in steps.into_iter().enumerate() {
        let generation = Generation::new(&host(), Default::default(), contents);
        let only_delta = before.as_ref().map(|before| generation.delta_from(before));
        env.server
            .publish_as(&generation, |publication| match (&before, only_delta) {
                (Some(before), Some(delta)) => {
                    let id = before.manifest.generation();
                    fs::write(publication.join(format!("delta/{id}.tar.gz")), delta).unwrap();
                }
                _ => fs::write(publication.join("bundle.tar.gz"), generation.bundle()).unwrap(),
            });
        env.update().with(0);
        env.is_wholly_on(&(place + 1).to_string());
        has(&env, &generation);
        before = Some(generation);
    }
    assert_eq!(env.reports().len(), 6);
}

/// The id that a generation has whose overlay is a symlink to something else, such as no generation can have.
fn id_with_overlay(generation: &Generation, target: &str) -> String {
    let mut lines = format!("bento-generation 1\nhost {NAME}\npolicy {{}}\n");
    for entry in generation.manifest.files() {
        let line = match entry.path().as_str() {
            OVERLAY => format!("link {} {OVERLAY}", Digest::of(target)),
            _ => entry.id_line(),
        };
        lines += &format!("{line}\n");
    }
    Digest::of(lines).to_string()
}

/// What a server that lies could send, by an id that fits it: nothing of it is created, and the machine stays as it was.
#[test]
fn a_symlink_that_leads_out_of_the_configuration_changes_nothing() {
    let mut env = ClientEnv::new();
    env.publish(configuration("1", link("../../pkgs/default.nix")), &[]);
    env.update().with(0);
    let before = env.state_names("generations");
    let next = Generation::new(
        &host(),
        Default::default(),
        configuration("2", link("../../pkgs/other.nix")),
    );
    let manifest = serde_json::to_string(&next.manifest).unwrap();
    let honest = next.manifest.generation().to_string();
    for target in ["../../../secrets/token", "/etc/passwd", "x/../../../../x"] {
        let id = id_with_overlay(&next, target);
        let lie = manifest.replace("../../pkgs/other.nix", target);
        assert_ne!(lie, manifest);
        let lie = lie.replace(&honest, &id);
        let mut archive = crate::publisher::Archive::new();
        archive.add("manifest.json", lie.as_bytes());
        for entry in next.manifest.files() {
            match entry.symlink() {
                Some(link) if link.path().rest().contains("overlays") => {
                    archive.add_symlink(link.path().as_str(), target);
                }
                _ => archive.add_entry(entry, next.bytes(entry)),
            }
        }
        let archive = archive.finish();
        env.server.publish_as(&next, |publication| {
            fs::write(publication.join("bundle.tar.gz"), &archive).unwrap();
            fs::remove_file(publication.join("generation")).unwrap();
            symlink(&id, publication.join("generation")).unwrap();
        });
        env.update()
            .with(6)
            .complaining(&format!("{OVERLAY} is a symlink"));
        assert_eq!(env.state_names("generations"), before);
        env.is_wholly_on("1");
    }
}
