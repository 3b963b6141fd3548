//! Ignored files as in git: matched by a `.gitignore` and not tracked. With real git.
// Issue 10, line 1.

use super::*;
use crate::fixture::git;

/// A checkout with `flake.nix`, `hosts/a/flake.nix`, and a `.gitignore` of `lib/` and `*.key`, from `git init` with
/// these options.
fn checkout(options: &[&str]) -> TempDir {
    let folder = folder();
    git(folder.path(), &[&["init", "-q"], options].concat());
    write(folder.path(), ".gitignore", "lib/\n*.key\n");
    write(folder.path(), "flake.nix", "{}");
    for path in ["lib/kept/x.nix", "lib/other.nix", "a.key", "b.key"] {
        write(folder.path(), path, "");
        write(folder.path(), &format!("hosts/a/{path}"), "");
    }
    git(folder.path(), &["add", "."]);
    folder
}

/// The files that git tracks, or would track after `git add .`.
fn known_to_git(folder: &Path) -> Vec<String> {
    let list = [
        "ls-files",
        "-z",
        "-c",
        "-o",
        "--exclude-per-directory=.gitignore",
    ];
    let listed = git(folder, &list);
    let paths = listed.split_terminator('\0');
    let mut paths: Vec<_> = paths.map(|path| format!("config/{path}")).collect();
    paths.sort();
    paths.dedup();
    paths
}

const ROOT: &str = "source = \".\"\n";

#[test]
fn files_that_git_tracks_or_would_add_are_published() {
    let ways: [(&[&str], &[&[&str]]); 6] = [
        (&[], &[]),
        (&["--object-format=sha256"], &[]),
        (&[], &[&["update-index", "--index-version", "4"]]),
        (
            &[],
            &[
                &["config", "index.skipHash", "true"],
                &["update-index", "--force-write-index"],
            ],
        ),
        // Version 3.
        (&[], &[&["add", "-f", "-N", "b.key"]]),
        (&[], &[&["update-index", "--skip-worktree", "flake.nix"]]),
    ];
    for (options, commands) in ways {
        let folder = checkout(options);
        let before = walk(folder.path(), ROOT).unwrap();
        assert_eq!(before, known_to_git(folder.path()));
        assert!(
            !before.iter().any(|path| path.contains("lib")),
            "{before:?}"
        );

        git(
            folder.path(),
            &["add", "-f", "lib/kept", "hosts/a/lib/kept/x.nix", "a.key"],
        );
        for command in commands {
            git(folder.path(), command);
        }
        let after = walk(folder.path(), ROOT).unwrap();
        assert_eq!(
            after,
            known_to_git(folder.path()),
            "{options:?} {commands:?}"
        );
        for path in ["lib/kept/x.nix", "hosts/a/lib/kept/x.nix", "a.key"] {
            assert!(
                after.contains(&format!("config/{path}")),
                "{path} of {after:?}"
            );
        }
        assert!(
            !after.iter().any(|path| path.contains("other.nix")),
            "{after:?}"
        );
    }
}

#[test]
fn exclude_and_bentoignore_apply_to_tracked_files() {
    let folder = checkout(&[]);
    git(folder.path(), &["add", "-f", "lib", "a.key"]);
    let narrowed = "source = \".\"\nexclude = [\"/hosts/*\", \"/lib/kept\"]\ninclude = [\"/hosts/a/flake.nix\"]\n";
    let rest = [
        "config/.gitignore",
        "config/a.key",
        "config/flake.nix",
        "config/hosts/a/flake.nix",
    ];
    let with_other = [&rest[..], &["config/lib/other.nix"]].concat();
    assert_eq!(walk(folder.path(), narrowed).unwrap(), with_other);
    write(folder.path(), ".bentoignore", "/lib/other.nix\n");
    assert_eq!(walk(folder.path(), narrowed).unwrap(), rest);
    write(folder.path(), ".bentoignore", "*.key\n/lib\n");
    let rest = [
        "config/.gitignore",
        "config/flake.nix",
        "config/hosts/a/flake.nix",
    ];
    assert_eq!(walk(folder.path(), narrowed).unwrap(), rest);
    // It includes a file that git neither tracks nor would add.
    write(folder.path(), ".bentoignore", "!b.key\n");
    assert!(
        walk(folder.path(), ROOT)
            .unwrap()
            .contains(&"config/b.key".to_owned())
    );
}

#[test]
fn tracked_files_in_an_ignored_folder_are_reached_by_a_symlink() {
    let folder = checkout(&[]);
    write(folder.path(), ".gitignore", "lib/\n*.key\n/hosts/\n");
    symlink("../../lib", folder.path().join("hosts/a/shared")).unwrap();
    symlink("../../a.key", folder.path().join("hosts/a/one")).unwrap();
    symlink("../../b.key", folder.path().join("hosts/a/two")).unwrap();
    git(
        folder.path(),
        &[
            "add",
            "-f",
            "lib/kept",
            "a.key",
            "hosts/a/shared",
            "hosts/a/one",
            "hosts/a/two",
        ],
    );
    assert_eq!(
        walk(folder.path(), "").unwrap(),
        ["config/flake.nix", "config/one", "config/shared/kept/x.nix"]
    );
}

#[test]
fn a_submodule_is_tracked_as_a_whole() {
    let other = tempfile::tempdir().unwrap();
    git(other.path(), &["init", "-q"]);
    write(other.path(), "in.nix", "");
    git(other.path(), &["add", "."]);
    git(other.path(), &["commit", "-q", "-m", "a"]);
    let folder = checkout(&[]);
    let from = other.path().to_str().unwrap();
    git(
        folder.path(),
        &["submodule", "--quiet", "add", "-f", from, "lib/vendored"],
    );
    let got = walk(folder.path(), ROOT).unwrap();
    assert!(
        got.contains(&"config/lib/vendored/in.nix".to_owned()),
        "{got:?}"
    );
    assert!(!got.contains(&"config/lib/other.nix".to_owned()), "{got:?}");
}

#[test]
fn an_unreadable_index_is_a_problem_of_machines_with_ignored_files() {
    let ways: [(&[&[&str]], &str, &str); 2] = [
        (
            &[&["update-index", "--split-index"]],
            "is split over two files",
            "git update-index --no-split-index",
        ),
        (
            &[
                &["commit", "-q", "-m", "a"],
                &[
                    "sparse-checkout",
                    "set",
                    "--cone",
                    "--sparse-index",
                    "hosts/a",
                ],
            ],
            "is sparse",
            "git sparse-checkout reapply --no-sparse-index",
        ),
    ];
    for (commands, what, remedy) in ways {
        let folder = checkout(&[]);
        write(folder.path(), "elsewhere/x.nix", "");
        git(folder.path(), &["add", "-f", "."]);
        git(
            folder.path(),
            &["rm", "-q", "-r", "--cached", "lib/other.nix"],
        );
        for command in commands {
            git(folder.path(), command);
        }
        let problems = walk(folder.path(), ROOT).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with(&format!(".git/index: a: {what}")),
            "{problems:?}"
        );
        assert!(problems[0].contains(remedy), "{problems:?}");
        // The advice works.
        git(
            folder.path(),
            &remedy.split(' ').skip(1).collect::<Vec<_>>(),
        );
        walk(folder.path(), ROOT).unwrap();
    }
    let folder = checkout(&[]);
    fs::write(folder.path().join(".git/index"), "DIRC").unwrap();
    let problems = walk(folder.path(), ROOT).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    // Without ignored files the index isn't needed.
    fs::remove_file(folder.path().join(".gitignore")).unwrap();
    walk(folder.path(), ROOT).unwrap();
}

#[test]
fn without_an_index_nothing_is_tracked() {
    let folder = checkout(&[]);
    let without = walk(folder.path(), ROOT).unwrap();
    git(folder.path(), &["add", "-f", "."]);
    let git_folder = folder.path().join(".git");
    let aside = tempfile::tempdir().unwrap();
    fs::rename(&git_folder, aside.path().join("git")).unwrap();
    assert_eq!(walk(folder.path(), ROOT).unwrap(), without);
    fs::write(&git_folder, "gitdir: /elsewhere\n").unwrap();
    assert_eq!(walk(folder.path(), ROOT).unwrap(), without);
    fs::remove_file(&git_folder).unwrap();
    symlink(aside.path().join("git"), &git_folder).unwrap();
    assert_eq!(walk(folder.path(), ROOT).unwrap(), without);
}
