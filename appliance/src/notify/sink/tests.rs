use jiff::Timestamp;

use super::*;
use crate::fixture::webhook::{Answer, WebhookReceiver};

fn message() -> Message {
    Message::test(None, Timestamp::UNIX_EPOCH)
}

fn settings(listener: &WebhookReceiver, seconds: u64) -> Notify {
    let address = format!("http://{}/secret?token=1", listener.address);
    Notify {
        webhook: address.try_into().unwrap(),
        timeout: format!("{seconds}s").parse().unwrap(),
    }
}

#[test]
fn a_message_is_one_post() {
    let listener = WebhookReceiver::open(Answer::With("200 OK", "thank\nyou"));
    let came_back = post(&settings(&listener, 60), &message()).unwrap();
    assert_eq!(came_back, "answered 200 OK: thank you");
    let request = listener.next();
    assert_eq!(request.line, "POST /secret?token=1 HTTP/1.1");
    assert!(request.has("content-type: application/json"), "{request:?}");
    assert_eq!(request.body, message().json());
}

#[test]
fn a_failure_is_shown_without_the_secret_part_of_the_address() {
    for (status, said) in [
        ("500 Internal Server Error", "\u{1b}[2Jout of order"),
        ("302 Found", ""),
        ("404 Not Found", &"x".repeat(100_000)[..]),
    ] {
        let listener = WebhookReceiver::open(Answer::With(status, said.to_owned().leak()));
        let error = post(&settings(&listener, 60), &message())
            .unwrap_err()
            .to_string();
        let expected = format!("http://{}/… answered {status}", listener.address);
        assert!(error.starts_with(&expected), "{error}");
        assert!(
            !error.contains("secret") && !error.contains('\u{1b}'),
            "{error}"
        );
        assert!(error.chars().count() < 500);
        assert_eq!(listener.count(), 1, "a redirect isn't followed");
    }
}

#[test]
fn a_webhook_that_never_answers_or_does_not_exist_fails_in_time() {
    let listener = WebhookReceiver::open(Answer::Never);
    let error = post(&settings(&listener, 1), &message()).unwrap_err();
    assert!(
        error.to_string().contains("hasn't answered within 1 s"),
        "{error}"
    );
    let settings = settings(&listener, 1);
    drop(listener);
    let error = post(&settings, &message()).unwrap_err();
    assert!(error.to_string().contains("can't reach"), "{error}");
}
