// Issue 10, line 10.

use super::*;
use crate::check::Findings;
use crate::fixture::git;
use crate::preview::Preview;

/// A folder with a fleet in `fleet/`. Git tracks all its files but `b.key`, also the ignored `a.key`. `top` is the top
/// of the checkout, and its `.gitignore` names `drafts`.
fn repository(top: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let fleet = place.path().join("fleet");
    let write = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        fleet.join("fleet.toml"),
        "[server]\naddress = \"x\"\n[hosts.a]\n",
    );
    for name in ["configuration.nix", "a.key", "b.key", "drafts/x.nix"] {
        write(fleet.join("hosts/a").join(name), "{ }");
    }
    write(fleet.join("hosts/.gitignore"), "*.key\n");
    let top = place.path().join(top);
    write(top.join(".gitignore"), "drafts\n");
    git(&top, &["init", "-q", "-b", "main"]);
    git(&top, &["add", "."]);
    git(
        &top,
        &["add", "-f", fleet.join("hosts/a/a.key").to_str().unwrap()],
    );
    git(&top, &["commit", "-q", "-m", "a"]);
    place
}

/// The warnings of this module about a fleet folder.
fn warned(folder: &Path) -> Vec<String> {
    let preview = Preview::make(folder, &[]).unwrap();
    assert!(preview.problems.is_empty(), "{:?}", preview.problems);
    let warnings = Findings::of(folder, &preview).warnings.into_iter();
    let warnings = warnings.map(|warning| warning.to_string());
    let is_ours = |text: &String| {
        text.contains("see") || text.contains(".gitignore names") || text.contains("above")
    };
    warnings.filter(is_ours).collect()
}

fn assert_warned(folder: &Path, beginnings: &[&str]) {
    let warned = warned(folder);
    let fit = warned
        .iter()
        .zip(beginnings)
        .all(|(text, beginning)| text.starts_with(beginning));
    assert!(fit && warned.len() == beginnings.len(), "{warned:#?}");
}

#[test]
fn a_fleet_below_the_top_of_its_checkout_causes_warnings() {
    let place = repository("");
    assert_warned(
        &place.path().join("fleet"),
        &[
            "the fleet folder is below the top of its checkout, ",
            "hosts/a/a.key: a .gitignore names it, and the appliance can't see that git tracks it",
            "hosts/a/drafts/x.nix: a .gitignore above the fleet folder names it",
        ],
    );
    fs::write(
        place.path().join("fleet/hosts/a/.bentoignore"),
        "!a.key\ndrafts\n",
    )
    .unwrap();
    assert_warned(
        &place.path().join("fleet"),
        &["the fleet folder is below the top of its checkout, "],
    );
}

#[test]
fn a_linked_worktree_causes_warnings() {
    let place = repository("fleet");
    let (main, linked) = (place.path().join("fleet"), place.path().join("linked"));
    assert_warned(&main, &[]);
    git(&main, &["worktree", "add", "-q", linked.to_str().unwrap()]);
    assert_warned(
        &linked,
        &[
            ".git: isn't a folder, as in a linked worktree: ",
            "hosts/a/a.key: a .gitignore names it, and the appliance can't see that git tracks it",
        ],
    );
    // As in a container with only the linked folder.
    let git_file = linked.join(".git");
    let leads = fs::read_to_string(&git_file).unwrap();
    fs::write(&git_file, "gitdir: /nowhere\n").unwrap();
    let said = warned(&linked);
    let key = "hosts/a/a.key: a .gitignore names it, and it is unknown here";
    assert!(said.iter().any(|text| text.starts_with(key)), "{said:#?}");
    fs::write(&git_file, leads).unwrap();
    // A clone of it is a normal checkout.
    let clone = place.path().join("clone");
    git(
        place.path(),
        &[
            "clone",
            "-q",
            linked.to_str().unwrap(),
            clone.to_str().unwrap(),
        ],
    );
    assert_warned(&clone, &[]);
}

#[test]
fn a_copy_without_git_causes_warnings_for_ignored_files() {
    let place = repository("");
    fs::remove_dir_all(place.path().join(".git")).unwrap();
    let folder = place.path().join("fleet");
    assert_warned(
        &folder,
        &["a .gitignore names hosts/a/a.key, hosts/a/b.key, and without a .git it is unknown"],
    );
    for key in ["a.key", "b.key"] {
        fs::remove_file(folder.join("hosts/a").join(key)).unwrap();
    }
    assert_warned(&folder, &[]);
}
