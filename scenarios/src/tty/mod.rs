//! Terminals.

pub(crate) mod closed;
pub(crate) mod controlling;
pub(crate) mod dev_tty;
pub(crate) mod foreground_gone;
pub(crate) mod fresh;
pub(crate) mod hung_up;
pub(crate) mod job_control;
pub(crate) mod modes;
pub(crate) mod pair;
pub(crate) mod peer;
pub(crate) mod queued;
pub(crate) mod stopped;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fcntl_setfl, open};

use crate::sys;

/// A new pseudo terminal: the master, nonblocking, and the path of its slave, which can be opened.
pub(crate) fn pseudo_terminal() -> (OwnedFd, CString) {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).expect("openpt");
    fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).expect("F_SETFL");
    rustix::pty::grantpt(&master).expect("grantpt");
    rustix::pty::unlockpt(&master).expect("unlockpt");
    let slave = rustix::pty::ptsname(&master, Vec::new()).expect("ptsname");
    (master, slave)
}

/// Opens a slave, which does not become a controlling terminal.
pub(crate) fn slave(path: &CString) -> OwnedFd {
    open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("open a slave")
}

/// `ioctl(2)` with a number, or the address of something that outlives the call.
pub(crate) fn ioctl(file: impl AsFd, request: libc::c_ulong, argument: usize) -> Result<i32, i32> {
    // SAFETY: the callers pass a number, or the address of a live `int`, `winsize` or `termios`, as
    // the request has it.
    match unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request, argument) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        result => Ok(result),
    }
}

/// A request that gives one `int`.
fn int(file: impl AsFd, request: libc::c_ulong) -> Result<i32, i32> {
    let mut value = -1;
    ioctl(file, request, (&raw mut value).expose_provenance()).map(|_| value)
}

/// Line settings and window size, for comparison.
fn line(file: impl AsFd) -> String {
    let mut termios = [0u32; 16];
    let settings = ioctl(&file, libc::TCGETS2, termios.as_mut_ptr().expose_provenance());
    let window = rustix::termios::tcgetwinsize(&file);
    format!("{settings:?} {termios:x?} {window:?}")
}

/// What can be read at once, or the error.
fn text(file: impl AsFd) -> Result<String, i32> {
    let mut bytes = [0; 4096];
    match rustix::io::read(file, &mut bytes) {
        Ok(len) => Ok(String::from_utf8_lossy(&bytes[..len]).into_owned()),
        Err(errno) => Err(errno.raw_os_error()),
    }
}

/// What can be read, once `expected` can; whatever came by then, if it does not.
fn awaited(file: impl AsFd, expected: &str) -> String {
    let mut read = String::new();
    for _ in 0..400 {
        match text(&file) {
            Ok(more) => read += &more,
            Err(_) => sys::nap(std::time::Duration::from_millis(5)),
        }
        if read.len() >= expected.len() {
            break;
        }
    }
    read
}

fn write(file: impl AsFd, bytes: &str) -> Result<usize, i32> {
    rustix::io::write(file, bytes.as_bytes()).map_err(rustix::io::Errno::raw_os_error)
}

/// Makes this process lead a session that the terminal controls.
fn lead_session(slave: impl AsFd) {
    rustix::process::setsid().expect("setsid");
    ioctl(slave, libc::TIOCSCTTY, 0).expect("TIOCSCTTY");
}
