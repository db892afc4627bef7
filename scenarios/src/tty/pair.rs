//! A pseudo terminal with both ends: two opens of the slave, of different flags, one shared by dup.
//!
//! Verified: its number and the slave's path, owner and permissions; settings, changed in every part,
//! and window size; flags of all descriptions; a line passes each way, with echo and translation.
//! CRIU: works.

use std::os::fd::AsRawFd;

use rustix::fs::{OFlags, fcntl_getfl, fstat};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Winsize, tcgetattr,
    tcsetattr, tcsetwinsize,
};

use super::{awaited, line, pseudo_terminal, slave, write};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    let blocking = slave(&path);
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::APPEND;
    let writer = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).expect("open");
    let again = rustix::io::dup(&blocking).expect("dup");

    let mut settings = tcgetattr(&blocking).expect("tcgetattr");
    settings.input_modes |= InputModes::IUTF8 | InputModes::IXANY;
    settings.output_modes |= OutputModes::ONLCR;
    settings.local_modes |= LocalModes::NOFLSH;
    settings.special_codes[SpecialCodeIndex::VINTR] = 7;
    settings.special_codes[SpecialCodeIndex::VMIN] = 3;
    settings.set_speed(19200).expect("a speed");
    tcsetattr(&blocking, OptionalActions::Now, &settings).expect("tcsetattr");
    let window = Winsize { ws_row: 17, ws_col: 93, ws_xpixel: 930, ws_ypixel: 340 };
    tcsetwinsize(&master, window).expect("TIOCSWINSZ");
    rustix::fs::fchmod(&blocking, rustix::fs::Mode::from_raw_mode(0o610)).expect("fchmod");

    let state = || {
        let stat = fstat(&blocking).expect("fstat");
        let flags = [&master, &blocking, &writer].map(|file| fcntl_getfl(file).expect("F_GETFL"));
        let names = [&master, &blocking, &writer, &again].map(|file| {
            std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("readlink")
        });
        let inode = (stat.st_rdev, stat.st_mode, stat.st_uid, stat.st_gid);
        (line(&blocking), line(&master), flags, names, inode)
    };
    let before = state();
    cx.ready_and_wait();
    check_eq!(state(), before, "the state of the terminal");
    let number = rustix::pty::ptsname(&master, Vec::new());
    check_eq!(number.as_ref(), Ok(&path), "the slave's name");

    check_eq!(write(&master, "typed\n"), Ok(6), "typing");
    check_eq!(awaited(&again, "typed\n"), "typed\n", "what was typed");
    check_eq!(awaited(&master, "typed\r\n"), "typed\r\n", "the echo");
    check_eq!(write(&writer, "printed\n"), Ok(8), "printing");
    check_eq!(awaited(&master, "printed\r\n"), "printed\r\n", "what was printed");
}
