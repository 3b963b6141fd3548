//! Ignore files. The first line of an input is a path, the rest an ignore file.

#![no_main]

use std::path::Path;

use bento_appliance::problem::Problem;
use bento_appliance::scan::{BadPattern, Chain, Narrowing, Patterns};
use bento_fuzz::shown;
use bento_protocol::{Area, FilePath};
use libfuzzer_sys::fuzz_target;

const FOLDER: &str = "hosts/kikimora";

fn judge_bad(bad: &BadPattern) {
    let what = format!("{:?} isn't a pattern ({})", bad.pattern, bad.what);
    shown::assert_one_line(&Problem::new(".bentoignore", what, "correct it").to_string());
}

fn patterns(texts: &[&str]) -> Result<Patterns, BadPattern> {
    Patterns::new(&texts.join("\n"), "")
}

fn chain(folder: &str, texts: &[&str]) -> Result<Chain, BadPattern> {
    Ok(Chain::default().below(Path::new(folder), Some(&patterns(texts)?)))
}

fuzz_target!(|input: &str| {
    let (path, text) = input.split_once('\n').unwrap_or((input, ""));
    // Other paths don't occur.
    if FilePath::new(Area::Config, path).is_err() {
        return;
    }
    let path = Path::new(path);
    let outer = match chain("", &[text]) {
        Ok(outer) => outer,
        Err(bad) => return judge_bad(&bad),
    };
    let below = Path::new(FOLDER).join(path);
    let inner = chain(FOLDER, &[text]).expect("the same patterns");
    let twice = chain("", &[text, "# a comment\n\n", text]).expect("the same patterns");
    for is_folder in [false, true] {
        let ignored = outer.ignores(path, is_folder);
        assert_eq!(
            twice.ignores(path, is_folder),
            ignored,
            "the last line decides"
        );
        assert_eq!(
            inner.ignores(&below, is_folder),
            ignored,
            "a file counts from where it lies"
        );
        if !path.starts_with(FOLDER) {
            assert!(
                !inner.ignores(path, is_folder),
                "a file counts beside where it lies"
            );
        }
        let nothing = patterns(&[""]).expect("no pattern");
        let silent = outer.below(Path::new(FOLDER), Some(&nothing));
        assert_eq!(
            silent.ignores(&below, is_folder),
            outer.ignores(&below, is_folder)
        );
        let all = patterns(&["!*\n"]).expect("a pattern");
        let bringing_back = outer.below(Path::new(""), Some(&all));
        assert!(
            !bringing_back.ignores(path, is_folder),
            "the innermost file decides"
        );
    }

    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let keeps = |exclude: &[String], include: &[String]| {
        Narrowing::new(exclude, include)
            .expect("the same patterns")
            .keeps(path)
    };
    let all = ["*".to_owned()];
    assert!(
        keeps(&[], &lines) && keeps(&lines, &all),
        "what is included is kept"
    );
    assert!(!keeps(&all, &[]), "what is excluded goes");
    assert!(
        keeps(&lines, &lines),
        "include brings back what exclude took"
    );
});
