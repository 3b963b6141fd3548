use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use bento_tests::process::Output;

use crate::env::BuildEnv;

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
    let env = BuildEnv::new(&["first"]);
    let (begun, go_on) = (env.path("builder"), env.path("go-on"));
    let script = format!(
        "echo > {}; while ! test -e {}; do sleep 0.05; done",
        begun.display(),
        go_on.display()
    );
    env.flake("first", &script);
    let child = env
        .environment("nohup")
        .args([env!("CARGO_BIN_EXE_bento"), "build"])
        .current_dir(env.fleet())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    await_that(|| begun.exists());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP).unwrap();
    fs::write(go_on, "").unwrap();
    let ended = Output::from(child.wait_with_output().unwrap());
    ended.with(0).saying("1 built.");
    assert!(env.record("first").is_some());
}

#[test]
fn an_interruption_leaves_no_program_no_folder_and_no_record() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let env = BuildEnv::new(&["first", "second"]);
        let begun = env.path("builder");
        env.flake(
            "first",
            &format!("echo $$ > {}; sleep 1000", begun.display()),
        );
        env.flake("second", ":");
        // A shell starts background programs with INT ignored.
        let child = env
            .environment("env")
            .args(["--default-signal=INT", "--default-signal=TERM"])
            .args([env!("CARGO_BIN_EXE_bento"), "build", "--jobs", "1"])
            .current_dir(env.fleet())
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
        let ended = Output::from(child.wait_with_output().unwrap());
        ended.with(130).saying("2 interrupted.");
        await_that(|| kill(builder, None).is_err());
        assert_eq!(env.record("first"), None);
        assert_eq!(env.record("second"), None);
        assert_eq!(env.leftovers(), [""; 0]);
    }
}
