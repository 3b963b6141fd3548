//! The ends of children are known also where another thread reaps, as the first process of a container must. The only
//! test of its process: it takes the children of every other one away.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bento_appliance::sshd::{Exits, reap};

#[test]
fn every_end_is_known_whoever_reaps() {
    let exits = Arc::new(Exits::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let reaper = {
        let (exits, is_over) = (Arc::clone(&exits), Arc::clone(&is_over));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                exits.note(&reap());
            }
        })
    };
    for code in 0..100 {
        let mut shell = Command::new("sh");
        let end = if code == 99 {
            "kill -9 $$".into()
        } else {
            format!("exit {code}")
        };
        let mut child = exits
            .spawn(shell.args(["-c", &end]))
            .expect("there is a shell");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = exits.ended(&mut child).expect("the kernel tells") {
                break status;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "its end was never known"
            );
            thread::sleep(Duration::from_millis(1));
        };
        let expected = if code == 99 {
            (None, Some(9))
        } else {
            (Some(code), None)
        };
        assert_eq!((status.code(), status.signal()), expected);
    }
    is_over.store(true, Ordering::Relaxed);
    reaper.join().expect("it doesn't panic");
}
