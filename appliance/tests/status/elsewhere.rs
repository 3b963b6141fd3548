//! An appliance that is reached by the command of `[server] admin`. Here that is a shell script, which runs the same
//! binary on a state, as ssh and podman do.

use std::fs;
use std::path::{Path, PathBuf};

use bento_protocol::Outcome;
use bento_tests::{files, wait};
use serde_json::Value;

use crate::command::{BENTO, here, run, there};
use crate::place::Place;
use crate::terminal::Terminal;

/// A fleet folder whose administrator's command is this script; its arguments are `bento status …`.
fn fleet(place: &Place, script: &str) -> PathBuf {
    let folder = place.path("checkout");
    let path = place.path("admin.sh");
    files::write(&path, script).unwrap();
    let admin = serde_json::to_string(&["sh", path.to_str().unwrap()]).unwrap();
    let toml = format!("[server]\naddress = \"bento.example.org\"\nadmin = {admin}\n");
    files::write(&folder.join("fleet.toml"), &toml).unwrap();
    folder
}

/// The command that runs `bento` there.
fn bento(place: &Place) -> String {
    let (state, runtime) = (place.state.root(), place.runtime.root());
    let (state, runtime) = (state.display(), runtime.display());
    format!("shift; {BENTO} \"$@\" --state {state} --runtime {runtime}")
}

fn place() -> Place {
    let place = Place::new(&["domovoi", "kikimora"]);
    place.publish("domovoi", "{ }");
    place.publish("kikimora", "{ }");
    place.report("kikimora", Outcome::BuildFailed);
    place
}

#[test]
fn it_says_the_same_as_there() {
    let place = place();
    let folder = fleet(&place, &bento(&place));
    place.set_problems(r#"[{"place": "hosts/domovoi/x", "host": "domovoi", "what": "is a FIFO", "advice": "remove it"}]"#);
    for arguments in [&[][..], &["--problems"], &["kikimora"], &["--exit-code"]] {
        let arguments = || arguments.iter().copied();
        let from_here = run(there(&folder, arguments()));
        assert_eq!(from_here, run(here(&place, arguments())));
    }
    let json = |(text, _, _): (String, String, i32)| {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json.as_object_mut().unwrap().remove("at");
        json
    };
    assert_eq!(
        json(run(there(&folder, ["--json"]))),
        json(run(here(&place, ["--json"])))
    );
    let (_, errors, code) = run(there(&folder, ["vodyanoy"]));
    assert!(
        code == 1 && errors.contains("no machine vodyanoy"),
        "{errors}"
    );
}

// Issue 10, line 41.
#[test]
fn a_slip_in_fleet_toml_is_a_problem_and_hides_no_machine() {
    let place = place();
    let folder = fleet(&place, &bento(&place));
    let file = folder.join("fleet.toml");
    let good = fs::read_to_string(&file).unwrap();
    let (all, ..) = run(here(&place, []));
    let slips = [
        (format!("{good}[hosts.kikimora\n"), "fleet.toml:4"),
        (format!("{good}port = \"x\"\n"), "fleet.toml:4"),
        (format!("{good}port = \n[hosts.kikimora]\n"), "fleet.toml:4"),
        (format!("[hosts.a]]\n{good}"), "fleet.toml:1"),
        (format!("{good}[host.kikimora]\n"), "fleet.toml:4"),
        // In as many lines as somebody likes.
        (
            good.replace("[\"sh\", ", "[\n\"sh\",\n") + "=\n",
            "fleet.toml:",
        ),
    ];
    for (slip, expected) in slips {
        files::write(&file, &slip).unwrap();
        let (text, errors, code) = run(there(&folder, []));
        assert_eq!(code, 0, "{slip}: {errors}");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with(expected), "{slip}: {text}");
        assert!(text.ends_with(&all), "{slip}: {text}");
        let (json, ..) = run(there(&folder, ["--json"]));
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["problems"][0], first, "{json}");
        assert_eq!(json["hosts"].as_array().unwrap().len(), 2);
        let (_, _, code) = run(there(&folder, ["--exit-code"]));
        assert_eq!(code, 1, "there is a problem");
    }
}

#[test]
fn errors_of_the_administrators_command_are_printed() {
    let place = place();
    let ask = |script: &str| run(there(&fleet(&place, script), []));
    let (_, errors, code) = ask("echo 'ssh: no route to host' >&2; exit 255");
    assert_eq!(code, 1);
    assert!(
        errors.starts_with("ssh: no route to host\nbento: can't reach the appliance: `sh "),
        "{errors}"
    );
    assert!(errors.contains("exit status: 255"), "{errors}");
    let (_, errors, code) = ask("echo hello");
    assert!(
        code == 1 && errors.contains("is it the same version of bento?"),
        "{errors}"
    );
    let silent = fleet(&place, "");
    let toml = "[server]\naddress = \"bento.example.org\"\n";
    files::write(&silent.join("fleet.toml"), toml).unwrap();
    let (_, errors, code) = run(there(&silent, []));
    assert!(
        code == 1 && errors.contains("[server] has no `admin`"),
        "{errors}"
    );
}

#[test]
fn a_newer_appliance_is_understood_as_far_as_possible() {
    let place = place();
    let (json, _, _) = run(here(&place, ["--json"]));
    let mut newer: Value = serde_json::from_str(&json).unwrap();
    newer["weather"] = "fine".into();
    newer["hosts"][0]["mood"] = "good".into();
    let script = |json: &Value| format!("cat <<'END'\n{json}\nEND\n");
    let (text, _, code) = run(there(&fleet(&place, &script(&newer)), []));
    assert_eq!((text.lines().count(), code), (3, 0), "{text}");
    newer["hosts"][0]["state"] = "dreaming".into();
    let (_, errors, code) = run(there(&fleet(&place, &script(&newer)), []));
    assert!(
        code == 1 && errors.contains("unknown variant `dreaming`"),
        "{errors}"
    );
}

#[test]
fn watching_from_elsewhere_leaves_no_process_behind() {
    let place = place();
    let id = place.path("id");
    let script = bento(&place).replace(
        "shift; ",
        &format!("shift; echo $$ >{}; exec ", id.display()),
    );
    let folder = fleet(&place, &script);
    let mut terminal = Terminal::run(&there(&folder, ["--watch"]), 100, 20);
    terminal.until_shows("✗ failing");
    place.report("kikimora", Outcome::Switched);
    terminal.until_shows("✓ up-to-date");
    terminal.press("q");
    assert_eq!(terminal.end().code, Some(0));
    let id = fs::read_to_string(id).unwrap();
    let process = Path::new("/proc").join(id.trim());
    wait::expect("nothing runs there", || (!process.exists()).then_some(()));
}

#[test]
fn when_the_other_side_hangs_up_it_says_why_on_the_terminal_as_it_was() {
    let place = place();
    let go = place.path("go");
    let script = |end: &str| {
        let once = bento(&place).replace("\"$@\"", "status --json");
        let go = go.display();
        format!("{once}; while ! [ -e {go} ]; do sleep 0.01; done; {end}")
    };
    for (end, said) in [
        (
            "echo 'client_loop: broken pipe' >&2; exit 255",
            "exit status: 255: client_loop: broken pipe",
        ),
        ("kill -KILL $$", "signal: 9 (SIGKILL)"),
        ("exec cat /dev/null", "exit status: 0"),
        ("printf '{\"format\":'; exit", "exit status: 0"),
        ("echo garbage; sleep 60", "printed an unknown document"),
    ] {
        let folder = fleet(&place, &script(end));
        let mut terminal = Terminal::run(&there(&folder, ["--watch"]), 100, 20);
        terminal.until_shows("failing");
        fs::write(&go, "").unwrap();
        let left = terminal.end();
        assert_eq!(left.code, Some(1), "{end}");
        assert!(
            left.after.starts_with("bento: can't reach the appliance"),
            "{}",
            left.after
        );
        assert!(left.after.contains(said), "{end}: {}", left.after);
        fs::remove_file(&go).unwrap();
    }
    // What never begins leaves the terminal alone.
    let folder = fleet(&place, "echo 'no route' >&2; exit 255");
    let left = Terminal::run(&there(&folder, ["--watch"]), 100, 20).end();
    assert!(
        left.code == Some(1) && left.after.contains("255: no route"),
        "{}",
        left.after
    );
}
