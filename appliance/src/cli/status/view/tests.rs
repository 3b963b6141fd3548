use bento_protocol::Format;
use serde_json::json;

use super::*;

fn view(machines: usize, problems: usize) -> View {
    let host = |number| {
        json!({
            "name": format!("m{number:02}"), "state": "failing", "paused": false, "runs": 1,
            "seen": "2026-01-01T00:00:00Z", "error": "error: there is no luck in this configuration",
        })
    };
    let problem = |number| format!("fleet.toml:{number}: is wrong");
    let status = json!({
        "format": Format, "at": "2026-01-01T00:00:00Z",
        "problems": (0..problems).map(problem).collect::<Vec<_>>(),
        "hosts": (0..machines).map(host).collect::<Vec<_>>(),
    });
    View::of(serde_json::from_value(status).unwrap(), machines)
}

fn draw(view: &mut View, columns: usize, lines: usize) -> Vec<String> {
    view.draw(view.at(), Size { columns, lines }, false)
}

#[test]
fn it_fills_exactly_the_screen() {
    for (columns, lines) in [(1, 1), (5, 2), (20, 5), (80, 24), (200, 60)] {
        for (machines, problems) in [(0, 0), (1, 9), (40, 2)] {
            let drawn = draw(&mut view(machines, problems), columns, lines);
            assert_eq!(drawn.len(), lines, "{drawn:#?}");
            assert!(
                columns < 5 || drawn.iter().all(|line| line.width() <= columns),
                "{drawn:#?}"
            );
        }
    }
}

#[test]
fn problems_of_the_fleet_leave_room_for_machines() {
    let drawn = draw(&mut view(5, 9), 120, 10);
    let begin = [
        "✗ fleet.toml:0",
        "✗ fleet.toml:1",
        "✗ and 7 more",
        "MACHINE",
        "m00",
    ];
    for (line, begin) in drawn.iter().zip(begin) {
        assert!(line.starts_with(begin), "{drawn:#?}");
    }
    assert!(drawn[9].starts_with("5 machines: 5 failing"), "{drawn:#?}");
}

#[test]
fn errors_that_do_not_fit_can_be_scrolled_to() {
    let (mut view, size) = (
        view(3, 0),
        Size {
            columns: 40,
            lines: 6,
        },
    );
    view.press(Key::End, size);
    let drawn = draw(&mut view, 40, 6);
    assert!(drawn[0].starts_with("MACHINE"), "{drawn:#?}");
    assert_eq!(drawn[3], "m02: error: there is no luck in this");
    assert_eq!(drawn[4], "configuration");
    assert!(drawn[5].starts_with("3 machi") && drawn[5].ends_with("100%  ↑↓ scroll  q quit"));
    // With fewer machines than before, the screen isn't empty.
    let fewer = super::tests::view(1, 0).status;
    view.show(fewer, 1);
    assert!(draw(&mut view, 40, 6)[1].starts_with("m00"));
}

#[test]
fn ages_grow_without_another_reading() {
    let mut view = view(1, 0);
    let later = view.at() + jiff::SignedDuration::from_mins(7);
    let size = Size {
        columns: 120,
        lines: 5,
    };
    assert!(view.draw(view.at(), size, false)[1].contains("just now"));
    assert!(view.draw(later, size, false)[1].contains("7 min ago"));
}

#[test]
fn keys_are_parsed_in_order_and_unknown_ones_skipped() {
    assert_eq!(
        Key::all_of(b"j\x1b[B\x1bOAz\x1b[5~\x1b[1;5D\x1b[6~\x1bq"),
        [
            Key::Line(1),
            Key::Line(1),
            Key::Line(-1),
            Key::Page(-1),
            Key::Page(1),
            Key::Quit
        ]
    );
    assert_eq!(Key::all_of(b"\x03"), [Key::Quit]);
    assert_eq!(Key::all_of(b"\x1b["), []);
}
