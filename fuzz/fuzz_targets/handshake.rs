//! The offer with which sshd answers the health check.

#![no_main]

use bento_appliance::sshd::host_key_algorithms;
use libfuzzer_sys::fuzz_target;

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

fuzz_target!(|message: &[u8]| judge_offer(message));
