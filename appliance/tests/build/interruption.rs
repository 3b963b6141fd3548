use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ground::{Ended, Ground};

/// Waits for a condition.
fn await_that(mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < deadline, "it never came");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signal_that_was_ignored_at_the_start_ends_nothing() {
    let ground = Ground::new(&["first"]);
    let (begun, go_on) = (ground.path("builder"), ground.path("go-on"));
    let script = format!(
        "echo > {}; while ! test -e {}; do sleep 0.05; done",
        begun.display(),
        go_on.display()
    );
    ground.flake("first", &script);
    let child = ground
        .environment("nohup")
        .args([env!("CARGO_BIN_EXE_bento"), "build"])
        .current_dir(ground.fleet())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    await_that(|| begun.exists());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP).unwrap();
    fs::write(go_on, "").unwrap();
    let ended = Ended::of(child.wait_with_output().unwrap());
    ended.with(0).saying("1 built.");
    assert!(ground.record("first").is_some());
}

#[test]
fn an_interruption_leaves_no_program_no_folder_and_no_record() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let ground = Ground::new(&["first", "second"]);
        let begun = ground.path("builder");
        ground.flake(
            "first",
            &format!("echo $$ > {}; sleep 1000", begun.display()),
        );
        ground.flake("second", ":");
        // A shell starts background programs with INT ignored.
        let child = ground
            .environment("env")
            .args(["--default-signal=INT", "--default-signal=TERM"])
            .args([env!("CARGO_BIN_EXE_bento"), "build", "--jobs", "1"])
            .current_dir(ground.fleet())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let builder = || fs::read_to_string(&begun).ok()?.trim().parse::<i32>().ok();
        await_that(|| builder().is_some());
        let builder = Pid::from_raw(builder().unwrap());
        assert!(kill(builder, None).is_ok());
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let ended = Ended::of(child.wait_with_output().unwrap());
        ended.with(130).saying("2 interrupted.");
        await_that(|| kill(builder, None).is_err());
        assert_eq!(ground.record("first"), None);
        assert_eq!(ground.record("second"), None);
        assert_eq!(ground.leftovers(), [""; 0]);
    }
}
