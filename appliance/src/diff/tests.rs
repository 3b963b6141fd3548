use bento_protocol::{File, Policy, Symlink};

use super::rendering::render;
use super::*;
use crate::report::fixture::{generation, second, system};
use crate::text::terminal::Terminal;

fn file(path: &str, content: &str, executable: bool) -> File {
    File {
        path: path.parse().unwrap(),
        executable,
        size: content.len() as u64,
        sha256: Digest::of(content),
    }
}

fn manifest(policy: &str, files: Vec<impl Into<ManifestEntry>>) -> Manifest {
    let policy: Policy = serde_json::from_str(policy).unwrap();
    Manifest::new("kikimora".parse().unwrap(), policy, files, second(0)).unwrap()
}

/// A machine that runs generation a, with generation b published.
fn host_diff(name: &str, changes: Changes) -> HostDiff {
    HostDiff {
        name: name.parse().unwrap(),
        runs: Some(InstalledGeneration {
            generation: generation('a'),
            at: second(0),
            ran: true,
            left: false,
        }),
        published: Some(PublishedGeneration {
            generation: generation('b'),
            at: second(1),
        }),
        reported: true,
        succeeded: true,
        running: Some(system("one")),
        expected_system: None,
        changes: Some(changes),
    }
}

fn shown(hosts: Vec<HostDiff>, contents: &[(&str, FileContent)]) -> String {
    let contents = contents.iter().cloned();
    let diffs = Diffs {
        format: Format,
        hosts,
        contents: contents
            .map(|(of, content)| (Digest::of(of), content))
            .collect(),
    };
    // As from a remote appliance.
    let json = serde_json::to_string(&diffs).unwrap();
    render(&serde_json::from_str(&json).unwrap(), None)
}

fn texts<'a>(texts: &[&'a str]) -> Vec<(&'a str, FileContent)> {
    let texts = texts.iter();
    texts
        .map(|text| (*text, FileContent::Text((*text).to_owned())))
        .collect()
}

#[test]
fn added_removed_and_changed_files_are_shown_as_a_unified_diff() {
    let (before, after) = ("1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\n4\nfive\n6\n7");
    let old = manifest(
        r#"{"reboot":"immediate"}"#,
        vec![
            file("config/flake.nix", before, false),
            file("config/run", "#!", false),
            file("config/old.nix", "gone\n", false),
            file("config/same.nix", "same", false),
            file("secrets/wifi", "password", false),
        ],
    );
    let new = manifest(
        r#"{"self_update":true}"#,
        vec![
            file("config/flake.nix", after, false),
            file("config/run", "#!", true),
            file("config/new.nix", "new\n", false),
            file("config/same.nix", "same", false),
            file("secrets/wifi", "passphrase", false),
        ],
    );
    let changes = Changes::between(&old, &new);
    let contents = texts(&[before, after, "gone\n", "new\n"]);
    let expected = "\
kikimora: aaaaaaaa → bbbbbbbb
setting reboot: \"immediate\" → default
setting self_update: default → true
changed config/flake.nix
--- config/flake.nix
+++ config/flake.nix
@@ -2,6 +2,6 @@
 2
 3
 4
-5
+five
 6
-7
+7
\\ No newline at end of file
added config/new.nix
--- /dev/null
+++ config/new.nix
@@ -0,0 +1 @@
+new
removed config/old.nix
--- config/old.nix
+++ /dev/null
@@ -1 +0,0 @@
-gone
changed config/run (executable now)
changed secrets/wifi: a secret, not shown

";
    assert_eq!(
        shown(vec![host_diff("kikimora", changes)], &contents),
        expected
    );
}

// Issue 10, line 3.
#[test]
fn a_symlink_is_shown_by_its_target() {
    let link = |path: &str, target: &str| {
        let link = Symlink::new(path.parse().unwrap(), target.to_owned());
        ManifestEntry::from(link.unwrap())
    };
    let old = manifest(
        "{}",
        vec![
            link("config/gone", "x"),
            link("config/moved", "x"),
            link("config/now-file", "x"),
            file("config/now-link", "text\n", false).into(),
            link("config/same", "x"),
        ],
    );
    let new = manifest(
        "{}",
        vec![
            link("config/moved", "\u{202e}y"),
            link("config/new", "z\u{301}"),
            file("config/now-file", "text\n", false).into(),
            link("config/now-link", "x"),
            link("config/same", "x"),
        ],
    );
    let changes = Changes::between(&old, &new);
    let expected = "\
kikimora: aaaaaaaa → bbbbbbbb
removed config/gone (a symlink to x)
changed config/moved (a symlink to x, now to \\u{202e}y)
added config/new (a symlink to z\u{301})
changed config/now-file (no longer a symlink to x)
--- /dev/null
+++ config/now-file
@@ -0,0 +1 @@
+text
changed config/now-link (now a symlink to x)
--- config/now-link
+++ /dev/null
@@ -1 +0,0 @@
-text

";
    let contents = texts(&["text\n"]);
    assert_eq!(
        shown(vec![host_diff("kikimora", changes)], &contents),
        expected
    );
}

#[test]
fn other_files_are_a_line_with_their_sizes() {
    let old = manifest(
        "{}",
        vec![
            file("config/a", "binary", false),
            file("config/b", "lost", false),
        ],
    );
    let new = manifest(
        "{}",
        vec![
            file("config/a", "text", false),
            file("config/b", "", false),
            file("config/c", "large", true),
        ],
    );
    let contents = [
        ("binary", FileContent::Binary),
        ("text", FileContent::Text("text".into())),
        ("large", FileContent::Large),
        ("lost", FileContent::Gone),
        ("", FileContent::Text(String::new())),
    ];
    let changes = Changes::between(&old, &new);
    let text = shown(vec![host_diff("kikimora", changes)], &contents);
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "changed config/a: not a text, 6 → 4 bytes",
            "changed config/b: the old contents aren't kept any more, 4 → 0 bytes",
            "added config/c (executable): too large to show, 5 bytes",
            ""
        ]
    );
}

#[test]
fn control_characters_of_files_are_escaped() {
    let hostile = "\u{1b}[2J\tred\u{202e}\r\n\u{9b}31m\n";
    let old = manifest(
        r#"{"new":"\u001b[2J"}"#,
        vec![file("config/\u{202e}a", "", false)],
    );
    let new = manifest("{}", vec![file("config/\u{202e}a", hostile, false)]);
    let changes = Changes::between(&old, &new);
    let text = shown(vec![host_diff("kikimora", changes)], &texts(&["", hostile]));
    let steers = |character: char| {
        !matches!(character, '\n' | '\t') && !crate::text::sanitise::is_shown(character)
    };
    assert!(!text.contains(steers), "{text:?}");
    assert!(
        text.contains("+\\u{1b}[2J\tred\\u{202e}\\u{d}\n+\\u{9b}31m\n"),
        "{text}"
    );
}

#[test]
fn equal_changes_are_shown_once_and_other_machines_in_a_line() {
    let changes = |text: &str| {
        let new = manifest("{}", vec![file("config/a", text, false)]);
        Changes::between(&manifest("{}", Vec::<File>::new()), &new)
    };
    let (one, other) = (changes("x\n"), changes("y\n"));
    let mut current = host_diff("leshy", Changes::default());
    current.published = current.runs.map(|runs| PublishedGeneration {
        generation: runs.generation,
        at: runs.at,
    });
    let new = HostDiff {
        runs: None,
        reported: false,
        changes: None,
        ..host_diff("vodyanoy", Changes::default())
    };
    let failed = HostDiff {
        runs: None,
        succeeded: false,
        changes: None,
        ..host_diff("shishiga", Changes::default())
    };
    let legacy = HostDiff {
        runs: None,
        changes: None,
        ..host_diff("polevik", Changes::default())
    };
    let lost = HostDiff {
        changes: None,
        ..host_diff("bannik", Changes::default())
    };
    let unpublished = HostDiff {
        published: None,
        changes: None,
        ..host_diff("rusalka", Changes::default())
    };
    let mut left = host_diff("ovinnik", other);
    left.runs.as_mut().unwrap().left = true;
    let hosts = vec![
        lost,
        failed,
        legacy,
        host_diff("domovoi", one.clone()),
        host_diff("kikimora", one),
        current,
        left,
        unpublished,
        new,
    ];
    let text = shown(hosts, &texts(&["x\n", "y\n"]));
    let expected = "\
2 machines: domovoi, kikimora
added config/a
--- /dev/null
+++ config/a
@@ -0,0 +1 @@
+x

ovinnik: aaaaaaaa → bbbbbbbb
ovinnik ran aaaaaaaa, but another system in its last report: see `bento status` and `bento logs ovinnik`
added config/a
--- /dev/null
+++ config/a
@@ -0,0 +1 @@
+y

bannik: runs aaaaaaaa, which isn't kept any more, so it can't be compared with bbbbbbbb
shishiga: bbbbbbbb is its first generation: it has never reported a success, see `bento logs shishiga`
polevik: can't compare with bbbbbbbb: a bento 2022 client doesn't report its generation
rusalka: no published generation yet, see `bento status`
vodyanoy: bbbbbbbb is its first generation: it has never reported
leshy runs the published generation
";
    assert_eq!(text, expected);
}

#[test]
fn colours_depend_on_the_terminal() {
    let new = manifest("{}", vec![file("config/a", "x\n", false)]);
    let changes = Changes::between(&manifest("{}", Vec::<File>::new()), &new);
    let diffs = Diffs {
        format: Format,
        hosts: vec![host_diff("kikimora", changes)],
        contents: texts(&["x\n"])
            .into_iter()
            .map(|(of, content)| (Digest::of(of), content))
            .collect(),
    };
    let terminal = |colours| {
        Some(Terminal {
            columns: 80,
            colours,
            unicode: true,
        })
    };
    assert!(render(&diffs, terminal(true)).contains("\u{1b}[32m+x\u{1b}[0m\n"));
    assert!(!render(&diffs, terminal(false)).contains('\u{1b}'));
}
