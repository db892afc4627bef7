//! A master whose slave was open, and is closed again.
//!
//! Verified: reading gives EIO, as at a hang-up; when the slave is opened again it works.
//! CRIU: the master waits, as one whose slave has never been opened.

use super::{awaited, line, pseudo_terminal, slave, text, write};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    drop(slave(&path));
    check_eq!(text(&master), Err(libc::EIO), "reading before");
    let before = line(&master);
    cx.ready_and_wait();
    check_eq!(line(&master), before, "settings");
    check_eq!(text(&master), Err(libc::EIO), "reading");
    let slave = slave(&path);
    check_eq!(text(&master), Err(libc::EAGAIN), "reading when the slave is open again");
    check_eq!(write(&slave, "again"), Ok(5), "printing");
    check_eq!(awaited(&master, "again"), "again", "what was printed");
}
