//! A process that puts TCP connections in order should its maker die.
#![allow(unsafe_code)]

use std::io::{PipeWriter, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::set_mask;
use crate::Errno;
use crate::signal::SigSet;
use crate::sys::check;
use crate::tcp::Repair;

/// What is to be done if the maker ends without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// No connection is to be left under repair.
    EndRepair,
    /// And a message is to be sent.
    EndRepairAndSend,
    /// Nobody has the connections any more: they are to be closed under
    /// repair, so that their peers hear nothing.
    CloseSilently,
}

/// A child of this process that has duplicates of its sockets.
///
/// When it is dropped, the child does its [`Duty`] and ends.
#[derive(Debug)]
pub struct Custodian {
    pid: Pid,
    tell: Option<PipeWriter>,
}

/// A socket, and its `SO_REUSEADDR` when it is not under repair.
#[derive(Clone, Copy, Debug)]
pub struct Ward<'a> {
    /// The socket.
    pub socket: BorrowedFd<'a>,
    /// The option.
    pub reuse: bool,
}

/// All that the child needs, made before it is.
struct Charge<'a> {
    sockets: Vec<(RawFd, libc::c_int)>,
    message: (RawFd, &'a [u8]),
    hear: RawFd,
    /// Ranges of descriptors that it has no use for.
    unneeded: Vec<(u32, u32)>,
}

impl Custodian {
    /// Makes the child, for these sockets, and with `message` to be sent over
    /// `over` if that becomes its duty.
    ///
    /// # Errors
    /// There is no pipe, or no process.
    pub fn appoint(
        wards: &[Ward<'_>],
        over: BorrowedFd<'_>,
        message: &[u8],
    ) -> Result<Self, Errno> {
        let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let (hear, tell) = std::io::pipe().map_err(failed)?;
        let sockets = wards.iter().map(|ward| (ward.socket.as_raw_fd(), ward.reuse.into()));
        let mut charge = Charge {
            sockets: sockets.collect(),
            message: (over.as_raw_fd(), message),
            hear: hear.as_raw_fd(),
            unneeded: Vec::new(),
        };
        let mut kept: Vec<u32> =
            charge.sockets.iter().map(|&(socket, _)| socket.cast_unsigned()).collect();
        kept.extend([charge.message.0, charge.hear].map(RawFd::cast_unsigned));
        kept.sort_unstable();
        let mut next = 0;
        for number in kept {
            if next < number {
                charge.unneeded.push((next, number - 1));
            }
            next = number + 1;
        }
        charge.unneeded.push((next, u32::MAX));
        let mask = set_mask(SigSet::ALL);
        // SAFETY: the child has a copy of all memory, and this one thread: it
        // must not touch what another might have locked. It only calls
        // `attend`, which makes system calls and never returns; no signal
        // handler can run in it.
        let forked = check(i64::from(unsafe {
            let forked = libc::fork();
            if forked == 0 {
                attend(&charge);
            }
            forked
        }));
        set_mask(mask);
        let pid = i32::try_from(forked?).ok().and_then(Pid::from_raw);
        Ok(Self { pid: pid.expect("the kernel returns a pid"), tell: Some(tell) })
    }

    /// Changes its duty, which at first is [`Duty::EndRepair`].
    pub fn charge(&mut self, duty: Duty) {
        // If the child has been killed, there is nobody to tell.
        let _ = self.tell.as_mut().map(|tell| tell.write_all(&[duty as u8]));
    }
}

impl Drop for Custodian {
    fn drop(&mut self) {
        self.tell = None;
        while let Err(Errno::INTR) = waitpid(Some(self.pid), WaitOptions::empty()) {}
    }
}

/// All that the child does.
///
/// # Safety
///
/// For a process that has only this thread, and nothing to lose.
unsafe fn attend(charge: &Charge<'_>) -> ! {
    let mut duty = Duty::EndRepair as u8;
    // SAFETY: system calls only, which any thread may make at any time, on
    // memory of this process that nobody else writes to; the C library's
    // wrappers of these take no locks.
    unsafe {
        // Whoever kills the group of its maker is not to meet it.
        libc::setsid();
        for &(first, last) in &charge.unneeded {
            libc::syscall(libc::SYS_close_range, first, last, 0);
        }
        while libc::read(charge.hear, (&raw mut duty).cast(), 1) == 1 {}
        let set = |socket, level, name, value: libc::c_int| {
            let len = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(socket, level, name, (&raw const value).cast(), len);
        };
        for &(socket, reuse) in &charge.sockets {
            let silently = duty == Duty::CloseSilently as u8;
            let repair = if silently { Repair::On } else { Repair::OffSilently };
            set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, repair.raw());
            if !silently {
                set(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, reuse);
            }
        }
        if duty == Duty::EndRepairAndSend as u8 {
            let (socket, message) = charge.message;
            libc::send(socket, message.as_ptr().cast(), message.len(), 0);
        }
        libc::_exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Custodian, Duty, Ward};
    use crate::netfilter::LockTable;
    use crate::socket::SocketOption;
    use crate::tcp::{Repair, repair};
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    fn appoint(socket: &TcpStream) -> Custodian {
        let over = LockTable::removal_socket().unwrap();
        let ward = Ward { socket: socket.as_fd(), reuse: true };
        Custodian::appoint(&[ward], over.as_fd(), &[]).unwrap()
    }

    #[test]
    fn repair_ends_with_the_maker() {
        let (mut one, mut other) = pair();
        let reuse = SocketOption::of_socket(libc::SO_REUSEADDR);
        let custodian = appoint(&one);
        repair(&one, Repair::On).unwrap();
        assert!(one.write_all(b"x").is_err());
        drop(custodian);
        assert_eq!(reuse.get(&one), Ok(1));
        one.write_all(b"x").unwrap();
        other.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn a_connection_is_closed_silently() {
        let (one, mut other) = pair();
        let mut custodian = appoint(&one);
        custodian.charge(Duty::CloseSilently);
        // The custodian has another descriptor, so this closes nothing.
        drop(one);
        drop(custodian);
        other.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
