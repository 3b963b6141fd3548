//! The terminal as a full screen.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::view::{Key, Size};

/// A terminal in full-screen mode; restored on drop.
pub struct FullScreen {
    /// Standard output without a buffer: nothing is written again to a closed terminal.
    output: File,
    before: Termios,
}

/// Switches to the alternate screen, without a cursor and without line wrapping.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
/// Switches back.
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

impl FullScreen {
    /// Enters full-screen mode on standard output.
    ///
    /// # Errors
    /// When the terminal can't be controlled.
    pub fn enter() -> io::Result<Self> {
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let before = tcgetattr(terminal())?;
        let mut modes = before.clone();
        // Keys come at once, without echo, and Ctrl-C is a key, so that the screen is always restored.
        modes.local_modes -=
            LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        tcsetattr(terminal(), OptionalActions::Now, &modes)?;
        let mut screen = FullScreen { output, before };
        screen.output.write_all(ENTER.as_bytes())?;
        Ok(screen)
    }

    /// The current size.
    pub fn size(&self) -> Size {
        let size = tcgetwinsize(terminal()).ok();
        let or = |cells: Option<u16>, usual| match cells {
            Some(0) | None => usual,
            Some(cells) => usize::from(cells),
        };
        Size {
            columns: or(size.map(|size| size.ws_col), 80),
            lines: or(size.map(|size| size.ws_row), 24),
        }
    }

    /// Draws lines from the top, over the previous ones.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = "\u{1b}[H".to_owned();
        for (number, line) in lines.iter().enumerate() {
            let end = if number + 1 < lines.len() { "\r\n" } else { "" };
            text += &format!("{line}\u{1b}[0m\u{1b}[K{end}");
        }
        text += "\u{1b}[J";
        self.output.write_all(text.as_bytes())
    }

    /// The source of keys.
    pub fn keys(&self) -> BorrowedFd<'static> {
        terminal()
    }

    /// Reads the pressed keys; none if the terminal is closed.
    pub fn read_keys(&self) -> Option<Vec<Key>> {
        let mut buffer = [0; 256];
        match rustix::io::read(terminal(), &mut buffer) {
            Ok(0) => None,
            Ok(count) => Some(Key::all_of(&buffer[..count])),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Some(Vec::new()),
            Err(_) => None,
        }
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        // A closed terminal needs nothing.
        let _gone = self.output.write_all(LEAVE.as_bytes());
        let _gone = tcsetattr(terminal(), OptionalActions::Flush, &self.before);
    }
}

/// The terminal: standard input, or standard output if the input is redirected.
fn terminal() -> BorrowedFd<'static> {
    if io::stdin().is_terminal() {
        rustix::stdio::stdin()
    } else {
        rustix::stdio::stdout()
    }
}
