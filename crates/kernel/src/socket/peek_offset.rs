//! `SO_PEEK_OFF`, moved for a while and set back, whatever happens.
//!
//! Messages behind the first can only be looked at by setting `SO_PEEK_OFF`,
//! which belongs to the socket: whoever has it would see it moved if this
//! process were killed in between. So a second process holds the socket
//! meanwhile, and sets it back when the first is gone.
//!
//! # Safety
//! The second process is forked from one that may have other threads, so it
//! does nothing but system calls, on buffers of its own stack, until it exits.
#![allow(unsafe_code)]

use super::SocketOption;
use super::message::Outgoing;
use crate::Errno;
use crate::sys::check;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const PEEK_OFF: SocketOption = SocketOption::of_socket(libc::SO_PEEK_OFF);

/// While it lives, `SO_PEEK_OFF` of a socket may be anything; then it is what
/// it was.
#[derive(Debug)]
pub struct PeekOffset<'a> {
    socket: BorrowedFd<'a>,
    before: i32,
}

impl<'a> PeekOffset<'a> {
    /// Has it set back, should this process end.
    ///
    /// # Errors
    /// The socket has no such option, or no process can be made.
    pub fn of(socket: BorrowedFd<'a>) -> Result<Self, Errno> {
        let before = PEEK_OFF.get(socket)?;
        tell(Some((socket, before)))?;
        Ok(Self { socket, before })
    }

    /// Has the next look see what is behind so many bytes.
    ///
    /// # Errors
    /// `EOVERFLOW`: no queue is that long.
    pub fn set(&self, offset: usize) -> Result<(), Errno> {
        PEEK_OFF.set(self.socket, i32::try_from(offset).map_err(|_| Errno::OVERFLOW)?)
    }
}

impl Drop for PeekOffset<'_> {
    fn drop(&mut self) {
        // What could be set can be set back.
        let _ = PEEK_OFF.set(self.socket, self.before);
        // If nobody listens, nobody is to be told.
        let _ = tell(None);
    }
}

thread_local! {
    /// The way to the second process, which is made when it is first needed
    /// and ends with the thread: to fork one for each socket would take longer
    /// than all the rest.
    static KEEPER: RefCell<Option<OwnedFd>> = const { RefCell::new(None) };
}

/// Tells the second process what to set back, or that nothing is to be; it
/// knows when this returns.
fn tell(what: Option<(BorrowedFd<'_>, i32)>) -> Result<(), Errno> {
    KEEPER.with_borrow_mut(|keeper| {
        let keeper = match keeper {
            Some(keeper) => keeper,
            none => none.insert(fork_keeper()?),
        };
        let (rights, value) = match &what {
            Some((socket, value)) => (std::slice::from_ref(socket), *value),
            None => (&[][..], 0),
        };
        let bytes = value.to_ne_bytes();
        let sent = Outgoing { bytes: &bytes, rights, ..Outgoing::default() }.send(&*keeper)?;
        let heard = recv(&*keeper, &mut [0; 1][..], RecvFlags::empty())?.0;
        if (sent, heard) == (bytes.len(), 1) { Ok(()) } else { Err(Errno::PIPE) }
    })
}

/// Makes the second process. It is nobody's child: whoever waits for children
/// here does not meet it.
fn fork_keeper() -> Result<OwnedFd, Errno> {
    let (near, far) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the child only makes system calls, and ends with one.
    let child = check(unsafe { libc::fork() }.into())?;
    if child == 0 {
        // SAFETY: as above.
        match unsafe { libc::fork() } {
            0 => keep(far.as_raw_fd()),
            // SAFETY: it ends, and nothing of this process is run on the way.
            result => unsafe { libc::_exit(i32::from(result < 0)) },
        }
    }
    drop(far);
    let mut status = 0;
    // SAFETY: the kernel writes an int.
    while let Err(error) = check(unsafe { libc::waitpid(child as i32, &raw mut status, 0) }.into())
    {
        if error != Errno::INTR {
            return Err(error);
        }
    }
    if status == 0 { Ok(near) } else { Err(Errno::AGAIN) }
}

/// What the second process does: keeps one socket at a time, and sets its
/// option back when there is nobody at the other end any more.
fn keep(channel: i32) -> ! {
    // SAFETY: descriptors here are this process's own copies. It wants none
    // but the channel, or it would keep alive what it knows nothing of, its
    // own channel's other end among it. A session of its own keeps it from
    // signals that are meant for a group.
    unsafe {
        libc::dup2(channel, 0);
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
        libc::setsid();
    }
    let mut kept: Option<(i32, i32)> = None;
    loop {
        let told = hear(&mut kept);
        if !told {
            if let Some((socket, value)) = kept {
                set(socket, value);
            }
            // SAFETY: it ends, and nothing of the first process is run.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Takes one message, and says that it did. `false`: nobody is there.
fn hear(kept: &mut Option<(i32, i32)>) -> bool {
    #[repr(align(8))]
    struct Control([u8; 32]);
    let (mut value, mut control) = ([0_u8; 4], Control([0; 32]));
    let mut part = libc::iovec { iov_base: value.as_mut_ptr().cast(), iov_len: value.len() };
    // SAFETY: a msghdr of zeros is a valid one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: every buffer in `header` is alive and as long as it says.
    let read = unsafe { libc::recvmsg(0, &raw mut header, 0) };
    // SAFETY: the address of this thread's errno.
    if read < 0 && unsafe { *libc::__errno_location() } == libc::EINTR {
        return true;
    }
    if read <= 0 {
        return false;
    }
    if let Some((socket, _)) = kept.take() {
        // SAFETY: a descriptor that only this function knows.
        unsafe { libc::close(socket) };
    }
    // A struct cmsghdr of 16 bytes, then one descriptor.
    if header.msg_controllen as usize >= 20 {
        let [_, _, _, _, a, b, c, d, ..] = control.0[12..] else { return false };
        *kept = Some((i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes(value)));
    }
    // SAFETY: one byte is read.
    unsafe { libc::send(0, value.as_ptr().cast(), 1, libc::MSG_NOSIGNAL) };
    true
}

fn set(socket: i32, value: i32) {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: four bytes are read.
    unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const value).cast(),
            len,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{PEEK_OFF, PeekOffset};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::{Duration, Instant};

    #[test]
    fn it_is_set_back() {
        let (one, _other) = UnixDatagram::pair().unwrap();
        PEEK_OFF.set(&one, 3).unwrap();
        for _ in 0..3 {
            let offset = PeekOffset::of(one.as_fd()).unwrap();
            offset.set(7).unwrap();
            assert_eq!(PEEK_OFF.get(&one), Ok(7));
            drop(offset);
            assert_eq!(PEEK_OFF.get(&one), Ok(3));
        }
    }

    #[test]
    fn it_is_set_back_when_whoever_moved_it_is_killed() {
        let (one, _other) = UnixDatagram::pair().unwrap();
        // SAFETY: the child makes system calls, and is killed.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let offset = PeekOffset::of(one.as_fd());
            let moved = offset.as_ref().is_ok_and(|offset| offset.set(7).is_ok());
            // SAFETY: a signal to this process; then an end without Drop.
            unsafe {
                if moved {
                    libc::raise(libc::SIGKILL);
                }
                libc::_exit(1);
            }
        }
        let mut status = 0;
        // SAFETY: the kernel writes an int.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status), "{status}");
        let started = Instant::now();
        while PEEK_OFF.get(&one) != Ok(-1) {
            assert!(started.elapsed() < Duration::from_secs(5), "it stays moved");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
