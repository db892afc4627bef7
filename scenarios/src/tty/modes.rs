//! What requests switch on: a master in packet mode, an exclusive slave, a locked master.
//!
//! Verified: `TIOCGPKT`, `TIOCGEXCL`, `TIOCGPTLCK`; packets come with their leading byte; the locked
//! one's slave cannot be opened, until it is unlocked.
//! CRIU: loses the exclusive mode.

use rustix::fs::{Mode, OFlags, open};

use super::{awaited, int, ioctl, pseudo_terminal, slave, write};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    let slave = slave(&path);
    let on = 1;
    ioctl(&master, libc::TIOCPKT, (&raw const on).expose_provenance()).expect("TIOCPKT");
    ioctl(&slave, libc::TIOCEXCL, 0).expect("TIOCEXCL");
    let (locked, locked_path) = pseudo_terminal();
    ioctl(&locked, libc::TIOCSPTLCK, (&raw const on).expose_provenance()).expect("TIOCSPTLCK");

    let state = || {
        let modes = [libc::TIOCGPKT, libc::TIOCGEXCL, libc::TIOCGPTLCK];
        [&master, &locked].map(|master| modes.map(|mode| int(master, mode)))
    };
    let before = state();
    cx.ready_and_wait();
    check_eq!(state(), before, "modes of the masters");
    check_eq!(int(&slave, libc::TIOCGEXCL), Ok(1), "exclusive mode of the slave");

    check_eq!(write(&slave, "packet"), Ok(6), "printing");
    check_eq!(awaited(&master, "\0packet"), "\0packet", "what was printed");
    let open = || open(&locked_path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).map(drop);
    check_eq!(open(), Err(rustix::io::Errno::IO), "opening the locked one");
    rustix::pty::unlockpt(&locked).expect("unlockpt");
    check_eq!(open(), Ok(()), "opening it unlocked");
}
