//! What a large fleet costs: `make bench` runs this, and it prints a table of what was promised and what was measured.
#![allow(
    clippy::unwrap_used,
    reason = "what fails here should stop the measurement there, with its line"
)]

#[path = "../tests/status/place.rs"]
mod place;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bento_protocol::Outcome;
use bento_tests::files;
use place::Place;

const BENTO: &str = env!("CARGO_BIN_EXE_bento");
const MACHINES: usize = 1_000;
const REPORTS: usize = 50;
/// In the folder that machines share: a usual one, and one as large as a fleet with everything in one flake has it.
const FILES: [usize; 2] = [200, 3_000];
/// How often a thing is measured; the median counts.
const TIMES: usize = 9;
/// For how long nothing happens.
const IDLE: Duration = Duration::from_secs(65);

fn main() {
    let names: Vec<String> = (0..MACHINES)
        .map(|number| format!("m{number:04}"))
        .collect();
    let place = place_of(&names);
    let status = |arguments: &[&str]| {
        let mut command = Command::new(BENTO);
        command.args(["status", "--state"]).arg(place.state.root());
        command.arg("--runtime").arg(place.runtime.root());
        command.args(arguments);
        command
    };
    println!("{:<59} {:>10} {:>10}", "", "measured", "promised");
    line(
        "status of 1,000 machines with 50 reports each, warm",
        &seconds(median(|| status(&[]))),
        "0.3 s",
    );
    line(
        "  the same as JSON",
        &seconds(median(|| status(&["--json"]))),
        "0.3 s",
    );
    line(
        "  the same with nothing in the kernel's cache",
        &cold(|| status(&[])),
        "0.3 s",
    );
    line("  its memory at the most", &memory(status(&[])), "60 MiB");
    line(
        "  processor time of --watch in 65 s without change",
        &idle(status(&["--json", "--watch"])),
        "1 s",
    );

    for files in FILES {
        let folder = place.path(&format!("shared-{files}"));
        shared_fleet(&folder, &names, files);
        let check = || {
            let mut command = Command::new(BENTO);
            command.args(["check", "--fleet"]).arg(&folder);
            command
        };
        line(
            &format!("check of 1,000 machines that share a folder of {files} files"),
            &seconds(median(check)),
            "1 s",
        );
        line("  its memory at the most", &memory(check()), "-");
    }
}

fn line(what: &str, measured: &str, promised: &str) {
    println!("{what:<59} {measured:>10} {promised:>10}");
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// One machine's history is made by the appliance's own parts, and is that of all: status reads of none another's.
fn place_of(names: &[String]) -> Place {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let place = Place::new(&names);
    place.publish(names[0], "{ }");
    for number in 0..REPORTS {
        let outcome = if number % 10 == 3 {
            Outcome::BuildFailed
        } else {
            Outcome::Switched
        };
        place.report(names[0], outcome);
    }
    let first = place.host(names[0]);
    fs::File::create(first.seen()).unwrap();
    for name in &names[1..] {
        let target = place.host(name);
        fs::remove_dir(target.root()).unwrap();
        let mut copy = Command::new("cp");
        let done = copy.arg("-a").args([first.root(), target.root()]).status();
        assert!(done.unwrap().success());
    }
    place
}

/// A fleet of machines that all get the same folder.
fn shared_fleet(folder: &Path, names: &[String], count: usize) {
    for number in 0..count {
        let path = format!("shared/modules/{}/{number}.nix", number % 10);
        let text = format!("{{ number = {number}; }}\n").repeat(50);
        files::write(&folder.join(path), text).unwrap();
    }
    files::write(&folder.join("shared/flake.nix"), "{ }").unwrap();
    files::write(&folder.join("shared/.gitignore"), "*.log\n").unwrap();
    let mut toml =
        "[server]\naddress = \"bento.example.org\"\n[defaults]\nsource = \"shared\"\n".to_owned();
    for name in names {
        toml += &format!("[hosts.{name}]\n");
    }
    files::write(&folder.join("fleet.toml"), &toml).unwrap();
}

fn run(mut command: Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn timed(command: Command) -> Duration {
    let begun = Instant::now();
    run(command);
    begun.elapsed()
}

fn median(command: impl Fn() -> Command) -> Duration {
    run(command());
    let mut times: Vec<_> = (0..TIMES).map(|_| timed(command())).collect();
    times.sort();
    times[TIMES / 2]
}

/// Only root can empty the cache.
fn cold(command: impl Fn() -> Command) -> String {
    let once = || {
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3").ok()?;
        // The program itself is not what is measured.
        run({
            let mut version = Command::new(BENTO);
            version.arg("--version");
            version
        });
        Some(timed(command()))
    };
    let times: Option<Vec<_>> = (0..3).map(|_| once()).collect();
    times.map_or_else(
        || "needs root".to_owned(),
        |mut times| {
            times.sort();
            seconds(times[1])
        },
    )
}

/// The most memory that a command takes: the kernel's own count, read when it has printed all but not yet ended.
fn memory(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut output = child.stdout.take().unwrap();
    let most = thread::spawn(move || {
        let mut most = 0;
        while let Ok(text) = fs::read_to_string(&status) {
            let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(peak) = peak else { break };
            let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
            most = kib.max(most);
            thread::sleep(Duration::from_micros(500));
        }
        most
    });
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
    format!("{:.1} MiB", most.join().unwrap() as f64 / 1024.0)
}

/// The processor time that a command takes while nothing happens.
fn idle(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    let ticks = || {
        let text = fs::read_to_string(&stat).unwrap();
        let (_, fields) = text.rsplit_once(") ").unwrap();
        let field = |number: usize| {
            fields
                .split(' ')
                .nth(number)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        // utime and stime, the 14th and 15th of proc(5), of which two stand before.
        field(11) + field(12)
    };
    thread::sleep(Duration::from_secs(5));
    let before = ticks();
    thread::sleep(IDLE);
    let spent = ticks() - before;
    child.kill().unwrap();
    child.wait().unwrap();
    let tick = 1000 / rustix::param::clock_ticks_per_second();
    format!("{} ms", spent * tick)
}
