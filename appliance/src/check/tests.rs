use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";

/// A fleet folder.
struct TestFleet(tempfile::TempDir);

impl TestFleet {
    fn new(hosts: &str) -> Self {
        let fleet_folder = TestFleet(tempfile::tempdir().unwrap());
        fleet_folder.write("fleet.toml", &format!("[server]\naddress = \"x\"\n{hosts}"));
        fleet_folder
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
        let output = git
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn preview(&self) -> Preview {
        let preview = Preview::make(self.0.path(), &[]).unwrap();
        assert!(preview.problems.is_empty(), "{:?}", preview.problems);
        preview
    }

    fn warnings(&self) -> Vec<String> {
        let findings = Findings::of(self.0.path(), &self.preview());
        assert!(findings.errors.is_empty(), "{:?}", findings.errors);
        findings.warnings.iter().map(ToString::to_string).collect()
    }

    fn shared(&self) -> Vec<String> {
        shared_lines(&shared(&self.preview()))
    }
}

fn begin(warnings: &[String]) -> Vec<&str> {
    let end = |line: &str| {
        line.match_indices(": ")
            .nth(1)
            .map_or(line.len(), |(end, _)| end)
    };
    warnings.iter().map(|line| &line[..end(line)]).collect()
}

#[test]
fn a_path_is_checked_at_the_published_path_of_its_file() {
    let fleet_folder = TestFleet::new("[hosts.a]\n[hosts.b]\n");
    fleet_folder.write(
        "utils/common.nix",
        "[\n  ./near.nix ../modules/x.nix\n  ../configuration.nix ../../y.nix ../${z} ]",
    );
    fleet_folder.write("utils/near.nix", "1");
    fleet_folder.write("modules/x.nix", "1");
    fleet_folder.write("y.nix", "1");
    for host in ["a", "b"] {
        fleet_folder.link(&format!("hosts/{host}/utils"), "../../utils");
        fleet_folder.write(&format!("hosts/{host}/configuration.nix"), "./utils");
    }
    fleet_folder.write(
        "hosts/b/configuration.nix",
        "[ ./utils ../../${x}/y ./secret.nix ./nowhere.nix ]",
    );
    fleet_folder.write("hosts/b/secret.nix", "1");
    fleet_folder.write("hosts/b/.gitignore", "secret.nix\n");
    let warnings = fleet_folder.warnings();
    let expected = [
        "hosts/b/configuration.nix:1: ../../ is outside of hosts/b, and only files in hosts/b are published",
        "hosts/b/configuration.nix:1: ./nowhere.nix doesn't exist, but a build of b may need it",
        "hosts/b/configuration.nix:1: ./secret.nix isn't published",
        "hosts/b/secret.nix: a .gitignore names it, and without a .git it is unknown whether git tracks it",
        "utils/common.nix:2: ../modules/x.nix exists here, but not at the published path of this file, utils/common.nix in hosts/a",
        "utils/common.nix:2: ../modules/x.nix exists here, but not at the published path of this file, utils/common.nix in hosts/b",
        "utils/common.nix:3: ../../y.nix is outside of hosts/a, and only files in hosts/a are published",
        "utils/common.nix:3: ../../y.nix is outside of hosts/b, and only files in hosts/b are published",
    ];
    assert_eq!(begin(&warnings), expected);
    assert!(warnings[1].ends_with("correct the path; verify with `bento build --dry-run b`"));
    assert!(warnings[2].contains(
        "run `git add -f` on the file, or add a line with ! and the ignored name to a .bentoignore"
    ));
    fleet_folder.write("hosts/b/.bentoignore", "!secret.nix\n");
    assert_eq!(
        begin(&fleet_folder.warnings()),
        [&expected[..2], &expected[4..]].concat()
    );
    // A shared flake, without the files of other machines.
    let fleet_folder = TestFleet::new("[hosts.a]\nsource = \".\"\nexclude = [\"/hosts/b\"]\n");
    fleet_folder.write("configuration.nix", "[ ./hosts/a/x.nix ./hosts/b/x.nix ]");
    fleet_folder.write("hosts/a/x.nix", "../../hosts/a");
    fleet_folder.write("hosts/b/x.nix", "1");
    assert_eq!(fleet_folder.warnings(), [""; 0]);
}

// Issue 10, line 3.
#[test]
fn a_path_is_followed_through_symlinks() {
    let fleet_folder = TestFleet::new("[hosts.a]\n");
    fleet_folder.write("hosts/a/pkgs/default.nix", "[ ./hello.nix ../lib ]");
    fleet_folder.write("hosts/a/pkgs/hello.nix", "1");
    fleet_folder.write("hosts/a/lib/default.nix", "1");
    fleet_folder.link(
        "hosts/a/common/overlays/default.nix",
        "../../pkgs/default.nix",
    );
    fleet_folder.link("hosts/a/common/pkgs", "../pkgs");
    fleet_folder.link("hosts/a/lost.nix", "gone.nix");
    fleet_folder.write(
        "hosts/a/configuration.nix",
        "[ ./common/overlays ./common/overlays/default.nix ./common/pkgs/hello.nix ./lost.nix ]",
    );
    assert_eq!(
        begin(&fleet_folder.warnings()),
        ["hosts/a/configuration.nix:1: ./lost.nix doesn't exist, but a build of a may need it"]
    );
    // The lock file, too, is read at its real path.
    let key = format!("[hosts.a]\nkeys = [\"{KEY}\"]\n");
    let fleet_folder = TestFleet::new(&key);
    fleet_folder.write("hosts/a/sub/flake.nix", "{ }");
    fleet_folder.write("hosts/a/sub/flake.lock", "no lock file");
    fleet_folder.link("hosts/a/flake.nix", "sub/flake.nix");
    fleet_folder.link("hosts/a/flake.lock", "sub/flake.lock");
    let warnings = fleet_folder.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("hosts/a/sub/flake.lock: isn't a lock"),
        "{warnings:?}"
    );
}

// Issue 10, line 3.
#[test]
fn a_symlink_to_an_excluded_target_causes_a_warning() {
    let fleet_folder = TestFleet::new(
        "[hosts.a]\nexclude = [\"/private/\", \"*.secret\"]\ninclude = [\"y.nix\"]\n",
    );
    fleet_folder.write("hosts/a/configuration.nix", "{ }");
    fleet_folder.write("hosts/a/private/x.nix", "1");
    fleet_folder.write("hosts/a/x.secret", "1");
    fleet_folder.write("hosts/a/.bentoignore", "/ignored\n");
    fleet_folder.write("hosts/a/ignored", "1");
    fleet_folder.link("hosts/a/file", "private/x.nix");
    fleet_folder.link("hosts/a/folder", "private");
    fleet_folder.link("hosts/a/sub/chain", "../one");
    fleet_folder.link("hosts/a/one", "x.secret");
    fleet_folder.link("hosts/a/fine", "configuration.nix");
    fleet_folder.link("hosts/a/gone", "nowhere");
    fleet_folder.link("hosts/a/unpublished", "ignored");
    let warnings = fleet_folder.warnings();
    let expected = ["file", "folder", "one", "sub/chain"].map(|name| format!("hosts/a/{name}: "));
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, place) in warnings.iter().zip(expected) {
        assert!(
            warning.starts_with(&place) && warning.contains("include or exclude"),
            "{warning}"
        );
    }
}

// Issue 10, line 2.
#[test]
fn an_excluded_path_is_missing_if_the_machines_own_file_or_its_imports_name_it() {
    let narrowed = |name: &str| {
        format!(
            "[hosts.{name}]\nsource = \".\"\nexclude = [\"/hosts/*\", \"/private\"]\ninclude = [\"/hosts/{name}\"]\n"
        )
    };
    let fleet_folder = TestFleet::new(&["a", "b", "c"].map(narrowed).concat());
    fleet_folder.write(
        "flake.nix",
        "[ ./hosts/a ./hosts/b ./hosts/c ./hosts/old ./private ]",
    );
    fleet_folder.write("flake.lock", r#"{"nodes": {}}"#);
    fleet_folder.write(
        "hosts/a/default.nix",
        "[\n ../b/packages.nix ../../modules/x.nix ../../modules/y.nix ]",
    );
    fleet_folder.write(
        "hosts/b/default.nix",
        "[ ./packages.nix ../../modules/y.nix ]",
    );
    fleet_folder.write("hosts/b/packages.nix", "1");
    fleet_folder.write(
        "hosts/c/default.nix",
        "[ ../../modules/x.nix (if builtins.pathExists ../b then ../b else 1) ]",
    );
    fleet_folder.write("modules/x.nix", "\n{ password = ../private/password; }");
    fleet_folder.write("modules/y.nix", "1");
    // No machine's own file imports this.
    fleet_folder.write("modules/unused.nix", "../private/password");
    fleet_folder.write("private/password", "1");
    let expected = [
        "hosts/a/default.nix:2: ../b/packages.nix is excluded, but a build of a may need it: add it to include; verify with \
         `bento build --dry-run a`",
        "modules/x.nix:2: ../private/password is excluded, but a build of a, c may need it: add it to include; verify with \
         `bento build --dry-run a`",
    ];
    assert_eq!(fleet_folder.warnings(), expected);
    // A folder that only some machines get belongs to them.
    let desk = |name: &str| format!("[hosts.{name}]\nsource = \".\"\nexclude = [\"/x\"]\n");
    let router = "[hosts.router]\nsource = \".\"\nexclude = [\"/x\", \"/desk\"]\n";
    let fleet_folder = TestFleet::new(&[&desk("a"), &desk("b"), router].concat());
    fleet_folder.write("flake.nix", "[ ./desk ./x/y.nix ]");
    fleet_folder.write("flake.lock", r#"{"nodes": {}}"#);
    fleet_folder.write("desk/default.nix", "../x/y.nix");
    fleet_folder.write("x/y.nix", "1");
    let warnings = fleet_folder.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0]
            .starts_with("desk/default.nix:1: ../x/y.nix is excluded, but a build of a, b may")
    );
}

// Issue 10, line 2.
#[test]
fn an_ignored_path_causes_a_warning_beside_exclude() {
    let fleet_folder = TestFleet::new("[hosts.a]\nsource = \".\"\nexclude = [\"/x\"]\n");
    fleet_folder.write("configuration.nix", "[ ./ignored.nix ./hosts/old.nix ]");
    fleet_folder.write("ignored.nix", "1");
    fleet_folder.write(".bentoignore", "ignored.nix\n");
    assert_eq!(
        begin(&fleet_folder.warnings()),
        ["configuration.nix:1: ./ignored.nix isn't published"]
    );
}

// Issue 10, line 8.
#[test]
fn stand_ins_of_git_are_listed_with_advice() {
    let fleet_folder = TestFleet::new("[hosts.a]\n[hosts.b]\n");
    for host in ["a", "b"] {
        fleet_folder.write(&format!("hosts/{host}/configuration.nix"), "{ }");
        fleet_folder.link(&format!("hosts/{host}/art"), "../../art");
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        fleet_folder.write(&format!("art/{name}"), pointer);
    }
    fleet_folder.write("art/e.png", "an image");
    fleet_folder.write("hosts/a/module/keys.nix", "\0GITCRYPT\0 and so on");
    fleet_folder.write("bento-secrets/b/key", "\0GITCRYPT\0 and so on");
    fleet_folder.write(
        ".gitmodules",
        "[submodule \"x\"]\n\tpath = hosts/a/lib\n\turl = x\n[submodule \"y\"]\n\tpath = docs\n",
    );
    for folder in ["hosts/a/lib", "docs"] {
        fs::create_dir(fleet_folder.0.path().join(folder)).unwrap();
    }
    let findings = Findings::of(fleet_folder.0.path(), &fleet_folder.preview());
    let lines =
        |problems: &BTreeSet<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let unlock = "is locked by git-crypt, and machines would get the locked file: run `git-crypt unlock` in this checkout";
    let errors = ["bento-secrets/b/key: b", "hosts/a/module/keys.nix: a"]
        .map(|path| format!("{path}: {unlock}"));
    assert_eq!(lines(&findings.errors), errors);
    let warnings = lines(&findings.warnings);
    assert_eq!(
        warnings[..2],
        [
            "art: a.png, b.png, c.png and 1 more: each is a pointer of Git LFS, not the file itself: run `git lfs pull` in \
             this checkout",
            "hosts/a/lib: is a submodule that isn't checked out, so machines get no files of it: run `git submodule \
             update --init` in this checkout",
        ]
    );
}

// Issue 10, line 8.
#[test]
fn sources_over_ssh_and_missing_revisions_cause_warnings() {
    let fleet_folder = TestFleet::new("[hosts.a]\n[hosts.b]\n");
    fleet_folder.write(
        "hosts/a/flake.nix",
        "{\n  inputs.x.url = \"git+ssh://git@example.org/x\";\n  outputs = { self, ... }: { a = self.rev; };\n}\n",
    );
    fleet_folder.write(
        "hosts/b/flake.nix",
        "{ inputs.x.url = \"git+ssh://git@example.org/x\"; }",
    );
    let locked = r#"{ "type": "git", "url": "ssh://git@example.org/x", "rev": "0" }"#;
    fleet_folder.write(
        "hosts/b/flake.lock",
        &format!("{{\n\"nodes\": {{ \"x\": {{ \"locked\": {locked} }} }}\n}}\n"),
    );
    let warnings = fleet_folder.warnings();
    let begun = [
        "hosts/a/flake.nix:2: each machine fetches git+ssh://git@example.org/x over SSH: give root on each machine a key",
        "hosts/a/flake.nix:3: self.rev: missing on a machine, which builds the files without git: add a default, as \
         in `self.rev or null`",
        "hosts/b/flake.lock:2: the input x is ssh://git@example.org/x, which each machine fetches over SSH: give root",
    ];
    assert_eq!(warnings.len(), begun.len(), "{warnings:?}");
    for (line, begun) in warnings.iter().zip(begun) {
        assert!(line.starts_with(begun), "{line}");
    }
}

// Issue 10, line 39.
#[test]
fn a_placeholder_causes_a_warning_for_an_enrolled_machine() {
    let text = "# github:OWNER/bento\n{ hostKeys = [ \"ssh-ed25519 AAAA…\" ]; }";
    let hosts = |keys: &str| format!("[server]\naddress = \"x\"\n[hosts.a]\nkeys = [{keys}]\n");
    let fleet_folder = TestFleet::new("");
    fleet_folder.write("hosts/a/configuration.nix", text);
    fleet_folder.write("fleet.toml", &hosts(""));
    assert_eq!(fleet_folder.warnings(), [""; 0]);
    fleet_folder.write("fleet.toml", &hosts(&format!("\"{KEY}\"")));
    assert_eq!(
        fleet_folder.warnings(),
        [
            "hosts/a/configuration.nix:1: OWNER/bento is a placeholder: replace OWNER with the owner of your bento",
            "hosts/a/configuration.nix:2: AAAA… is a placeholder: replace it with the appliance's host key, which `bento \
             host-key` prints",
        ]
    );
}

// Issue 10, line 39.
#[test]
fn a_syntax_error_is_an_error_for_affected_machines_and_otherwise_a_warning() {
    let fleet_folder = TestFleet::new(
        "[hosts.a]\nsource = \".\"\n[hosts.b]\nsource = \".\"\n[hosts.c]\nsource = \".\"\nattribute = \"C\"\n",
    );
    fleet_folder.write("flake.nix", "[ ./hosts/a ./hosts/b ./hosts/C ]");
    fleet_folder.write("flake.lock", r#"{"nodes": {}}"#);
    for host in ["a", "b", "C"] {
        fleet_folder.write(
            &format!("hosts/{host}/default.nix"),
            "{ imports = [ ./more.nix ]; }",
        );
        fleet_folder.write(&format!("hosts/{host}/more.nix"), "{ }");
    }
    fleet_folder.write("hosts/b/more.nix", "{\n  a = 1\n}\n");
    fleet_folder.write("hosts/C/more.nix", "{ a = [ 1, 2 ]; }");
    fleet_folder.write("hosts/b/unused.nix", "{ a = ");
    fleet_folder.write("broken/on-purpose.nix", "}");
    let findings = Findings::of(fleet_folder.0.path(), &fleet_folder.preview());
    let lines =
        |problems: &BTreeSet<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let advice = "correct it: configurations that import it can't be built";
    assert_eq!(
        lines(&findings.errors),
        [
            format!(
                "hosts/C/more.nix:1:10: c: syntax error: expected a value, found `,`: {advice}"
            ),
            format!("hosts/b/more.nix:3:1: b: syntax error: expected `;`, found `}}`: {advice}"),
        ]
    );
    assert_eq!(
        begin(&lines(&findings.warnings)),
        [
            "broken/on-purpose.nix:1:1: syntax error",
            "hosts/b/unused.nix:1:6: syntax error"
        ]
    );
}

#[test]
fn the_flake_of_an_enrolled_machine_needs_a_lock_file() {
    let fleet_folder = TestFleet::new(&format!("[hosts.a]\n[hosts.b]\nkeys = [\"{KEY}\"]\n"));
    for host in ["a", "b"] {
        fleet_folder.write(&format!("hosts/{host}/flake.nix"), "{ }");
    }
    let warnings = fleet_folder.warnings();
    assert_eq!(
        begin(&warnings).len(),
        1,
        "a is still an example: {warnings:?}"
    );
    assert!(
        warnings[0].starts_with("hosts/b/flake.nix: has no flake.lock"),
        "{warnings:?}"
    );
    fleet_folder.write(
        "hosts/b/flake.lock",
        r#"{"nodes": {"root": {}}, "root": "root", "version": 7}"#,
    );
    assert_eq!(fleet_folder.warnings(), [""; 0]);
    fleet_folder.write(
        "hosts/b/flake.lock",
        r#"{"nodes": {"x": {"locked": {"type": "path", "path": "/x"}}}}"#,
    );
    assert!(fleet_folder.warnings()[0].starts_with("hosts/b/flake.lock:1: the input x is /x"));
}

#[test]
fn untracked_files_cause_warnings_and_ignored_ones_are_not_published() {
    let fleet_folder = TestFleet::new("[hosts.a]\n");
    fleet_folder.write("hosts/a/configuration.nix", "1");
    fleet_folder.write("utils/x.nix", "1");
    fleet_folder.link("hosts/a/utils", "../../utils");
    fleet_folder.write("bento-secrets/a/key", "1");
    assert_eq!(fleet_folder.warnings(), [""; 0], "no checkout, no git");
    fleet_folder.git(&["init", "-q"]);
    let warnings = fleet_folder.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("hosts/a/configuration.nix: isn't tracked by git"),
        "{warnings:?}"
    );
    assert!(warnings[1].starts_with("utils/x.nix: "), "{warnings:?}");
    fleet_folder.git(&["add", "utils", "hosts/a/configuration.nix"]);
    let warnings = fleet_folder.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("hosts/a/utils: isn't"),
        "{warnings:?}"
    );
    fleet_folder.git(&["add", "hosts"]);
    assert_eq!(fleet_folder.warnings(), [""; 0]);
    for name in ["1", "2", "3", "4", "ignored"] {
        fleet_folder.write(&format!("hosts/a/{name}"), "1");
    }
    fleet_folder.write(".gitignore", "ignored\n");
    let warnings = fleet_folder.warnings();
    assert!(
        warnings.len() == 1
            && warnings[0].starts_with("hosts/a: git doesn't track 1, 2, 3 and 1 more"),
        "{warnings:?}"
    );
}

#[test]
fn shared_folders_are_listed_once() {
    let desk = "source = \"hosts/desks\"\n";
    let fleet_folder = TestFleet::new(&format!(
        "[hosts.alice]\n{desk}[hosts.bob]\n{desk}[hosts.carol]\n[hosts.dave]\n"
    ));
    for file in [
        "desks/flake.nix",
        "desks/b.nix",
        "carol/flake.nix",
        "dave/flake.nix",
    ] {
        fleet_folder.write(&format!("hosts/{file}"), "1");
    }
    let desks = "alice and bob both get hosts/desks, 2 files";
    assert_eq!(fleet_folder.shared(), [desks]);
    fleet_folder.link("hosts/dave/carol", "../carol");
    assert_eq!(
        fleet_folder.shared(),
        ["dave gets hosts/carol, which is carol's", desks]
    );
    let of_alice = Preview::make(fleet_folder.0.path(), &["alice".parse().unwrap()]).unwrap();
    let others = shared(&of_alice)[0].machines.len();
    assert_eq!(others, 2, "machines outside of the preview count, too");
}

// Issue 10, line 5.
#[test]
fn files_and_folders_named_like_another_machine_are_listed() {
    let whole = |name: &str| format!("[hosts.{name}]\nsource = \".\"\n");
    let fleet_folder = TestFleet::new(&["a", "b", "c"].map(whole).concat());
    for path in [
        "flake.nix",
        "modules/x.nix",
        "modules/y.nix",
        "modules/z.nix",
        "hosts/b.yml",
    ] {
        fleet_folder.write(path, "1");
    }
    assert_eq!(
        fleet_folder.shared(),
        ["a and c get hosts/b.yml, which is b's"]
    );
    for path in [
        "hosts/a.nix",
        "hosts/c/default.nix",
        "hosts/c/x.nix",
        "secrets/a.yaml",
        "users/a/x",
        "users/b/x",
    ] {
        fleet_folder.write(path, "1");
    }
    assert_eq!(
        fleet_folder.shared(),
        [
            "a, b and c all get hosts/a.nix, hosts/b.yml, hosts/c, secrets/a.yaml, users/a and 1 more, each of which is one \
          machine's"
        ]
    );
    let narrowed = |name: &str, attribute: &str| {
        format!(
            "[hosts.{name}]\nsource = \".\"\nexclude = [\"/hosts/*\"]\ninclude = [\"/hosts/{attribute}.*\"]\nattribute = \"{attribute}\"\n"
        )
    };
    let fleet_folder = TestFleet::new(&[narrowed("a", "A"), narrowed("b", "B")].concat());
    for path in ["flake.nix", "hosts/A.nix", "hosts/B.nix", "secrets/B.yml"] {
        fleet_folder.write(path, "1");
    }
    assert_eq!(
        fleet_folder.shared(),
        ["a gets secrets/B.yml, which is b's"]
    );
}

#[test]
fn files_that_the_owner_of_the_folder_can_not_read_cause_warnings_for_root() {
    let fleet_folder = TestFleet::new("[hosts.a]\n");
    fleet_folder.write("hosts/a/configuration.nix", "1");
    fleet_folder.write("hosts/a/closed/x.nix", "1");
    fleet_folder.write("bento-secrets/a/key", "1");
    let path = |name: &str| fleet_folder.0.path().join(name);
    // An unused user id.
    let stranger = Some(61_234);
    chown(fleet_folder.0.path(), stranger, stranger).expect("the tests are run as root");
    fs::set_permissions(fleet_folder.0.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fleet_folder.warnings(), [""; 0]);
    for closed in ["hosts/a/closed", "bento-secrets/a/key", "fleet.toml"] {
        fs::set_permissions(path(closed), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let warnings = fleet_folder.warnings();
    let expected = [
        "bento-secrets/a/key: the owner",
        "fleet.toml: the owner",
        "hosts/a/closed: the owner",
    ];
    assert!(
        warnings.len() == 3
            && warnings
                .iter()
                .zip(expected)
                .all(|(line, begin)| line.starts_with(begin)),
        "{warnings:?}"
    );
    chown(path("hosts/a/closed"), stranger, stranger).unwrap();
    assert_eq!(
        fleet_folder.warnings().len(),
        2,
        "it can read its own files"
    );
    // In the kernel's format: the owner, that user, the group, the mask, others.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, who) in [
        (1_u16, u32::MAX),
        (2, 61_234),
        (4, u32::MAX),
        (0x10, u32::MAX),
        (0x20, u32::MAX),
    ] {
        list.extend([tag, 4].map(u16::to_le_bytes).concat());
        list.extend(who.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path("fleet.toml"), "system.posix_acl_access", &list, flags).unwrap();
    fs::set_permissions(path("fleet.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(
        fleet_folder.warnings().len(),
        1,
        "a list may grant more than the mode"
    );
}

#[test]
fn machines_of_a_2022_server_are_listed_with_advice() {
    let fleet_folder = TestFleet::new("[hosts.router]\n");
    fleet_folder.write("hosts/router/configuration.nix", "1");
    let desks = "nixosConfigurations.x1 = 1; nixosConfigurations.x12 = 1;";
    fleet_folder.write("hosts/desks/flake.nix", desks);
    fleet_folder.write("hosts/t470/configuration.nix", "1");
    let user = |name: &str, key: &str| format!("{{ username = \"{name}\"; key = \"{key}\"; }}\n");
    let users = [
        user("router", KEY),
        user("t470", &format!("{KEY} root@$(id)")),
        user("x1", KEY),
        user("Old_one", KEY),
        user("nas", "ssh-rsa AAAA root@nas"),
    ];
    let text = format!("users = [\n{}];\n", users.concat());
    fleet_folder.write("fleet.nix", &text);
    assert_eq!(
        fleet_folder.warnings(),
        [""; 0],
        "it is another kind of file"
    );
    fleet_folder.write(
        "fleet.nix",
        &format!("{text}users.groups.sftp_users = {{ }};"),
    );
    let name = "use 1 to 32 lower-case letters, digits and hyphens, with no hyphen at either end";
    assert_eq!(
        fleet_folder.warnings(),
        [
            format!(
                "fleet.nix:3: t470 isn't in fleet.toml: run `bento host add t470 --key \"{KEY}\"`"
            ),
            format!(
                "fleet.nix:4: x1 isn't in fleet.toml: run `bento host add x1 --key \"{KEY}\" --source hosts/desks`"
            ),
            format!(
                "fleet.nix:5: Old_one isn't in fleet.toml: \"Old_one\" can't be a machine's name: {name}; name it \
                 old-one instead, with attribute = \"Old_one\" in its table [hosts.old-one] of fleet.toml"
            ),
            "fleet.nix:6: nas isn't in fleet.toml: create an ed25519 key for it, and run `bento host add nas` with it"
                .into(),
        ]
    );
    fleet_folder.write("fleet.toml", "[server]\naddress = 1\n");
    let preview = Preview::make(fleet_folder.0.path(), &[]).unwrap();
    assert!(
        Findings::of(fleet_folder.0.path(), &preview)
            .warnings
            .is_empty()
    );
}

#[test]
fn advice_contains_no_folder_that_needs_quotes_in_a_shell() {
    let fleet_folder = TestFleet::new("");
    let user = format!("{{ username = \"x1\"; key = \"{KEY}\"; }} # sftp_users\n");
    fleet_folder.write("fleet.nix", &user);
    let flake = "nixosConfigurations.x1 = 1;";
    let expected =
        format!("fleet.nix:1: x1 isn't in fleet.toml: run `bento host add x1 --key \"{KEY}\"`");
    for folder in ["desks;id", "$(id)", "my desks", "-`id`"] {
        fleet_folder.write(&format!("hosts/{folder}/flake.nix"), flake);
        assert_eq!(fleet_folder.warnings(), [&*expected], "{folder}");
        fs::remove_dir_all(fleet_folder.0.path().join("hosts").join(folder)).unwrap();
    }
    // Opening it would block.
    let pipe = fleet_folder.0.path().join("hosts/pipe/flake.nix");
    fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(fleet_folder.warnings(), [&*expected]);
}

#[test]
fn a_machine_that_is_enrolled_under_another_name_is_found_by_its_key() {
    let fleet_folder = TestFleet::new(&format!("[hosts.nas]\nkeys = [\"{KEY}\"]\n"));
    fleet_folder.write("hosts/nas/configuration.nix", "1");
    let user = |name: &str| format!("{{ username = \"{name}\"; key = \"{KEY} root@NAS\"; }}\n");
    let group = "# sftp_users\n";
    fleet_folder.write("fleet.nix", &[&user("Old_NAS"), group].concat());
    assert_eq!(fleet_folder.warnings(), [""; 0]);
    let two = [&*user("Old_NAS"), &*user("Old_one"), group].concat();
    fleet_folder.write("fleet.nix", &two);
    assert_eq!(
        fleet_folder.warnings().len(),
        2,
        "the owner of the key is ambiguous"
    );
}
