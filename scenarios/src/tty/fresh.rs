//! A master whose slave has never been opened.
//!
//! Verified: it waits for what will be printed, and has not hung up; its slave can be opened, and has
//! the settings that were made by the master.
//! CRIU: works.

use super::{awaited, line, pseudo_terminal, slave, text, write};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    let window = rustix::termios::Winsize { ws_row: 3, ws_col: 4, ws_xpixel: 5, ws_ypixel: 6 };
    rustix::termios::tcsetwinsize(&master, window).expect("TIOCSWINSZ");
    let before = line(&master);
    cx.ready_and_wait();
    check_eq!(line(&master), before, "settings");
    check_eq!(text(&master), Err(libc::EAGAIN), "reading");
    let slave = slave(&path);
    check_eq!(line(&slave), before, "settings of the slave");
    check_eq!(write(&slave, "first"), Ok(5), "printing");
    check_eq!(awaited(&master, "first"), "first", "what was printed");
}
