use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";

/// A fleet folder.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new(hosts: &str) -> Self {
        let ground = Ground(tempfile::tempdir().unwrap());
        ground.write("fleet.toml", &format!("[server]\naddress = \"x\"\n{hosts}"));
        ground
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
fn a_path_is_judged_where_its_file_is_published() {
    let ground = Ground::new("[hosts.a]\n[hosts.b]\n");
    ground.write(
        "utils/common.nix",
        "[\n  ./near.nix ../modules/x.nix\n  ../configuration.nix ../../y.nix ../${z} ]",
    );
    ground.write("utils/near.nix", "1");
    ground.write("modules/x.nix", "1");
    ground.write("y.nix", "1");
    for host in ["a", "b"] {
        ground.link(&format!("hosts/{host}/utils"), "../../utils");
        ground.write(&format!("hosts/{host}/configuration.nix"), "./utils");
    }
    ground.write(
        "hosts/b/configuration.nix",
        "[ ./utils ../../${x}/y ./secret.nix ./nowhere.nix ]",
    );
    ground.write("hosts/b/secret.nix", "1");
    ground.write("hosts/b/.gitignore", "secret.nix\n");
    let warnings = ground.warnings();
    let told = [
        "hosts/b/configuration.nix:1: ../../ leads out of hosts/b, and only what is in there is published",
        "hosts/b/configuration.nix:1: ./nowhere.nix isn't there, and a build of b may need it",
        "hosts/b/configuration.nix:1: ./secret.nix isn't published",
        "hosts/b/secret.nix: a .gitignore names it, and without a .git here nobody can tell whether git tracks it",
        "utils/common.nix:2: ../modules/x.nix is here, but not where this file is published, as utils/common.nix of hosts/a",
        "utils/common.nix:2: ../modules/x.nix is here, but not where this file is published, as utils/common.nix of hosts/b",
        "utils/common.nix:3: ../../y.nix leads out of hosts/a, and only what is in there is published",
        "utils/common.nix:3: ../../y.nix leads out of hosts/b, and only what is in there is published",
    ];
    assert_eq!(begin(&warnings), told);
    assert!(warnings[1].ends_with("correct the path; `bento build --dry-run b` proves it"));
    assert!(
        warnings[2]
            .contains("`git add -f` of the file brings it back; or a line in a .bentoignore")
    );
    ground.write("hosts/b/.bentoignore", "!secret.nix\n");
    assert_eq!(begin(&ground.warnings()), [&told[..2], &told[4..]].concat());
    // One flake for many, each without the others' files.
    let ground = Ground::new("[hosts.a]\nsource = \".\"\nexclude = [\"/hosts/b\"]\n");
    ground.write("configuration.nix", "[ ./hosts/a/x.nix ./hosts/b/x.nix ]");
    ground.write("hosts/a/x.nix", "../../hosts/a");
    ground.write("hosts/b/x.nix", "1");
    assert_eq!(ground.warnings(), [""; 0]);
}

// Issue 10, line 3.
#[test]
fn a_path_is_followed_through_symlinks() {
    let ground = Ground::new("[hosts.a]\n");
    ground.write("hosts/a/pkgs/default.nix", "[ ./hello.nix ../lib ]");
    ground.write("hosts/a/pkgs/hello.nix", "1");
    ground.write("hosts/a/lib/default.nix", "1");
    ground.link(
        "hosts/a/common/overlays/default.nix",
        "../../pkgs/default.nix",
    );
    ground.link("hosts/a/common/pkgs", "../pkgs");
    ground.link("hosts/a/lost.nix", "gone.nix");
    ground.write(
        "hosts/a/configuration.nix",
        "[ ./common/overlays ./common/overlays/default.nix ./common/pkgs/hello.nix ./lost.nix ]",
    );
    assert_eq!(
        begin(&ground.warnings()),
        ["hosts/a/configuration.nix:1: ./lost.nix isn't there, and a build of a may need it"]
    );
    // The lock file, too, is looked at where it lies.
    let key = format!("[hosts.a]\nkeys = [\"{KEY}\"]\n");
    let ground = Ground::new(&key);
    ground.write("hosts/a/sub/flake.nix", "{ }");
    ground.write("hosts/a/sub/flake.lock", "no lock file");
    ground.link("hosts/a/flake.nix", "sub/flake.nix");
    ground.link("hosts/a/flake.lock", "sub/flake.lock");
    let warnings = ground.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("hosts/a/sub/flake.lock: isn't a lock"),
        "{warnings:?}"
    );
}

// Issue 10, line 3.
#[test]
fn a_symlink_that_only_narrowing_leaves_dangling_is_warned_of() {
    let ground =
        Ground::new("[hosts.a]\nexclude = [\"/private/\", \"*.secret\"]\ninclude = [\"y.nix\"]\n");
    ground.write("hosts/a/configuration.nix", "{ }");
    ground.write("hosts/a/private/x.nix", "1");
    ground.write("hosts/a/x.secret", "1");
    ground.write("hosts/a/.bentoignore", "/ignored\n");
    ground.write("hosts/a/ignored", "1");
    ground.link("hosts/a/file", "private/x.nix");
    ground.link("hosts/a/folder", "private");
    ground.link("hosts/a/sub/chain", "../one");
    ground.link("hosts/a/one", "x.secret");
    ground.link("hosts/a/fine", "configuration.nix");
    ground.link("hosts/a/gone", "nowhere");
    ground.link("hosts/a/unpublished", "ignored");
    let warnings = ground.warnings();
    let told = ["file", "folder", "one", "sub/chain"].map(|name| format!("hosts/a/{name}: "));
    assert_eq!(warnings.len(), told.len(), "{warnings:#?}");
    for (warning, place) in warnings.iter().zip(told) {
        assert!(
            warning.starts_with(&place) && warning.contains("include or exclude"),
            "{warning}"
        );
    }
}

// Issue 10, line 2.
#[test]
fn what_exclude_takes_is_missed_where_a_machine_s_own_file_names_it_or_what_that_imports() {
    let narrowed = |name: &str| {
        format!(
            "[hosts.{name}]\nsource = \".\"\nexclude = [\"/hosts/*\", \"/private\"]\ninclude = [\"/hosts/{name}\"]\n"
        )
    };
    let ground = Ground::new(&["a", "b", "c"].map(narrowed).concat());
    ground.write(
        "flake.nix",
        "[ ./hosts/a ./hosts/b ./hosts/c ./hosts/old ./private ]",
    );
    ground.write("flake.lock", r#"{"nodes": {}}"#);
    ground.write(
        "hosts/a/default.nix",
        "[\n ../b/packages.nix ../../modules/x.nix ../../modules/y.nix ]",
    );
    ground.write(
        "hosts/b/default.nix",
        "[ ./packages.nix ../../modules/y.nix ]",
    );
    ground.write("hosts/b/packages.nix", "1");
    ground.write(
        "hosts/c/default.nix",
        "[ ../../modules/x.nix (if builtins.pathExists ../b then ../b else 1) ]",
    );
    ground.write("modules/x.nix", "\n{ password = ../private/password; }");
    ground.write("modules/y.nix", "1");
    // What no machine's own file imports.
    ground.write("modules/unused.nix", "../private/password");
    ground.write("private/password", "1");
    let told = [
        "hosts/a/default.nix:2: ../b/packages.nix is kept back by exclude, and a build of a may need it: bring it back with \
         include; `bento build --dry-run a` proves it",
        "modules/x.nix:2: ../private/password is kept back by exclude, and a build of a, c may need it: bring it back with \
         include; `bento build --dry-run a` proves it",
    ];
    assert_eq!(ground.warnings(), told);
    // A role that not everybody gets is the own of those who do.
    let desk = |name: &str| format!("[hosts.{name}]\nsource = \".\"\nexclude = [\"/x\"]\n");
    let router = "[hosts.router]\nsource = \".\"\nexclude = [\"/x\", \"/desk\"]\n";
    let ground = Ground::new(&[&desk("a"), &desk("b"), router].concat());
    ground.write("flake.nix", "[ ./desk ./x/y.nix ]");
    ground.write("flake.lock", r#"{"nodes": {}}"#);
    ground.write("desk/default.nix", "../x/y.nix");
    ground.write("x/y.nix", "1");
    let warnings = ground.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with(
        "desk/default.nix:1: ../x/y.nix is kept back by exclude, and a build of a, b may"
    ));
}

// Issue 10, line 2.
#[test]
fn what_something_else_than_exclude_takes_is_told_however_narrow_the_source_is() {
    let ground = Ground::new("[hosts.a]\nsource = \".\"\nexclude = [\"/x\"]\n");
    ground.write("configuration.nix", "[ ./ignored.nix ./hosts/old.nix ]");
    ground.write("ignored.nix", "1");
    ground.write(".bentoignore", "ignored.nix\n");
    assert_eq!(
        begin(&ground.warnings()),
        ["configuration.nix:1: ./ignored.nix isn't published"]
    );
}

// Issue 10, line 8.
#[test]
fn what_git_has_in_a_file_s_place_is_told_with_how_to_get_the_file() {
    let ground = Ground::new("[hosts.a]\n[hosts.b]\n");
    for host in ["a", "b"] {
        ground.write(&format!("hosts/{host}/configuration.nix"), "{ }");
        ground.link(&format!("hosts/{host}/art"), "../../art");
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        ground.write(&format!("art/{name}"), pointer);
    }
    ground.write("art/e.png", "an image");
    ground.write("hosts/a/module/keys.nix", "\0GITCRYPT\0 and so on");
    ground.write("bento-secrets/b/key", "\0GITCRYPT\0 and so on");
    ground.write(
        ".gitmodules",
        "[submodule \"x\"]\n\tpath = hosts/a/lib\n\turl = x\n[submodule \"y\"]\n\tpath = docs\n",
    );
    for folder in ["hosts/a/lib", "docs"] {
        fs::create_dir(ground.0.path().join(folder)).unwrap();
    }
    let findings = Findings::of(ground.0.path(), &ground.preview());
    let told =
        |problems: &BTreeSet<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let unlock = "is locked by git-crypt, and machines would get it so: `git-crypt unlock` in this checkout unlocks it";
    let errors = ["bento-secrets/b/key: b", "hosts/a/module/keys.nix: a"]
        .map(|path| format!("{path}: {unlock}"));
    assert_eq!(told(&findings.errors), errors);
    let warnings = told(&findings.warnings);
    assert_eq!(
        warnings[..2],
        [
            "art: a.png, b.png, c.png and 1 more: each is a pointer of Git LFS, not the file itself: `git lfs pull` in this \
             checkout fetches it",
            "hosts/a/lib: is a submodule that isn't checked out, and machines would get nothing of it: `git submodule update \
             --init` in this checkout fetches it",
        ]
    );
}

// Issue 10, line 8.
#[test]
fn what_a_machine_can_not_fetch_and_the_revision_that_it_lacks_are_told() {
    let ground = Ground::new("[hosts.a]\n[hosts.b]\n");
    ground.write(
        "hosts/a/flake.nix",
        "{\n  inputs.x.url = \"git+ssh://git@example.org/x\";\n  outputs = { self, ... }: { a = self.rev; };\n}\n",
    );
    ground.write(
        "hosts/b/flake.nix",
        "{ inputs.x.url = \"git+ssh://git@example.org/x\"; }",
    );
    let locked = r#"{ "type": "git", "url": "ssh://git@example.org/x", "rev": "0" }"#;
    ground.write(
        "hosts/b/flake.lock",
        &format!("{{\n\"nodes\": {{ \"x\": {{ \"locked\": {locked} }} }}\n}}\n"),
    );
    let told = ground.warnings();
    let begun = [
        "hosts/a/flake.nix:2: git+ssh://git@example.org/x is fetched over SSH by each machine: give each machine's root a key",
        "hosts/a/flake.nix:3: self.rev: a machine builds the files, without git, and there this isn't: say what holds \
         without it, as in `self.rev or null`",
        "hosts/b/flake.lock:2: the input x is ssh://git@example.org/x, which each machine fetches over SSH: give each",
    ];
    assert_eq!(told.len(), begun.len(), "{told:?}");
    for (line, begun) in told.iter().zip(begun) {
        assert!(line.starts_with(begun), "{line}");
    }
}

// Issue 10, line 39.
#[test]
fn a_placeholder_is_told_once_a_machine_is_enrolled() {
    let text = "# github:OWNER/bento\n{ hostKeys = [ \"ssh-ed25519 AAAA…\" ]; }";
    let hosts = |keys: &str| format!("[server]\naddress = \"x\"\n[hosts.a]\nkeys = [{keys}]\n");
    let ground = Ground::new("");
    ground.write("hosts/a/configuration.nix", text);
    ground.write("fleet.toml", &hosts(""));
    assert_eq!(ground.warnings(), [""; 0]);
    ground.write("fleet.toml", &hosts(&format!("\"{KEY}\"")));
    assert_eq!(
        ground.warnings(),
        [
            "hosts/a/configuration.nix:1: OWNER/bento is a placeholder: put there where you have bento from",
            "hosts/a/configuration.nix:2: AAAA… is a placeholder: put the appliance's host key there: `bento host-key` prints \
             it",
        ]
    );
}

// Issue 10, line 39.
#[test]
fn what_is_not_nix_is_an_error_for_whom_it_stops_and_else_a_warning() {
    let ground = Ground::new(
        "[hosts.a]\nsource = \".\"\n[hosts.b]\nsource = \".\"\n[hosts.c]\nsource = \".\"\nattribute = \"C\"\n",
    );
    ground.write("flake.nix", "[ ./hosts/a ./hosts/b ./hosts/C ]");
    ground.write("flake.lock", r#"{"nodes": {}}"#);
    for host in ["a", "b", "C"] {
        ground.write(
            &format!("hosts/{host}/default.nix"),
            "{ imports = [ ./more.nix ]; }",
        );
        ground.write(&format!("hosts/{host}/more.nix"), "{ }");
    }
    ground.write("hosts/b/more.nix", "{\n  a = 1\n}\n");
    ground.write("hosts/C/more.nix", "{ a = [ 1, 2 ]; }");
    ground.write("hosts/b/unused.nix", "{ a = ");
    ground.write("broken/on-purpose.nix", "}");
    let findings = Findings::of(ground.0.path(), &ground.preview());
    let told =
        |problems: &BTreeSet<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let advice = "correct it: what imports it can't be built";
    assert_eq!(
        told(&findings.errors),
        [
            format!(
                "hosts/C/more.nix:1:10: c: isn't Nix: a value is expected, and `,` is there: {advice}"
            ),
            format!(
                "hosts/b/more.nix:3:1: b: isn't Nix: `;` is expected, and `}}` is there: {advice}"
            ),
        ]
    );
    assert_eq!(
        begin(&told(&findings.warnings)),
        [
            "broken/on-purpose.nix:1:1: isn't Nix",
            "hosts/b/unused.nix:1:6: isn't Nix"
        ]
    );
}

#[test]
fn a_flake_that_a_machine_builds_is_to_be_locked() {
    let ground = Ground::new(&format!("[hosts.a]\n[hosts.b]\nkeys = [\"{KEY}\"]\n"));
    for host in ["a", "b"] {
        ground.write(&format!("hosts/{host}/flake.nix"), "{ }");
    }
    let warnings = ground.warnings();
    assert_eq!(
        begin(&warnings).len(),
        1,
        "a is an example yet: {warnings:?}"
    );
    assert!(
        warnings[0].starts_with("hosts/b/flake.nix: has no flake.lock"),
        "{warnings:?}"
    );
    ground.write(
        "hosts/b/flake.lock",
        r#"{"nodes": {"root": {}}, "root": "root", "version": 7}"#,
    );
    assert_eq!(ground.warnings(), [""; 0]);
    ground.write(
        "hosts/b/flake.lock",
        r#"{"nodes": {"x": {"locked": {"type": "path", "path": "/x"}}}}"#,
    );
    assert!(ground.warnings()[0].starts_with("hosts/b/flake.lock:1: the input x is /x"));
}

#[test]
fn what_git_does_not_track_is_told_and_what_it_ignores_is_not_published() {
    let ground = Ground::new("[hosts.a]\n");
    ground.write("hosts/a/configuration.nix", "1");
    ground.write("utils/x.nix", "1");
    ground.link("hosts/a/utils", "../../utils");
    ground.write("bento-secrets/a/key", "1");
    assert_eq!(ground.warnings(), [""; 0], "no checkout, no git");
    ground.git(&["init", "-q"]);
    let warnings = ground.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("hosts/a/configuration.nix: isn't tracked by git"),
        "{warnings:?}"
    );
    assert!(warnings[1].starts_with("utils/x.nix: "), "{warnings:?}");
    ground.git(&["add", "utils", "hosts/a/configuration.nix"]);
    let warnings = ground.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("hosts/a/utils: isn't"),
        "{warnings:?}"
    );
    ground.git(&["add", "hosts"]);
    assert_eq!(ground.warnings(), [""; 0]);
    for name in ["1", "2", "3", "4", "ignored"] {
        ground.write(&format!("hosts/a/{name}"), "1");
    }
    ground.write(".gitignore", "ignored\n");
    let warnings = ground.warnings();
    assert!(
        warnings.len() == 1
            && warnings[0].starts_with("hosts/a: git doesn't track 1, 2, 3 and 1 more"),
        "{warnings:?}"
    );
}

#[test]
fn what_machines_see_of_each_other_is_told_once_a_folder() {
    let desk = "source = \"hosts/desks\"\n";
    let ground = Ground::new(&format!(
        "[hosts.alice]\n{desk}[hosts.bob]\n{desk}[hosts.carol]\n[hosts.dave]\n"
    ));
    for file in [
        "desks/flake.nix",
        "desks/b.nix",
        "carol/flake.nix",
        "dave/flake.nix",
    ] {
        ground.write(&format!("hosts/{file}"), "1");
    }
    let desks = "alice and bob both get hosts/desks, 2 files";
    assert_eq!(ground.shared(), [desks]);
    ground.link("hosts/dave/carol", "../carol");
    assert_eq!(
        ground.shared(),
        ["dave gets hosts/carol, which is carol's", desks]
    );
    let of_alice = Preview::make(ground.0.path(), &["alice".parse().unwrap()]).unwrap();
    let others = shared(&of_alice)[0].machines.len();
    assert_eq!(others, 2, "also those that weren't asked about");
}

// Issue 10, line 5.
#[test]
fn what_is_called_like_another_machine_is_named_be_it_a_file_or_a_folder() {
    let whole = |name: &str| format!("[hosts.{name}]\nsource = \".\"\n");
    let ground = Ground::new(&["a", "b", "c"].map(whole).concat());
    for path in [
        "flake.nix",
        "modules/x.nix",
        "modules/y.nix",
        "modules/z.nix",
        "hosts/b.yml",
    ] {
        ground.write(path, "1");
    }
    assert_eq!(ground.shared(), ["a and c get hosts/b.yml, which is b's"]);
    for path in [
        "hosts/a.nix",
        "hosts/c/default.nix",
        "hosts/c/x.nix",
        "secrets/a.yaml",
        "users/a/x",
        "users/b/x",
    ] {
        ground.write(path, "1");
    }
    assert_eq!(
        ground.shared(),
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
    let ground = Ground::new(&[narrowed("a", "A"), narrowed("b", "B")].concat());
    for path in ["flake.nix", "hosts/A.nix", "hosts/B.nix", "secrets/B.yml"] {
        ground.write(path, "1");
    }
    assert_eq!(ground.shared(), ["a gets secrets/B.yml, which is b's"]);
}

#[test]
fn what_the_owner_of_the_folder_can_not_read_is_told_to_root() {
    let ground = Ground::new("[hosts.a]\n");
    ground.write("hosts/a/configuration.nix", "1");
    ground.write("hosts/a/closed/x.nix", "1");
    ground.write("bento-secrets/a/key", "1");
    let path = |name: &str| ground.0.path().join(name);
    // Nobody has this number.
    let stranger = Some(61_234);
    chown(ground.0.path(), stranger, stranger).expect("the tests are run as root");
    fs::set_permissions(ground.0.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(ground.warnings(), [""; 0]);
    for closed in ["hosts/a/closed", "bento-secrets/a/key", "fleet.toml"] {
        fs::set_permissions(path(closed), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let warnings = ground.warnings();
    let told = [
        "bento-secrets/a/key: 61234",
        "fleet.toml: 61234",
        "hosts/a/closed: 61234",
    ];
    assert!(
        warnings.len() == 3
            && warnings
                .iter()
                .zip(told)
                .all(|(line, told)| line.starts_with(told)),
        "{warnings:?}"
    );
    chown(path("hosts/a/closed"), stranger, stranger).unwrap();
    assert_eq!(ground.warnings().len(), 2, "what is its own it can read");
    // As the kernel keeps it: the owner, that user, the group, the mask, others.
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
        ground.warnings().len(),
        1,
        "a list may grant what the mode doesn't"
    );
}

#[test]
fn whoever_a_server_of_2022_serves_and_the_fleet_does_not_know_is_named_with_how_to_enrol_it() {
    let ground = Ground::new("[hosts.router]\n");
    ground.write("hosts/router/configuration.nix", "1");
    let desks = "nixosConfigurations.x1 = 1; nixosConfigurations.x12 = 1;";
    ground.write("hosts/desks/flake.nix", desks);
    ground.write("hosts/t470/configuration.nix", "1");
    let user = |name: &str, key: &str| format!("{{ username = \"{name}\"; key = \"{key}\"; }}\n");
    let users = [
        user("router", KEY),
        user("t470", &format!("{KEY} root@$(id)")),
        user("x1", KEY),
        user("Old_one", KEY),
        user("nas", "ssh-rsa AAAA root@nas"),
    ];
    let text = format!("users = [\n{}];\n", users.concat());
    ground.write("fleet.nix", &text);
    assert_eq!(ground.warnings(), [""; 0], "that is something else");
    ground.write(
        "fleet.nix",
        &format!("{text}users.groups.sftp_users = {{ }};"),
    );
    let name = "use 1 to 32 lower-case letters, digits and hyphens, with no hyphen at either end";
    assert_eq!(
        ground.warnings(),
        [
            format!(
                "fleet.nix:3: t470 isn't in fleet.toml: `bento host add t470 --key \"{KEY}\"` enrols it"
            ),
            format!(
                "fleet.nix:4: x1 isn't in fleet.toml: `bento host add x1 --key \"{KEY}\" --source hosts/desks` enrols it"
            ),
            format!(
                "fleet.nix:5: Old_one isn't in fleet.toml: \"Old_one\" can't be a machine's name: {name}; call it \
                 old-one and say attribute = \"Old_one\" in [hosts.old-one] of fleet.toml"
            ),
            "fleet.nix:6: nas isn't in fleet.toml: it needs an ed25519 key, with which `bento host add nas` enrols it"
                .into(),
        ]
    );
    ground.write("fleet.toml", "[server]\naddress = 1\n");
    let preview = Preview::make(ground.0.path(), &[]).unwrap();
    assert!(Findings::of(ground.0.path(), &preview).warnings.is_empty());
}

#[test]
fn what_is_to_be_pasted_names_no_folder_that_a_shell_would_read_otherwise() {
    let ground = Ground::new("");
    let user = format!("{{ username = \"x1\"; key = \"{KEY}\"; }} # sftp_users\n");
    ground.write("fleet.nix", &user);
    let flake = "nixosConfigurations.x1 = 1;";
    let told = format!(
        "fleet.nix:1: x1 isn't in fleet.toml: `bento host add x1 --key \"{KEY}\"` enrols it"
    );
    for folder in ["desks;id", "$(id)", "my desks", "-`id`"] {
        ground.write(&format!("hosts/{folder}/flake.nix"), flake);
        assert_eq!(ground.warnings(), [&*told], "{folder}");
        fs::remove_dir_all(ground.0.path().join("hosts").join(folder)).unwrap();
    }
    // It would hold up whoever opens it.
    let pipe = ground.0.path().join("hosts/pipe/flake.nix");
    fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(ground.warnings(), [&*told]);
}

#[test]
fn whoever_is_enrolled_under_another_name_is_known_by_the_key() {
    let ground = Ground::new(&format!("[hosts.nas]\nkeys = [\"{KEY}\"]\n"));
    ground.write("hosts/nas/configuration.nix", "1");
    let user = |name: &str| format!("{{ username = \"{name}\"; key = \"{KEY} root@NAS\"; }}\n");
    let group = "# sftp_users\n";
    ground.write("fleet.nix", &[&user("Old_NAS"), group].concat());
    assert_eq!(ground.warnings(), [""; 0]);
    let two = [&*user("Old_NAS"), &*user("Old_one"), group].concat();
    ground.write("fleet.nix", &two);
    assert_eq!(ground.warnings().len(), 2, "whose it is isn't known");
}
