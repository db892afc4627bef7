//! What is in pseudo terminals and not read yet: lines and a part of one, an end of file, a literal line
//! feed; raw bytes; more than the line discipline has room for; what was printed.
//!
//! Verified: each end reads exactly that, line by line where lines are read; the line that was begun can
//! be ended; the one whose slave was never opened has its echo.
//! CRIU: loses ends of file and lines begun, echoes what was typed once more, and needs both ends open.

use rustix::termios::{InputModes, LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{awaited, pseudo_terminal, slave, text, write};
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `len` bytes, no two runs of 251 alike in place.
fn bytes(len: usize) -> String {
    (0..len).map(|at| char::from(b' ' + (at % 89) as u8)).collect()
}

fn set_raw(file: &std::os::fd::OwnedFd) {
    let mut settings = tcgetattr(file).expect("tcgetattr");
    settings.make_raw();
    tcsetattr(file, OptionalActions::Now, &settings).expect("tcsetattr");
}

fn run(cx: &mut Context) {
    let (lines_master, path) = pseudo_terminal();
    let lines = slave(&path);
    let mut settings = tcgetattr(&lines).expect("tcgetattr");
    settings.local_modes -= LocalModes::ECHO;
    settings.input_modes -= InputModes::ICRNL;
    tcsetattr(&lines, OptionalActions::Now, &settings).expect("tcsetattr");
    // Ctrl-D ends a file, or hands over a line that is begun; Ctrl-V quotes.
    let typed = "one\ntwo\n\u{4}part\u{4}a\u{16}\nb\u{1}\nbeg";
    check_eq!(write(&lines_master, typed), Ok(typed.len()), "typing");
    check_eq!(write(&lines, "printed\n"), Ok(8), "printing");

    let (raw_master, path) = pseudo_terminal();
    let raw = slave(&path);
    set_raw(&raw);
    let some = bytes(700);
    check_eq!(write(&raw_master, &some), Ok(700), "typing raw bytes");

    let (full_master, path) = pseudo_terminal();
    let full = slave(&path);
    set_raw(&full);
    let mut sent = String::new();
    while let Ok(len) = write(&full_master, &bytes(1000)) {
        sent += &bytes(1000)[..len];
        sys::nap(std::time::Duration::from_millis(1));
    }

    let (echo_master, path) = pseudo_terminal();
    check_eq!(write(&echo_master, "anybody?"), Ok(8), "typing where nobody is");
    // Everything has got to where it is going.
    let printed = || rustix::io::ioctl_fionread(&lines_master) == Ok(9);
    until("the print", printed);
    until("the echo", || rustix::io::ioctl_fionread(&echo_master) == Ok(8));
    until("the raw bytes", || rustix::io::ioctl_fionread(&raw) == Ok(700));
    sys::nap(std::time::Duration::from_millis(20));

    cx.ready_and_wait();

    for line in ["one\n", "two\n", "", "part", "a\nb\u{1}\n"] {
        check_eq!(text(&lines).as_deref(), Ok(line), "a line");
    }
    check_eq!(awaited(&lines_master, "printed\r\n"), "printed\r\n", "what was printed");
    check_eq!(text(&lines_master), Err(libc::EAGAIN), "what is behind that");
    check_eq!(write(&lines_master, "un\n"), Ok(3), "ending the line");
    check_eq!(text(&lines).as_deref(), Ok("begun\n"), "the line that was begun");
    check_eq!(awaited(&raw, &some), some, "raw bytes");
    let received = awaited(&full, &sent);
    check_eq!(received.len(), sent.len(), "how much there was of a great deal");
    check!(received == sent, "a great deal of bytes");
    check_eq!(text(&echo_master).as_deref(), Ok("anybody?"), "the echo");
    check_eq!(text(&echo_master), Err(libc::EAGAIN), "what is behind the echo");
    check_eq!(write(&echo_master, "\n"), Ok(1), "ending what was typed");
    check_eq!(text(slave(&path)).as_deref(), Ok("anybody?\n"), "what was typed");
}
