//! A terminal of a test's own.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use bento_tests::{process, wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// A terminal, and the program that runs on it.
pub struct Terminal {
    /// Where somebody sits.
    master: OwnedFd,
    /// What the program has.
    slave: OwnedFd,
    before: Termios,
    program: Child,
    written: String,
}

/// How a program left its terminal.
pub struct Left {
    pub code: Option<i32>,
    /// What stands on the screen that was there before.
    pub after: String,
}

const LEAVE: &str = "\u{1b}[?1049l";

impl Terminal {
    /// Runs a program on a terminal of this size, as the first of its session.
    pub fn run(program: &Command, columns: u16, lines: u16) -> Self {
        // Closed on exec: what a program holds itself isn't taken away from it.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        set_size(&master, columns, lines);
        let before = tcgetattr(&slave).unwrap();
        let end = || File::from(slave.try_clone().unwrap());
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg(program.get_program());
        setsid.args(program.get_args()).current_dir("/");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => setsid.env(name, value),
                None => setsid.env_remove(name),
            };
        }
        let program = setsid.stdin(end()).stdout(end()).stderr(end()).spawn();
        Terminal {
            program: program.expect("setsid, of util-linux"),
            master,
            slave,
            before,
            written: String::new(),
        }
    }

    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// How many bytes the program has written so far.
    pub fn written(&mut self) -> usize {
        self.read();
        self.written.len()
    }

    pub fn press(&self, keys: &str) {
        rustix::io::write(&self.master, keys.as_bytes()).unwrap();
    }

    pub fn resize(&self, columns: u16, lines: u16) {
        set_size(&self.master, columns, lines);
    }

    /// Waits until what is to be seen satisfies something, and gives it: a text a line.
    pub fn until(&mut self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + process::SHORT;
        loop {
            self.read();
            let seen = self.seen();
            if holds(&seen) {
                return seen;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain: {what}: {seen:#?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until something is to be seen.
    pub fn until_shows(&mut self, text: &str) -> Vec<String> {
        self.until(&format!("{text:?} is shown"), |lines| {
            lines.iter().any(|line| line.contains(text))
        })
    }

    /// Waits until the program has ended; the terminal must be as it was before.
    pub fn end(mut self) -> Left {
        let status = wait::expect("the program ends", || {
            self.read();
            self.program.try_wait().unwrap()
        });
        self.read();
        let modes = tcgetattr(&self.slave).unwrap();
        let flags = |modes: &Termios| (modes.local_modes, modes.input_modes, modes.output_modes);
        assert_eq!(flags(&modes), flags(&self.before));
        let (drawn, after) = self
            .written
            .rsplit_once(LEAVE)
            .unwrap_or(("", &self.written));
        assert!(
            drawn.is_empty() || drawn.ends_with("\u{1b}[?7h\u{1b}[?25h"),
            "{drawn:?}"
        );
        Left {
            code: status.code(),
            after: after.to_owned(),
        }
    }

    /// Takes the terminal away, and waits until the program has ended.
    pub fn take_away(self) -> Option<i32> {
        let Terminal {
            master,
            slave,
            mut program,
            ..
        } = self;
        drop((master, slave));
        wait::expect("the program ends", || program.try_wait().unwrap()).code()
    }

    fn read(&mut self) {
        let is_ready = |master: &OwnedFd| {
            let mut fds = [PollFd::new(master, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
        };
        let mut buffer = [0; 64 << 10];
        while is_ready(&self.master) {
            let count = rustix::io::read(&self.master, &mut buffer).unwrap();
            // What is cut in the middle of a character is of no account: it is drawn again.
            self.written += &String::from_utf8_lossy(&buffer[..count]);
        }
    }

    /// The lines that were drawn last, without colours; none when nothing was drawn as a whole.
    fn seen(&self) -> Vec<String> {
        let Some((drawn, _)) = self.written.rsplit_once("\u{1b}[J") else {
            return Vec::new();
        };
        let (_, frame) = drawn.rsplit_once("\u{1b}[H").unwrap_or(("", drawn));
        frame.lines().map(plain).collect()
    }
}

fn set_size(master: &OwnedFd, columns: u16, lines: u16) {
    let size = Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).unwrap();
}

/// A text without what steers a terminal.
fn plain(text: &str) -> String {
    // The terminal itself makes one more of each line's end.
    let mut parts = text.trim_end_matches('\r').split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()));
    first
        + &rest
            .map(|part| part.get(1..).unwrap_or_default())
            .collect::<String>()
}
