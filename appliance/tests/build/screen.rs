use bento_tests::process::Output;

use crate::env::BuildEnv;

/// Of a window, which is smaller than the table.
const LINES: usize = 4;
const COLUMNS: usize = 50;

/// What is left of a line of a terminal without the codes of its colours.
fn plain(line: &str) -> String {
    let mut pieces = line.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        text + piece.split_once('m').map_or(piece, |(_, rest)| rest)
    })
}

#[test]
fn on_a_terminal_the_table_is_drawn_in_place_and_never_larger_than_the_window() {
    let hosts = ["a", "b", "c", "d", "e", "f"];
    let env = BuildEnv::new(&hosts);
    for host in hosts {
        env.flake(host, "sleep 0.5");
    }
    env.flake("f", "exit 3");
    let bento = env!("CARGO_BIN_EXE_bento");
    let mut terminal = env.environment("script");
    terminal
        .args([
            "-qefc",
            &format!("stty rows {LINES} cols {COLUMNS}; exec {bento} build --jobs 2"),
        ])
        .arg("/dev/null")
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .current_dir(env.fleet());
    let ended = Output::of(&mut terminal).with(1);
    // Each redraw begins by clearing the table.
    let mut frames: Vec<&str> = ended.stdout.split("\r\u{1b}[J").skip(1).collect();
    let last = frames.pop().unwrap();
    assert!(frames.len() > 3, "{}", ended.stdout);
    for frame in &frames {
        let (table, up) = frame.rsplit_once('\n').unwrap();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(up, format!("\u{1b}[{}A", lines.len()));
        assert!(lines.len() < LINES, "{frame}");
        let is_too_wide = |line: &&str| plain(line).chars().count() >= COLUMNS;
        assert!(!lines.iter().any(is_too_wide), "{frame}");
    }
    assert!(
        frames.iter().any(|frame| frame.contains(" waiting")),
        "{}",
        ended.stdout
    );
    let shown: Vec<_> = last.lines().map(plain).collect();
    for (line, host) in shown.iter().zip(hosts) {
        let phase = if host == "f" { "failed" } else { "built" };
        assert!(line.contains(host) && line.contains(phase), "{last}");
    }
    assert_eq!(shown.last().unwrap(), "5 built, 1 failed.");
}
