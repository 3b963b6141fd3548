//! The first bytes of a connection, from either side.

#![no_main]

use bento_appliance::sshd::{Introduction, host_key_algorithms};
use libfuzzer_sys::fuzz_target;

/// The longest line with which an SSH client introduces itself (RFC 4253, section 4.2).
const LINE_BYTES: usize = 255;

/// Whether a judgement can still become the other one when more is heard.
fn may_become(now: Introduction, then: Introduction) -> bool {
    match now {
        Introduction::Silent => true,
        Introduction::Partial => then != Introduction::Silent,
        Introduction::Complete | Introduction::Foreign => then == now,
    }
}

fn judge_introduction(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let starts = bytes.starts_with(b"SSH-2.0-") || bytes.starts_with(b"SSH-1.99-");
    let judged = Introduction::of(bytes);
    assert_eq!(judged == Introduction::Silent, bytes.is_empty());
    let is_whole = starts && end.is_some_and(|end| end < LINE_BYTES);
    assert_eq!(judged == Introduction::Complete, is_whole);
    if bytes.len() > LINE_BYTES && end.is_none_or(|end| end >= LINE_BYTES) {
        assert_eq!(
            judged,
            Introduction::Foreign,
            "nobody waits for an endless line"
        );
    }
    let mut before = Introduction::Silent;
    for length in 1..=bytes.len().min(2 * LINE_BYTES) {
        let now = Introduction::of(&bytes[..length]);
        assert!(may_become(before, now), "{before:?} became {now:?}");
        before = now;
    }
}

fn judge_offer(message: &[u8]) {
    let Some(algorithms) = host_key_algorithms(message) else {
        return;
    };
    // A list is its length and then its text; type and cookie are 17 bytes.
    let list = |at: usize| {
        let length = message
            .get(at..at + 4)?
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        message.get(at + 4..(at + 4).checked_add(length)?)
    };
    let first = list(17).expect("there is a first list");
    assert_eq!(message[0], 20);
    assert_eq!(list(17 + 4 + first.len()), Some(algorithms.as_bytes()));
}

fuzz_target!(|bytes: &[u8]| {
    judge_introduction(bytes);
    judge_offer(bytes);
});
