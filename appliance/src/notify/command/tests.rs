use std::fs;
use std::thread;
use std::time::Instant;

use jiff::Timestamp;
use rustix::process::test_kill_process;

use super::*;
use crate::fixture::script;

const GENEROUS: Duration = Duration::from_secs(60);

fn message() -> Message {
    Message::test(None, Timestamp::UNIX_EPOCH)
}

#[test]
fn it_gets_the_message_on_its_input_and_in_its_environment_without_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = script(
        folder.path(),
        r#"cat >"$1/input"; printf %s "$BENTO_TEXT" >"$1/text"; printf %s "$2" >"$1/argument"; echo done; echo >&2 twice"#,
    );
    command.push("$(touch x); 'a\" b".to_owned());
    let came_back = run(&command, &message(), GENEROUS, &Exits::default()).unwrap();
    assert_eq!(came_back, "ended with exit status: 0: done twice");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("input").into_bytes(), message().json());
    assert_eq!(read("text"), message().text);
    assert_eq!(read("argument"), command[2]);
}

#[test]
fn a_failure_says_what_the_command_said_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let command = script(folder.path(), "seq 100000; echo no luck >&2; exit 3");
    let error = run(&command, &message(), GENEROUS, &Exits::default()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("/notify ended with exit status: 3: "),
        "{error}"
    );
    assert!(error.ends_with("99999 100000 no luck"), "{error}");
    assert!(error.chars().count() < 500, "{error}");

    let error = run(
        &["/nowhere/notify".into()],
        &message(),
        GENEROUS,
        &Exits::default(),
    );
    let error = format!("{:#}", error.unwrap_err());
    assert!(
        error.contains("/nowhere/notify can't be run: ") && error.contains("mount one"),
        "{error}"
    );
}

#[test]
fn one_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let command = script(
        folder.path(),
        r#"sleep 1000 & echo $! >"$1/child"; trap '' TERM HUP INT; echo started; wait"#,
    );
    let error = run(
        &command,
        &message(),
        Duration::from_secs(2),
        &Exits::default(),
    )
    .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("took longer than 2 s and was killed: started; "),
        "{error}"
    );
    let child = fs::read_to_string(folder.path().join("child")).unwrap();
    let child = Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    // It dies a moment after it was killed, and may still wait for somebody to reap it.
    let is_gone = || {
        let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        test_kill_process(child).is_err() || state.contains(") Z ")
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_gone() {
        assert!(Instant::now() < deadline, "{child} still runs");
        thread::sleep(Duration::from_millis(20));
    }
}
