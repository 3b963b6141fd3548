//! Changes that take a while: no tree is published that never lay there as a whole.

mod env;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use bento_tests::{process, wait};

use self::env::{ATTEMPTS, CopyEnv, Tree, tree, tree_of, write_tree};

const NAME: &str = "kikimora";

#[test]
fn a_checkout_is_published_as_a_whole_and_one_that_is_taken_back_not_at_all() -> Result<()> {
    let trees = [tree(0), tree(1)];
    let env = CopyEnv::new(&trees[0])?;
    env.git(&["init", "-q", "-b", "0"])?;
    env.git(&["add", "-A"])?;
    env.git(&["commit", "-qm", "0"])?;
    env.git(&["checkout", "-qb", "1"])?;
    fs::remove_dir_all(env.folder())?;
    write_tree(&env.folder(), &trees[1])?;
    env.fleet.give_away()?;
    env.git(&["add", "-A"])?;
    env.git(&["commit", "-qm", "1"])?;
    env.await_tree(&trees[1])?;

    let checkout = |branch: usize| env.git(&["checkout", "-q", &branch.to_string()]);
    let last = |attempt| attempt % 2;
    env.only_these_while(&trees, last, |attempt| {
        for step in 0..10 {
            checkout((attempt + step + 1) % 2)?;
            thread::sleep(Duration::from_millis(100));
        }
        checkout(last(attempt))
    })?;

    let mut before = env.published()?;
    for _ in 0..ATTEMPTS {
        let (here, there) = match tree_of(&env.machine.pull()?)? == trees[0] {
            true => (0, 1),
            false => (1, 0),
        };
        let act = |_| {
            checkout(there)?;
            checkout(here)?;
            env.let_another_edit_pass()
        };
        let seen = env.only_these_while(&trees, |_| here, act)?;
        let after = env.published()?;
        if seen.len() == 1 {
            assert_eq!(after, before);
            return Ok(());
        }
        before = after;
    }
    bail!("this machine was too busy to go back to a commit at once");
}

#[test]
fn what_rsync_brings_is_published_as_a_whole_and_what_it_brings_again_not_at_all() -> Result<()> {
    let trees = [tree(0), tree(1)];
    let env = CopyEnv::new(&trees[0])?;
    let sources = tempfile::tempdir()?;
    for (number, tree) in trees.iter().enumerate() {
        write_tree(&sources.path().join(number.to_string()), tree)?;
    }
    let rsync = |tree: usize, options: &[&str]| -> Result<()> {
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "--no-owner", "--no-group"]).args(options);
        rsync.arg(format!("{}/{tree}/", sources.path().display()));
        rsync.arg(format!("{}/", env.folder().display()));
        process::run(&mut rsync, process::LONG)?.success()?;
        Ok(())
    };
    let last = |attempt| (attempt + 1) % 2;
    env.only_these_while(&trees, last, |attempt| {
        rsync(last(attempt), &["--delete", "--bwlimit=150"])
    })?;

    let before = env.published()?;
    let here = usize::from(tree_of(&env.machine.pull()?)? == trees[1]);
    env.only_these_while(
        &trees,
        |_| here,
        |_| {
            // Every file anew, by way of another name.
            rsync(here, &["--ignore-times"])?;
            env.let_another_edit_pass()
        },
    )?;
    assert_eq!(env.published()?, before);
    Ok(())
}

/// How an editor replaces what is in a file.
type Save = fn(&Path, &str) -> Result<()>;

const PAUSE: Duration = Duration::from_millis(300);

/// Writes aside, and renames over it.
fn by_rename(path: &Path, text: &str) -> Result<()> {
    let aside = path.with_file_name("edited.nix.tmp");
    in_place(&aside, text)?;
    Ok(fs::rename(aside, path)?)
}

/// As vim does: the old file becomes the backup, which goes when the new one is there.
fn with_a_backup(path: &Path, text: &str) -> Result<()> {
    let backup = path.with_file_name("edited.nix~");
    fs::rename(path, &backup)?;
    thread::sleep(PAUSE);
    in_place(path, text)?;
    Ok(fs::remove_file(backup)?)
}

fn deleted_and_created(path: &Path, text: &str) -> Result<()> {
    fs::remove_file(path)?;
    thread::sleep(PAUSE);
    in_place(path, text)
}

/// In two parts.
fn in_place(path: &Path, text: &str) -> Result<()> {
    let (first, _) = text.split_at(text.len() / 2);
    fs::write(path, first)?;
    thread::sleep(PAUSE);
    Ok(fs::write(path, text)?)
}

#[test]
fn what_an_editor_saves_is_published_as_a_whole_however_it_saves() -> Result<()> {
    const EDITS: usize = 4;
    let version = |number: usize| -> Tree {
        let text = format!("version {number}");
        [
            ("edited.nix", text.as_str()),
            ("configuration.nix", "the same"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
    };
    let saves: [Save; 4] = [by_rename, with_a_backup, deleted_and_created, in_place];
    let trees: Vec<_> = (0..=saves.len() * ATTEMPTS * EDITS).map(version).collect();
    let env = CopyEnv::new(&trees[0])?;
    let path = env.folder().join("edited.nix");
    for (number, save) in saves.into_iter().enumerate() {
        let first = |attempt| (number * ATTEMPTS + attempt) * EDITS + 1;
        env.only_these_while(
            &trees,
            |attempt| first(attempt) + EDITS - 1,
            |attempt| {
                for tree in trees.iter().skip(first(attempt)).take(EDITS) {
                    save(&path, &tree["edited.nix"])?;
                    thread::sleep(PAUSE);
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

#[test]
fn what_changes_while_it_is_read_is_read_again() -> Result<()> {
    const LARGE: usize = 6 << 20;
    let version = |digit: usize| -> Tree {
        let file = |number: usize| (number.to_string(), digit.to_string().repeat(LARGE));
        let entry = ("configuration.nix".to_owned(), "{ }".to_owned());
        (0..8).map(file).chain([entry]).collect()
    };
    let mut trees = vec![version(0)];
    let env = CopyEnv::new(&trees[0])?;
    let publications = env
        .appliance
        .state_folder()?
        .join("hosts")
        .join(NAME)
        .join("publications");
    let is_being_written = || {
        let names = fs::read_dir(&publications).ok()?.flatten();
        let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| name.ends_with(".partial")).then_some(())
    };
    for round in 0..3 {
        trees.extend([version(2 * round + 1), version(2 * round + 2)]);
        let [first, last] = &trees[trees.len() - 2..] else {
            bail!("there are two");
        };
        let act = || {
            write_tree(&env.folder(), first)?;
            wait::until("its publication to begin", process::SHORT, is_being_written)?;
            // The last first: it hasn't been read yet.
            for (path, text) in last.iter().rev() {
                fs::write(env.folder().join(path), text)?;
            }
            Ok(())
        };
        // Every byte of what is published is checked against its id.
        let (seen, _) = env.collect_while(act, last)?;
        assert!(
            seen.values().all(|tree| trees.contains(tree)),
            "a mixed tree"
        );
    }
    Ok(())
}
