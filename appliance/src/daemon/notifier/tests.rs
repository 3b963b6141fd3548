use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use bento_protocol::Outcome;
use serde_json::{Value, json};

use super::*;
use crate::fixture::Kept;
use crate::fixture::webhook::{Answer, WebhookReceiver};
use crate::problem::Problem;
use crate::publication::published::Published;
use crate::report::fixture::{failure, generation, report, second};

const OK: Answer = Answer::With("200 OK", "");
/// The longest wait; a test that works never reaches it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A notifier at work.
struct Running {
    wakeups: Sender<()>,
    problems: Arc<Problems>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(kept: &Kept) -> Self {
        let problems = Arc::new(Problems::new(&kept.runtime));
        let (state, runtime) = (kept.state.clone(), kept.runtime.clone());
        let mut notifier = Notifier::new(state, runtime, Arc::clone(&problems));
        notifier.timing = Timing {
            retry_delays: [Duration::from_millis(100); 3],
            quiet: Duration::ZERO,
        };
        notifier.pause = Duration::from_millis(20);
        notifier.silence_counts_from = Instant::now();
        let (wakeups, received) = channel();
        Running {
            wakeups,
            problems,
            thread: thread::spawn(move || notifier.run(&received)),
        }
    }

    fn wake(&self) {
        self.wakeups.send(()).unwrap();
    }

    /// Ends it, after everything pending.
    fn stop(self) -> Arc<Problems> {
        drop(self.wakeups);
        self.thread.join().unwrap();
        self.problems
    }
}

/// A fleet of two machines that are up to date, and these settings.
fn kept(notify: &str) -> Kept {
    let kept = Kept::new(&format!(
        "[notify]\n{notify}\n[defaults]\nsilent_after = \"36500d\"\n[hosts.a]\n[hosts.b]\n"
    ));
    for name in ["a", "b"] {
        kept.publish(name, &Published::new(generation('a'), second(5)));
        turn_good(&kept, name);
    }
    kept
}

fn turn_bad(kept: &Kept, name: &str) {
    kept.report(
        name,
        &[report('0'), failure('a', Outcome::BuildFailed, '0')],
    );
}

fn turn_good(kept: &Kept, name: &str) {
    kept.report(name, &[report('a')]);
}

/// The machine of the next notification, and whether it is bad.
fn next(listener: &WebhookReceiver) -> (Value, Value) {
    let mut message = listener.next().json();
    (message["machine"].take(), message["bad"].take())
}

fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = check() {
            return seen;
        }
        assert!(began.elapsed() < TIMEOUT, "{what}: timeout");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_change_is_sent_once_also_across_a_restart() {
    let listener = WebhookReceiver::open(OK);
    let kept = kept(&format!("webhook = \"http://{}/\"", listener.address));
    let running = Running::start(&kept);
    turn_bad(&kept, "a");
    running.wake();
    let message = listener.next().json();
    assert_eq!(
        (
            &message["machine"],
            &message["state"],
            &message["bad"],
            &message["error"]
        ),
        (
            &json!("a"),
            &json!("failing"),
            &json!(true),
            &json!("build_failed: no luck")
        )
    );
    running.stop();

    let running = Running::start(&kept);
    turn_bad(&kept, "b");
    running.wake();
    assert_eq!(
        next(&listener),
        (json!("b"), json!(true)),
        "and not a again"
    );
    turn_good(&kept, "a");
    running.wake();
    assert_eq!(next(&listener), (json!("a"), json!(false)));
    kept.set_problems(&[Problem::new("fleet.toml:3", "is wrong", "mend it")]);
    running.wake();
    let message = listener.next().json();
    assert_eq!(
        (&message["machine"], &message["state"], &message["error"]),
        (
            &Value::Null,
            &json!("faulty"),
            &json!("fleet.toml:3: is wrong: mend it")
        )
    );
    kept.set_problems(&[]);
    running.wake();
    assert_eq!(next(&listener), (Value::Null, json!(false)));
    running.wake();
    running.stop();
    assert_eq!(listener.count(), 0);
}

#[test]
fn a_webhook_that_hangs_is_given_up_and_later_gets_only_the_last_condition() {
    let listener = WebhookReceiver::open(Answer::Never);
    let kept = kept(&format!(
        "webhook = \"http://{}/\"\ntimeout = \"1s\"",
        listener.address
    ));
    turn_bad(&kept, "a");
    let running = Running::start(&kept);
    for _ in 0..4 {
        assert_eq!(next(&listener), (json!("a"), json!(true)));
    }
    let notified: LastSentFile = until("the webhook to be given up", || {
        let is_last = running
            .problems
            .counters
            .snapshot(Timestamp::now(), Default::default(), 0)
            .failed_notifications
            == 4;
        is_last.then(|| atomic_file::read_json(&kept.state.notified()).unwrap())?
    });
    let failure = notified.webhook.failure.unwrap();
    assert!(
        failure.error.contains("hasn't answered within 1 s"),
        "{failure:?}"
    );

    listener.set(OK);
    turn_good(&kept, "a");
    turn_bad(&kept, "b");
    running.wake();
    assert_eq!(
        next(&listener),
        (json!("b"), json!(true)),
        "nothing bad about a was delivered"
    );
    running.stop();
    assert_eq!(listener.count(), 0);
}

#[test]
fn other_settings_are_in_force_at_once() {
    let (first, second) = (WebhookReceiver::open(OK), WebhookReceiver::open(OK));
    let kept = kept(&format!("webhook = \"http://{}/\"", first.address));
    turn_bad(&kept, "a");
    let running = Running::start(&kept);
    assert_eq!(next(&first), (json!("a"), json!(true)));
    kept.set(&format!(
        "[notify]\nwebhook = \"http://{}/\"\n[hosts.b]\n",
        second.address
    ));
    turn_bad(&kept, "b");
    running.wake();
    assert_eq!(next(&second), (json!("b"), json!(true)));
    running.stop();
    let notified: LastSentFile = atomic_file::read_json(&kept.state.notified())
        .unwrap()
        .unwrap();
    assert!(
        !notified
            .webhook
            .machines
            .contains_key(&"a".parse().unwrap()),
        "it was removed"
    );
}
