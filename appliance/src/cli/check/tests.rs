use super::*;
use clap::Parser;

use crate::publication::Publications;
use crate::store::paths::State;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    check: CheckCommand,
}

fn check(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let line = ["check", "--fleet", folder.to_str().unwrap()]
        .into_iter()
        .chain(arguments.iter().copied());
    let mut output = Vec::new();
    let good = Line::parse_from(line).check.run(&mut output).unwrap();
    (good, String::from_utf8(output).unwrap())
}

#[test]
fn all_problems_are_printed_at_once_beside_the_other_machines() {
    let folder = tempfile::tempdir().unwrap();
    let fleet =
        "[server]\naddress = \"x\"\n[hosts.good]\n[hosts.missing]\n[hosts.odd]\nkyes = []\n";
    std::fs::write(folder.path().join("fleet.toml"), fleet).unwrap();
    std::fs::create_dir_all(folder.path().join("hosts/good")).unwrap();
    std::fs::write(folder.path().join("hosts/good/flake.nix"), "{}").unwrap();
    let (good, text) = check(folder.path(), &[]);
    assert!(!good);
    assert!(text.contains("good     generation "), "{text}");
    assert!(text.contains("missing  can't be published"), "{text}");
    assert!(
        text.contains("error: hosts/missing: missing: isn't there"),
        "{text}"
    );
    assert!(text.contains("error: fleet.toml:6: odd: "), "{text}");
    assert!(text.ends_with("2 errors.\n"), "{text}");
    let (good, text) = check(folder.path(), &["good", "--json"]);
    assert!(good);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["hosts"][0]["files"], 1);
}

/// Publishes a machine's generation of the preview.
fn publish(state: &State, preview: &Preview, host: &str) {
    let name = host.parse().unwrap();
    let host_preview = preview.machines[&name].as_ref().unwrap();
    let host = state.host(&name);
    std::fs::create_dir_all(host.root()).unwrap();
    let publications = Publications::of(&host);
    let gid = rustix::process::getgid().as_raw();
    let prepared = publications
        .stage(
            &host_preview.manifest,
            None,
            &host_preview.tree,
            &preview.folder,
            gid,
        )
        .unwrap();
    publications.switch(prepared).unwrap();
}

const SERVER: &str = "[server]\naddress = \"x\"\n";

fn fleet(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fleet.toml"), format!("{SERVER}{text}")).unwrap();
    folder
}

fn configure(folder: &Path, host: &str, text: &str) {
    let source = folder.join("hosts").join(host);
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("configuration.nix"), text).unwrap();
}

#[test]
fn changes_are_listed_by_machine_and_file() {
    let folder = fleet("[hosts.new]\n[hosts.old]\n[hosts.same]\npaused = true\n");
    for host in ["new", "old", "same"] {
        configure(folder.path(), host, "{ }");
    }
    let state = tempfile::tempdir().unwrap();
    let kept = State::new(state.path());
    let before = Preview::make(folder.path(), &[]).unwrap();
    for host in ["old", "same"] {
        publish(&kept, &before, host);
    }
    configure(folder.path(), "old", "{ changed = true; }");
    std::fs::write(folder.path().join("hosts/old/\u{202e}added"), "").unwrap();
    let arguments = ["--state", state.path().to_str().unwrap()];
    let (good, text) = check(folder.path(), &[&arguments[..], &["--verbose"]].concat());
    assert!(good, "{text}");
    let line = |host: &str| {
        text.lines()
            .find(|line| line.starts_with(host))
            .unwrap()
            .to_owned()
    };
    assert!(line("new ").contains("  first generation  "), "{text}");
    assert!(line("old ").contains("  1 new, 1 changed  "), "{text}");
    assert!(line("same ").contains("  unchanged  (paused"), "{text}");
    assert!(
        text.contains("\n    + config/\\u{202e}added\n    ~ config/configuration.nix\n"),
        "{text}"
    );
    let (_, text) = check(
        folder.path(),
        &[&arguments[..], &["--json", "old"]].concat(),
    );
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["changes"][0]["changed"][0], "config/configuration.nix");
    let (_, text) = check(
        folder.path(),
        &[&arguments[..], &["--json", "--offline"]].concat(),
    );
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        json["changes"].is_null() && json["unasked"].is_null(),
        "{json}"
    );
}

// Issue 10, line 42.
#[test]
fn unchanged_machines_share_one_line_and_growth_is_a_warning() {
    let mut hosts = String::new();
    let names: Vec<_> = (0..30).map(|number| format!("m{number:02}")).collect();
    for (number, name) in names.iter().enumerate() {
        let key = format!(
            "AAAAC3NzaC1lZDI1NTE5AAAAID{number:02}MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw"
        );
        hosts += &format!("[hosts.{name}]\nkeys = [\"ssh-ed25519 {key}\"]\n");
    }
    let folder = fleet(&hosts);
    for name in &names {
        configure(folder.path(), name, "{ }");
    }
    let state = tempfile::tempdir().unwrap();
    let before = Preview::make(folder.path(), &[]).unwrap();
    for name in &names {
        publish(&State::new(state.path()), &before, name);
    }
    let large = std::fs::File::create(folder.path().join("hosts/m07/disk.img")).unwrap();
    large.set_len(9 << 20).unwrap();
    let arguments = ["--state", state.path().to_str().unwrap()];
    let (good, text) = check(folder.path(), &arguments);
    assert!(good, "{text}");
    let machines: Vec<_> = text.lines().filter(|line| line.starts_with('m')).collect();
    assert!(
        machines.len() == 1 && machines[0].contains("2 files, 9.0 MiB  1 new"),
        "{text}"
    );
    assert!(
        text.contains("29 machines are unchanged: m00, m01, m02, m03, m04 and 24 more.\n"),
        "{text}"
    );
    let warning = "warning: m07: its generation would be 9.0 MiB, and the published one is 3 bytes; the largest parts are \
                config/disk.img (9.0 MiB) and config/configuration.nix (3 bytes): ";
    assert!(text.contains(warning), "{text}");
}

#[test]
fn a_removal_is_a_warning_unless_the_settings_are_faulty() {
    let folder = fleet("[hosts.kikimora]\n[hosts.pi]\n");
    for host in ["kikimora", "pi"] {
        configure(folder.path(), host, "{ }");
    }
    let state = tempfile::tempdir().unwrap();
    let preview = Preview::make(folder.path(), &[]).unwrap();
    for host in ["kikimora", "pi"] {
        publish(&State::new(state.path()), &preview, host);
    }
    let says = |text: &str| {
        let settings = format!("{SERVER}{text}");
        std::fs::write(folder.path().join("fleet.toml"), settings).unwrap();
        let arguments = ["--state", state.path().to_str().unwrap(), "kikimora"];
        check(folder.path(), &arguments).1
    };
    let removed = "warning: fleet.toml: pi: would be removed";
    let said = says("[hosts.kikimora]\n[hosts.pii]\n");
    assert!(said.contains(removed), "{said}");
    for text in [
        "[hosts.kikimora]\n[hosts.pi]\n",
        "[hosts.kikimora]\n[hosts.pi]\nkeys = [\"nonsense\"]\n",
    ] {
        let said = says(text);
        assert!(!said.contains("would be removed"), "{said}");
    }
}

#[test]
fn an_unreachable_appliance_is_one_line_and_the_rest_is_checked() {
    let folder = fleet("admin = [\"/nonexistent\"]\n[hosts.a]\n[hosts.missing]\n");
    configure(folder.path(), "a", "{ }");
    let (good, text) = check(folder.path(), &[]);
    assert!(!good);
    let said: Vec<_> = text
        .lines()
        .filter(|line| line.contains("Can't compare"))
        .collect();
    assert!(
        said.len() == 1 && said[0].contains("/nonexistent bento"),
        "{text}"
    );
    assert!(
        text.contains("error: hosts/missing: missing: isn't there"),
        "{text}"
    );
    let (_, text) = check(folder.path(), &["--offline"]);
    assert!(!text.contains("Can't compare"), "{text}");
}

#[test]
fn quiet_prints_nothing_and_strict_fails_on_warnings() {
    let folder = fleet("[hosts.a]\n");
    configure(folder.path(), "a", "./near.nix");
    std::fs::write(folder.path().join("hosts/a/near.nix"), "1").unwrap();
    assert_eq!(
        check(folder.path(), &["--quiet", "--strict"]),
        (true, String::new())
    );
    configure(folder.path(), "a", "../../far.nix");
    let (good, text) = check(folder.path(), &["--quiet"]);
    assert!(
        good && text.starts_with("warning: hosts/a/configuration.nix:1: "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
    assert!(!check(folder.path(), &["--strict"]).0);
    let (_, text) = check(folder.path(), &[]);
    assert!(text.ends_with("No errors, only warnings.\n"), "{text}");
}

#[test]
fn a_git_hook_checks_the_folder_and_ignores_the_variables_of_git() {
    const MARK: &str = "BENTO_TEST_IS_HOOK";
    if std::env::var_os(MARK).is_some() {
        assert!(std::env::var_os("GIT_INDEX_FILE").is_some());
        let folder = std::env::current_dir().unwrap().join("fleet");
        let (_, text) = check(&folder, &["--quiet", "--offline"]);
        return assert!(!text.contains("isn't tracked"), "{text}");
    }
    // Below the top of the checkout, because git's variables are relative to the top.
    let checkout = tempfile::tempdir().unwrap();
    let folder = checkout.path().join("fleet");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("fleet.toml"), format!("{SERVER}[hosts.a]\n")).unwrap();
    configure(&folder, "a", "{ }");
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["--git-dir", ".git", "--work-tree", "."]);
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
        let output = git
            .args(arguments)
            .current_dir(checkout.path())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert!(git(&["init", "-q"]).0);
    let hook = checkout.path().join(".git/hooks/pre-commit");
    // The hook is this test once more, in the environment that git gives it.
    let program = std::env::current_exe().unwrap();
    let test = "cli::check::tests::a_git_hook_checks_the_folder_and_ignores_the_variables_of_git";
    let text = format!(
        "#!/bin/sh\n{MARK}=1 exec {} --exact --nocapture {test} >&2\n",
        program.display()
    );
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, text).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(git(&["add", "fleet/fleet.toml"]).0);
    let (done, said) = git(&["commit", "-q", "-m", "x", "fleet/fleet.toml"]);
    assert!(
        !done && said.contains("hosts/a/configuration.nix: isn't tracked"),
        "{said}"
    );
    assert!(git(&["add", "fleet"]).0);
    let (done, said) = git(&["commit", "-q", "-m", "x", "-a"]);
    assert!(done, "{said}");
}
