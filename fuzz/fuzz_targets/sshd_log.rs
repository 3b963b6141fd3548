//! Messages of sshd, with parts from strangers: each becomes one line of printable ASCII without loss.

#![no_main]

use bento_appliance::sshd::Line;
use bento_appliance::text::sanitise;
use bento_fuzz::shown;
use libfuzzer_sys::fuzz_target;

/// The most characters for one byte: `\u{fffd}`, for one that isn't text.
const ESCAPED: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let line = Line::new(7, bytes);
    assert_eq!(line.uid, 7);
    let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    assert!(line.text.bytes().all(printable), "{:?}", line.text);
    assert!(line.text.len() <= bytes.len() * ESCAPED);
    if bytes.iter().copied().all(printable) {
        assert_eq!(line.text.as_bytes(), bytes.trim_ascii_end());
    }
    // A clean line doesn't change.
    assert_eq!(Line::new(7, line.text.as_bytes()), line);

    let text = String::from_utf8_lossy(bytes);
    for limit in [1, 10, 500, usize::MAX] {
        let line = sanitise::one_line(&text, limit);
        shown::assert_one_line(&line);
        assert!(line.chars().count() <= limit);
        assert_eq!(sanitise::one_line(&line, limit), line);
    }
});
