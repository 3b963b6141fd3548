//! What is printed once.

use bento_protocol::Outcome;
use serde_json::Value;

use crate::command::{here, run, status};
use crate::place::Place;
use crate::terminal::Terminal;

fn place() -> Place {
    let place = Place::new(&["domovoi", "kikimora", "leshy"]);
    for name in ["domovoi", "kikimora", "leshy"] {
        place.publish(name, "{ }");
        place.report(name, Outcome::Switched);
    }
    place
}

#[test]
fn only_what_needs_attention_and_an_exit_code_that_says_so() {
    let place = place();
    let print = |arguments: &[&str]| run(here(&place, arguments.iter().copied()));
    let nothing = "None of 3 machines needs attention.\n".to_owned();
    assert_eq!(
        print(&["--problems", "--exit-code"]),
        (nothing, String::new(), 0)
    );
    place.report("leshy", Outcome::BuildFailed);
    let (text, _, code) = print(&["--problems"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines.len() == 2 && lines[1].starts_with("leshy    failing"),
        "{text}"
    );
    assert_eq!(code, 0, "unless it is asked");
    for arguments in [
        &["--exit-code"][..],
        &["--exit-code", "--json"],
        &["--exit-code", "leshy"],
    ] {
        assert_eq!(print(arguments).2, 1, "{arguments:?}");
    }
    assert_eq!(print(&["--exit-code", "domovoi"]).2, 0);
    let (json, _, _) = print(&["--problems", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["hosts"].as_array().unwrap().len(), 1);
    // The fleet as a whole needs it, too, also when no machine is named.
    place.set_problems(
        r#"[{"place": "fleet.toml:7", "host": null, "what": "is wrong", "advice": "mend it"}]"#,
    );
    let (text, _, code) = print(&["--problems", "--exit-code", "domovoi"]);
    assert!(
        text.starts_with("fleet.toml:7: is wrong: mend it\n"),
        "{text}"
    );
    assert!(
        text.ends_with("None of 1 machine needs attention.\n"),
        "{text}"
    );
    assert_eq!(code, 1);
    std::fs::remove_file(place.runtime.problems()).unwrap();
    assert_eq!(print(&["--exit-code", "domovoi"]).2, 1);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let place = place();
    let on_terminal = |plain: bool| {
        let mut command = here(&place, []);
        if plain {
            command.env("NO_COLOR", "1");
        }
        Terminal::run(&command, 80, 24).end().after
    };
    let coloured = on_terminal(false);
    assert!(coloured.contains("\u{1b}[32m✓ up-to-date"), "{coloured}");
    assert!(
        coloured.ends_with("3 machines: 3 up-to-date\r\n"),
        "{coloured}"
    );
    assert!(!on_terminal(true).contains('\u{1b}'));
    let mut ascii = here(&place, []);
    ascii.env("LC_ALL", "C");
    let ascii = Terminal::run(&ascii, 80, 24).end().after;
    assert!(
        ascii.is_ascii() && ascii.contains("+ up-to-date"),
        "{ascii}"
    );
    let (piped, _, _) = run(here(&place, []));
    assert!(!piped.contains('\u{1b}') && !piped.contains('✓') && !piped.contains("machines:"));
}

#[test]
fn wrong_arguments_are_refused_with_advice() {
    let place = place();
    let (_, errors, code) = run(here(&place, ["vodyanoy"]));
    assert_eq!(code, 1);
    assert!(
        errors.contains("there is no machine vodyanoy in the fleet"),
        "{errors}"
    );
    let (_, errors, code) = run(status([]));
    assert_eq!(code, 1);
    assert!(errors.contains("no appliance runs here"), "{errors}");
    let (_, _, code) = run(here(&place, ["--watch", "--exit-code"]));
    assert_eq!(code, 2);
}
