//! The terminal while something is drawn on all of it.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::view::{Key, Size};

/// A terminal that is drawn on. It is as it was when this is dropped.
pub struct FullScreen {
    /// Standard output, past its buffer: what couldn't be written to a terminal that has gone isn't tried again.
    output: File,
    before: Termios,
}

/// Another screen, so that what is on this one comes again, without a cursor, and without lines that go on below.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

impl FullScreen {
    /// Takes the terminal that standard output is.
    ///
    /// # Errors
    /// When it can't be steered.
    pub fn enter() -> io::Result<Self> {
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let before = tcgetattr(terminal())?;
        let mut modes = before.clone();
        // Keys come at once and unseen, and Ctrl-C is one of them: so nothing ends this without leaving the screen.
        modes.local_modes -=
            LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        tcsetattr(terminal(), OptionalActions::Now, &modes)?;
        let mut screen = FullScreen { output, before };
        screen.output.write_all(ENTER.as_bytes())?;
        Ok(screen)
    }

    /// How large it is.
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

    /// Draws these lines, from the top; what was there before goes.
    ///
    /// # Errors
    /// When there is no terminal any more.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = "\u{1b}[H".to_owned();
        for (number, line) in lines.iter().enumerate() {
            let end = if number + 1 < lines.len() { "\r\n" } else { "" };
            text += &format!("{line}\u{1b}[0m\u{1b}[K{end}");
        }
        text += "\u{1b}[J";
        self.output.write_all(text.as_bytes())
    }

    /// Where keys come from.
    pub fn keys(&self) -> BorrowedFd<'static> {
        terminal()
    }

    /// The keys that were pressed; none when the terminal has gone.
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
        // A terminal that has gone needs nothing.
        let _gone = self.output.write_all(LEAVE.as_bytes());
        let _gone = tcsetattr(terminal(), OptionalActions::Flush, &self.before);
    }
}

/// The terminal: standard input, or standard output where input comes from elsewhere.
fn terminal() -> BorrowedFd<'static> {
    if io::stdin().is_terminal() {
        rustix::stdio::stdin()
    } else {
        rustix::stdio::stdout()
    }
}
