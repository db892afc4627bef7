//! Standard output and standard error: what they can show.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Colours are welcome on standard output.
pub(crate) fn stdout_has_colour() -> bool {
    io::stdout().is_terminal() && colour_allowed()
}

/// Colours are welcome on standard error.
pub(crate) fn stderr_has_colour() -> bool {
    io::stderr().is_terminal() && colour_allowed()
}

/// See <https://no-color.org>.
fn colour_allowed() -> bool {
    env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// The columns of the terminal on standard error, 80 if there is none.
pub(crate) fn stderr_width() -> usize {
    rustix::termios::tcgetwinsize(io::stderr())
        .map_or(80, |size| if size.ws_col == 0 { 80 } else { usize::from(size.ws_col) })
}

/// Writes to standard output. That nobody reads any more is no error, so that
/// `dormouse show DIR | head` ends quietly.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes to standard error. A report that cannot be written, to a full disk or
/// to a reader that is gone, changes nothing about what is reported.
pub(crate) fn report(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Puts words in colour, where that is welcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    colour: bool,
}

impl Paint {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self { colour: stdout_has_colour() }
    }

    /// Without any.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { colour: false }
    }

    fn with(self, code: &str, text: &dyn Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// What stands out.
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.with("1", &text)
    }

    /// What matters less.
    pub(crate) fn dim(self, text: impl Display) -> String {
        self.with("2", &text)
    }

    /// What is well.
    pub(crate) fn good(self, text: impl Display) -> String {
        self.with("32", &text)
    }

    /// Names.
    pub(crate) fn name(self, text: impl Display) -> String {
        self.with("36", &text)
    }
}

/// A number of bytes in the unit that suits it.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
