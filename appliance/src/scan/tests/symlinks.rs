//! Published and followed symlinks. Issue 10, line 3.

use super::*;

fn tree(folder: &Path, table: &str) -> HostTree {
    let fleet = FleetFolder::open(folder).unwrap();
    HostTree::walk(&fleet, &"a".parse().unwrap(), &host(table)).unwrap()
}

/// The machine's files: `path`, or `path -> target`.
fn seen(folder: &Path, table: &str) -> Vec<String> {
    let tree = tree(folder, table);
    let seen = tree.files().map(|file| match &file.symlink {
        Some(link) => format!("{} -> {}", file.path, link.target()),
        None => file.path.to_string(),
    });
    seen.collect()
}

fn link(folder: &Path, path: &str, target: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

#[test]
fn a_symlink_inside_the_source_stays_a_symlink() {
    let folder = folder();
    let a = folder.path().join("hosts/a");
    write(&a, "pkgs/default.nix", "import ./hello.nix");
    write(&a, "pkgs/hello.nix", "");
    link(&a, "common/overlays/default.nix", "../../pkgs/default.nix");
    link(&a, "common/pkgs", "./../pkgs/");
    link(&a, "dangling", "not/there");
    link(&a, "here", ".");
    link(&a, "pkgs/top", "..");
    link(&a, "chain", "common/pkgs");
    assert_eq!(
        seen(folder.path(), ""),
        [
            "config/chain -> common/pkgs",
            "config/common/overlays/default.nix -> ../../pkgs/default.nix",
            "config/common/pkgs -> ./../pkgs/",
            "config/dangling -> not/there",
            "config/flake.nix",
            "config/here -> .",
            "config/pkgs/default.nix",
            "config/pkgs/hello.nix",
            "config/pkgs/top -> ..",
        ]
    );
    let tree = tree(folder.path(), "");
    for (path, there) in [
        ("chain/hello.nix", true),
        ("chain/top/here/chain", true),
        ("common/overlays/default.nix", true),
        ("dangling", false),
        ("chain/none.nix", false),
    ] {
        assert_eq!(tree.has_config_path(path), there, "{path}");
    }
    let file = tree.config_file("common/overlays/default.nix").unwrap();
    assert_eq!(file.path.rest(), "pkgs/default.nix");
}

#[test]
fn a_symlink_out_of_the_source_is_followed_and_its_target_treated_the_same_way() {
    let folder = folder();
    let root = folder.path();
    write(root, "utils/sub/x.nix", "");
    write(root, "utils/.gitignore", "private\n");
    write(root, "utils/private", "");
    write(root, "other/y.nix", "");
    link(root, "utils/sub/same.nix", "x.nix");
    link(root, "utils/up.nix", "sub/x.nix");
    link(root, "utils/lost", "sub/gone");
    link(root, "utils/other", "../other");
    link(root, "utils/back.nix", "../hosts/a/flake.nix");
    link(root, "utils/key", "private");
    link(root, "hosts/a/utils", "../../utils");
    link(root, "hosts/a/y.nix", "../../other/y.nix");
    link(root, "hosts/a/x.nix", "utils/sub/x.nix");
    // Its target is in the source, but its text leads out of `config/`.
    link(root, "hosts/a/round.nix", "../a/flake.nix");
    assert_eq!(
        seen(root, ""),
        [
            "config/flake.nix",
            "config/round.nix",
            "config/utils/.gitignore",
            "config/utils/back.nix",
            // As in git, which tracks the symlink and not its target.
            "config/utils/key -> private",
            "config/utils/lost -> sub/gone",
            "config/utils/other/y.nix",
            "config/utils/sub/same.nix -> x.nix",
            "config/utils/sub/x.nix",
            "config/utils/up.nix -> sub/x.nix",
            "config/x.nix -> utils/sub/x.nix",
            "config/y.nix",
        ]
    );
    // The source is its real path.
    fs::create_dir_all(root.join("elsewhere")).unwrap();
    fs::rename(root.join("hosts/a"), root.join("elsewhere/a")).unwrap();
    link(root, "hosts/a", "../elsewhere/a");
    fs::remove_file(root.join("utils/back.nix")).unwrap();
    assert!(seen(root, "").contains(&"config/x.nix -> utils/sub/x.nix".to_owned()));
}

#[test]
fn a_fleet_in_one_folder_keeps_all_its_symlinks() {
    let folder = folder();
    let root = folder.path();
    write(root, "fleet.toml", "");
    write(root, "flake.nix", "");
    write(root, "utils/x.nix", "");
    write(root, "bento-secrets/a/key", "");
    link(root, "hosts/a/utils", "../../utils");
    // A dangling one in somebody's dotfiles.
    link(root, "dotfiles/.config/app/theme", "../../.local/theme");
    let table = "source = \".\"\n";
    assert_eq!(
        seen(root, table),
        [
            "config/dotfiles/.config/app/theme -> ../../.local/theme",
            "config/flake.nix",
            "config/hosts/a/flake.nix",
            "config/hosts/a/utils -> ../../utils",
            "config/utils/x.nix",
            "secrets/key",
        ]
    );
    // A private target is refused, even if it is missing or inside the source.
    for target in [
        "../fleet.toml",
        "../bento-secrets/b/key",
        "../bento-secrets/a/key",
        "../.bento/deploy",
        "../.git/config",
    ] {
        link(root, "dotfiles/link", target);
        let problems = walk(root, table).unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].starts_with("dotfiles/link: a: leads into"),
            "{target}: {problems:?}"
        );
        fs::remove_file(root.join("dotfiles/link")).unwrap();
    }
}

#[test]
fn symlinks_among_secrets_are_followed() {
    let folder = folder();
    let secrets = folder.path().join("bento-secrets/a");
    write(&secrets, "keys/one", "");
    link(&secrets, "two", "keys/one");
    link(&secrets, "three", "keys/../keys/one");
    assert_eq!(
        seen(folder.path(), "")[1..],
        ["secrets/keys/one", "secrets/three", "secrets/two"]
    );
    link(&secrets, "gone", "nowhere");
    let problems = walk(folder.path(), "").unwrap_err();
    assert!(
        problems[0].contains("something that isn't there"),
        "{problems:?}"
    );
}

#[test]
fn patterns_match_a_symlink_by_its_own_name() {
    let folder = folder();
    let a = folder.path().join("hosts/a");
    write(&a, "private/x.nix", "");
    link(&a, "link", "private");
    let table = "exclude = [\"/private/\"]\n";
    assert_eq!(
        seen(folder.path(), table),
        ["config/flake.nix", "config/link -> private"]
    );
    // It isn't a folder, so patterns for folders don't match it.
    let table = "exclude = [\"link/\"]\n";
    assert!(seen(folder.path(), table).contains(&"config/link -> private".to_owned()));
    for table in [
        "exclude = [\"link\"]\n",
        "exclude = [\"*\"]\ninclude = [\"*.nix\"]\n",
    ] {
        let seen = seen(folder.path(), table);
        assert_eq!(seen, ["config/flake.nix", "config/private/x.nix"]);
    }
    write(&a, ".gitignore", "/link\n");
    assert!(
        !seen(folder.path(), "")
            .iter()
            .any(|path| path.contains("link ->"))
    );
}

#[test]
fn another_target_is_a_change() {
    let folder = folder();
    link(folder.path(), "hosts/a/link", "flake.nix");
    let before = tree(folder.path(), "");
    assert_eq!(tree(folder.path(), ""), before);
    fs::remove_file(folder.path().join("hosts/a/link")).unwrap();
    link(folder.path(), "hosts/a/link", "nowhere");
    let after = tree(folder.path(), "");
    assert_ne!(after, before);
    assert_eq!(
        after.difference(&before).unwrap(),
        Path::new("hosts/a/link")
    );
    fs::remove_file(folder.path().join("hosts/a/link")).unwrap();
    write(folder.path(), "hosts/a/link", "{}");
    assert_ne!(tree(folder.path(), ""), before);
}
