//! Terminals: the requests of `ioctl_tty(2)` that no other crate wraps.
#![allow(unsafe_code)]

use crate::clone::{CloneArgs, CloneFlags};
use crate::signal::SigSet;
use crate::sys::check;
use crate::{DeviceId, Errno, HostPid};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Control characters that the kernel has (`NCCS` of
/// `include/uapi/asm-generic/termbits.h`).
pub const CONTROL_CHARACTERS: usize = 19;

/// How a line behaves: `struct termios2` of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Termios {
    /// What becomes of input.
    pub c_iflag: u32,
    /// What becomes of output.
    pub c_oflag: u32,
    /// The line itself.
    pub c_cflag: u32,
    /// Echo, lines, signals.
    pub c_lflag: u32,
    /// The line discipline.
    pub c_line: u8,
    /// Control characters.
    pub c_cc: [u8; CONTROL_CHARACTERS],
    /// Bits a second, if `c_cflag` leaves it to this.
    pub c_ispeed: u32,
    /// As `c_ispeed`.
    pub c_ospeed: u32,
}

/// The size of a window: `struct winsize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct WindowSize {
    /// Lines.
    pub ws_row: u16,
    /// Characters in a line.
    pub ws_col: u16,
    /// Pixels across.
    pub ws_xpixel: u16,
    /// Pixels down.
    pub ws_ypixel: u16,
}

const _: () = {
    assert!(size_of::<Termios>() == 44);
    assert!(size_of::<WindowSize>() == 8);
};

// include/uapi/asm-generic/ioctls.h, the same on x86-64 and AArch64.
const TCGETS2: u64 = 0x802c_542a;
const TCSETS: u64 = 0x5402;
const TCXONC: u64 = 0x540a;
const TCSETS2: u64 = 0x402c_542b;
const TIOCEXCL: u64 = 0x540c;
const TIOCGWINSZ: u64 = 0x5413;
const TIOCSWINSZ: u64 = 0x5414;
const TIOCINQ: u64 = 0x541b;
const TIOCPKT: u64 = 0x5420;
const TIOCGETD: u64 = 0x5424;
const TIOCGPTN: u64 = 0x8004_5430;
const TIOCSPTLCK: u64 = 0x4004_5431;
const TIOCGDEV: u64 = 0x8004_5432;
const TIOCGPKT: u64 = 0x8004_5438;
const TIOCGPTLCK: u64 = 0x8004_5439;
const TIOCGEXCL: u64 = 0x8004_5440;
const TIOCGPTPEER: u64 = 0x5441;
const TIOCGLCKTRMIOS: u64 = 0x5456;
const TIOCSLCKTRMIOS: u64 = 0x5457;
const TIOCGPGRP: u64 = 0x540f;
const TIOCGSID: u64 = 0x5429;

/// `TIOCSCTTY`, for a task that makes the call itself.
pub const SET_CONTROLLING: u64 = 0x540e;
/// `TIOCNOTTY`, likewise.
pub const GIVE_UP_CONTROLLING: u64 = 0x5422;
/// `TIOCSPGRP`, likewise; its argument points to an `int`.
pub const SET_FOREGROUND: u64 = 0x5410;

/// A request without an argument, or with a plain number.
fn plain(file: &impl AsFd, request: u64, argument: u64) -> Result<u64, Errno> {
    // SAFETY: the callers' requests take a number, so no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_ioctl, file.as_fd().as_raw_fd(), request, argument) })
}

/// A request that writes a `T`.
///
/// # Safety
/// The request writes no more than a `T`, and any bytes are one.
unsafe fn get<T: Default>(file: &impl AsFd, request: u64) -> Result<T, Errno> {
    let mut value = T::default();
    // SAFETY: the caller's promise; `value` lives over the call.
    check(unsafe {
        libc::syscall(libc::SYS_ioctl, file.as_fd().as_raw_fd(), request, &raw mut value)
    })?;
    Ok(value)
}

/// A request that reads a `T`.
///
/// # Safety
/// The request reads no more than a `T`.
unsafe fn set<T>(file: &impl AsFd, request: u64, value: &T) -> Result<(), Errno> {
    // SAFETY: the caller's promise; `value` lives over the call.
    check(unsafe {
        libc::syscall(libc::SYS_ioctl, file.as_fd().as_raw_fd(), request, std::ptr::from_ref(value))
    })
    .map(drop)
}

fn int(file: &impl AsFd, request: u64) -> Result<i32, Errno> {
    // SAFETY: the callers' requests write one int.
    unsafe { get(file, request) }
}

/// How the line behaves; of a master, how its slave does.
///
/// # Errors
///
/// `ENOTTY`: no terminal; `EIO`: one that has hung up.
pub fn termios(file: impl AsFd) -> Result<Termios, Errno> {
    // SAFETY: TCGETS2 writes a struct termios2, which Termios is.
    unsafe { get(&file, TCGETS2) }
}

/// Sets how the line behaves, its speeds only if they are given.
///
/// # Errors
///
/// As [`termios`].
pub fn set_termios(file: impl AsFd, termios: &Termios) -> Result<(), Errno> {
    let request = if termios.c_ospeed == 0 { TCSETS } else { TCSETS2 };
    // SAFETY: TCSETS2 reads a struct termios2, which Termios is; TCSETS reads
    // a struct termios, which it begins with.
    from_behind(|| unsafe { set(&file, request, termios) })
}

/// Which parts of [`termios`] nobody may change: those whose bits are set.
///
/// # Errors
///
/// As [`termios`].
pub fn locked_termios(file: impl AsFd) -> Result<Termios, Errno> {
    // SAFETY: the request writes a struct termios, which Termios begins with.
    unsafe { get(&file, TIOCGLCKTRMIOS) }
}

/// Sets [`locked_termios`].
///
/// # Errors
///
/// As [`termios`]; `EPERM` without `CAP_CHECKPOINT_RESTORE`.
pub fn lock_termios(file: impl AsFd, locked: &Termios) -> Result<(), Errno> {
    // SAFETY: the request reads a struct termios, which Termios begins with.
    from_behind(|| unsafe { set(&file, TIOCSLCKTRMIOS, locked) })
}

/// The size of the window.
///
/// # Errors
///
/// As [`termios`].
pub fn window_size(file: impl AsFd) -> Result<WindowSize, Errno> {
    // SAFETY: the request writes a struct winsize, which WindowSize is.
    unsafe { get(&file, TIOCGWINSZ) }
}

/// Sets the size of the window; its foreground group is told by `SIGWINCH`.
///
/// # Errors
///
/// As [`termios`].
pub fn set_window_size(file: impl AsFd, size: &WindowSize) -> Result<(), Errno> {
    // SAFETY: the request reads a struct winsize, which WindowSize is.
    unsafe { set(&file, TIOCSWINSZ, size) }
}

/// Which pseudo terminal this master is one end of: N of `/dev/pts/N`.
///
/// # Errors
///
/// `ENOTTY`: it is no master.
pub fn index(master: impl AsFd) -> Result<u32, Errno> {
    int(&master, TIOCGPTN).map(i32::cast_unsigned)
}

/// Whether the slave may not be opened yet (`unlockpt(3)`).
///
/// # Errors
///
/// As [`index`].
pub fn is_locked(master: impl AsFd) -> Result<bool, Errno> {
    int(&master, TIOCGPTLCK).map(|locked| locked != 0)
}

/// Sets [`is_locked`].
///
/// # Errors
///
/// As [`index`].
pub fn set_locked(master: impl AsFd, locked: bool) -> Result<(), Errno> {
    // SAFETY: the request reads one int.
    unsafe { set(&master, TIOCSPTLCK, &i32::from(locked)) }
}

/// Whether what is read is preceded by a byte that says what it is.
///
/// # Errors
///
/// As [`index`].
pub fn is_packet(master: impl AsFd) -> Result<bool, Errno> {
    int(&master, TIOCGPKT).map(|packet| packet != 0)
}

/// Sets [`is_packet`].
///
/// # Errors
///
/// As [`index`].
pub fn set_packet(master: impl AsFd, packet: bool) -> Result<(), Errno> {
    // SAFETY: the request reads one int.
    unsafe { set(&master, TIOCPKT, &i32::from(packet)) }
}

/// Whether nobody else may open the terminal.
///
/// # Errors
///
/// As [`termios`].
pub fn is_exclusive(file: impl AsFd) -> Result<bool, Errno> {
    int(&file, TIOCGEXCL).map(|exclusive| exclusive != 0)
}

/// Lets nobody else open the terminal, without `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// As [`termios`].
pub fn set_exclusive(file: impl AsFd) -> Result<(), Errno> {
    plain(&file, TIOCEXCL, 0).map(drop)
}

/// Stops output to this end, until somebody lets it go on in the same way
/// (`TCOOFF`).
///
/// # Errors
///
/// As [`termios`].
pub fn hold_output(file: impl AsFd) -> Result<(), Errno> {
    const TCOOFF: u64 = 0;
    from_behind(|| plain(&file, TCXONC, TCOOFF)).map(drop)
}

/// The number of the line discipline; 0 is the usual one (`N_TTY`).
///
/// # Errors
///
/// As [`termios`].
pub fn discipline(file: impl AsFd) -> Result<i32, Errno> {
    int(&file, TIOCGETD)
}

/// How many bytes can be read.
///
/// # Errors
///
/// As [`termios`].
pub fn readable(file: impl AsFd) -> Result<usize, Errno> {
    int(&file, TIOCINQ).map(|bytes| usize::try_from(bytes).unwrap_or(0))
}

/// The device behind `/dev/tty`, as it was when that was opened.
///
/// # Errors
///
/// As [`termios`].
pub fn real_device(file: impl AsFd) -> Result<DeviceId, Errno> {
    // new_encode_dev, which is how stat(2) packs it.
    int(&file, TIOCGDEV).map(|device| DeviceId::from_stat(device.cast_unsigned().into()))
}

/// The session that the slave of this master controls, and its foreground
/// group. Zero stands for none, or one of another pid namespace.
///
/// # Errors
///
/// As [`termios`].
pub fn controls(master: impl AsFd) -> Result<(Option<HostPid>, Option<HostPid>), Errno> {
    let session = match int(&master, TIOCGSID) {
        Ok(session) => session,
        Err(Errno::NOTTY) => return Ok((None, None)),
        Err(error) => return Err(error),
    };
    Ok((HostPid::from_raw(session), HostPid::from_raw(int(&master, TIOCGPGRP)?)))
}

/// Opens the slave of a master, without any path. It does not become anybody's
/// controlling terminal.
///
/// # Errors
///
/// `EIO`: it is locked.
pub fn open_slave(master: impl AsFd, flags: rustix::fs::OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags.difference(rustix::fs::OFlags::CLOEXEC) | rustix::fs::OFlags::NOCTTY;
    let raw = plain(&master, TIOCGPTPEER, flags.bits().into())?;
    // SAFETY: the kernel has just given this descriptor to this call alone;
    // descriptors are below 2^31.
    let file = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    // Asked for with the request, the flag would stay with the file.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::CLOEXEC)?;
    Ok(file)
}

/// Opens `path` as a process would that `terminal` controls: `/dev/tty` gives
/// the terminal then. Afterwards it controls nobody again.
///
/// # Errors
///
/// It controls somebody already, or cannot be opened.
pub fn open_as_controlled(
    terminal: BorrowedFd<'_>,
    path: &CStr,
    flags: rustix::fs::OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let (told, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let args = CloneArgs {
        // What the child opens is open here.
        flags: (CloneFlags::FILES | CloneFlags::CLEAR_SIGHAND).bits(),
        ..CloneArgs::default()
    };
    let mask = crate::clone::set_mask(SigSet::ALL);
    // SAFETY: `args` has the kernel's layout and is only read. Without
    // CLONE_VM the child goes on here with a copy of all memory, the stack too;
    // it has this one thread, so it must not touch what another might have
    // locked: it only calls `open_in_session`, which makes system calls and
    // never returns. No signal handler can run in it.
    let result = unsafe {
        let result =
            libc::syscall(libc::SYS_clone3, &raw const args, CloneArgs::SIZE as libc::c_ulong);
        if result == 0 {
            let (terminal, tell) = (terminal.as_raw_fd(), tell.as_raw_fd());
            open_in_session(terminal, path, flags.bits() as libc::c_int, tell);
        }
        result
    };
    let child = check(result);
    crate::clone::set_mask(mask);
    let child = child? as libc::pid_t;
    // SAFETY: no memory is involved, and the child is this call's own.
    check(unsafe { libc::syscall(libc::SYS_wait4, child, 0, libc::__WALL, 0) })?;
    drop(tell);
    let mut answer = [0; 4];
    if rustix::io::read(&told, &mut answer)? != answer.len() {
        return Err(Errno::IO);
    }
    match i32::from_ne_bytes(answer) {
        // SAFETY: the child has opened it in the fd table that it shared, and
        // nobody else has been told.
        fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        error => Err(Errno::from_raw_os_error(-error)),
    }
}

/// Writes to `tell` the descriptor of `path`, or an error below zero.
///
/// # Safety
///
/// For a process that has only this thread, and nothing to lose.
unsafe fn open_in_session(terminal: RawFd, path: &CStr, flags: libc::c_int, tell: RawFd) -> ! {
    // SAFETY: system calls only, which any thread may make at any time. They
    // read `path` and `answer`, and write to the C library's `errno` of this
    // thread. A leader that gives its terminal up sends SIGHUP to its group,
    // which is this process, and it blocks that.
    unsafe {
        let error = || -*libc::__errno_location();
        let mut answer = 0;
        if libc::syscall(libc::SYS_setsid) < 0
            || libc::syscall(libc::SYS_ioctl, terminal, SET_CONTROLLING, 0) < 0
        {
            answer = error();
        }
        if answer == 0 {
            answer =
                libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) as i32;
            if answer < 0 {
                answer = error();
            }
            libc::syscall(libc::SYS_ioctl, terminal, GIVE_UP_CONTROLLING, 0);
        }
        libc::syscall(libc::SYS_write, tell, &raw const answer, size_of_val(&answer));
        libc::_exit(0)
    }
}

/// Runs `act` while this thread is not stopped for changing a terminal that
/// another group is in the foreground of.
fn from_behind<T>(act: impl FnOnce() -> T) -> T {
    let old = crate::clone::set_mask(SigSet::ALL);
    let done = act();
    crate::clone::set_mask(old);
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, openpt};

    #[test]
    fn what_is_set_is_read_back() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        assert_eq!(is_locked(&master), Ok(true));
        set_locked(&master, false).unwrap();
        assert_eq!(is_locked(&master), Ok(false));
        let slave = open_slave(&master, rustix::fs::OFlags::RDWR).unwrap();
        let size = WindowSize { ws_row: 7, ws_col: 9, ws_xpixel: 70, ws_ypixel: 90 };
        set_window_size(&slave, &size).unwrap();
        assert_eq!(window_size(&master), Ok(size));
        let mut line = termios(&slave).unwrap();
        line.c_lflag ^= libc::ECHO;
        line.c_cc[libc::VINTR] = 7;
        set_termios(&master, &line).unwrap();
        assert_eq!(termios(&slave), Ok(line));
        set_packet(&master, true).unwrap();
        assert_eq!(is_packet(&master), Ok(true));
        set_exclusive(&slave).unwrap();
        assert_eq!(is_exclusive(&slave), Ok(true));
        let device = DeviceId::from_stat(rustix::fs::fstat(&slave).unwrap().st_rdev);
        assert_eq!(real_device(&slave), Ok(device));
        assert_eq!(device.minor, index(&master).unwrap());
        assert_eq!(controls(&master), Ok((None, None)));
        drop(master);
        assert_eq!(termios(&slave), Err(Errno::IO));
    }

    #[test]
    fn dev_tty_is_opened_for_another() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        set_locked(&master, false).unwrap();
        let slave = open_slave(&master, rustix::fs::OFlags::RDWR).unwrap();
        let flags = rustix::fs::OFlags::RDWR;
        let opened = open_as_controlled(slave.as_fd(), c"/dev/tty", flags).unwrap();
        let device = DeviceId::from_stat(rustix::fs::fstat(&slave).unwrap().st_rdev);
        assert_eq!(real_device(&opened), Ok(device));
        assert_eq!(controls(&master), Ok((None, None)));
        assert_eq!(
            open_as_controlled(slave.as_fd(), c"/nowhere", flags).map(drop),
            Err(Errno::NOENT)
        );
    }
}
