//! A thread with an fd table of its own, in which any file can be put under
//! any number.
//!
//! # Safety
//! `unshare(CLONE_FILES)` gives the calling thread a copy of the process' fd
//! table. From then on its system calls see the copy, and what they open,
//! replace or close there touches nobody else: so a bare number is no claim on
//! a descriptor that some other part of the program owns. The thread borrows
//! the descriptors it works with and owns none, so nothing is closed through a
//! number that means something else in the copy. When the thread ends, the
//! copy goes with it.

#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::panic;
use std::thread;

use rustix::cmsg_space;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::event::Events;

/// A number in the private table.
pub(crate) type Slot = i32;

/// The calling thread's own fd table. Not `Send`: it is that thread's.
pub(crate) struct PrivateTable(PhantomData<*const ()>);

/// As many files as one message can bring (`SCM_MAX_FD`, `include/net/scm.h`).
pub(crate) const MOST_RIGHTS: usize = 253;

/// What to do with an item (`epoll_ctl(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Add,
    Modify,
}

/// What `epoll_wait` reports.
pub(crate) type Report = libc::epoll_event;

/// Runs `work` on a thread with its own copy of the fd table, and waits until
/// that copy is gone.
pub(crate) fn with_private_table<T: Send>(
    work: impl FnOnce(&mut PrivateTable) -> T + Send,
) -> io::Result<T> {
    let enter = move || {
        // SAFETY: the thread was made for this; all it does from here on is
        // `work`, which sees the copy only through `PrivateTable`.
        if unsafe { libc::unshare(libc::CLONE_FILES) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let result = work(&mut PrivateTable(PhantomData));
        // A thread counts as ended before its table is gone, and a file that
        // is about to be closed must not be held a moment longer by a copy.
        // SAFETY: closes what is in this thread's copy of the table.
        if unsafe { libc::close_range(0, libc::c_uint::MAX, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(result)
    };
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("epoll-insert".to_owned());
        match builder.spawn_scoped(scope, enter)?.join() {
            Ok(result) => result,
            Err(payload) => panic::resume_unwind(payload),
        }
    })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl PrivateTable {
    /// `to` becomes another number for what `from` is, whatever it was.
    pub(crate) fn copy_to(&mut self, from: Slot, to: Slot) -> io::Result<()> {
        // SAFETY: replaces a number in this thread's copy of the table.
        check(unsafe { libc::dup2(from, to) }).map(drop)
    }

    /// A free number for what `from` is.
    pub(crate) fn copy(&mut self, from: Slot) -> io::Result<Slot> {
        // SAFETY: takes a number in this thread's copy of the table.
        check(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, 0) })
    }

    /// Puts what `order` lists under 0, 1, 2 and so on, and nothing else anywhere, if it can be sent from
    /// one number to the other; says whether that was done.
    pub(crate) fn lay_out(&mut self, order: &[Slot]) -> io::Result<bool> {
        let kind = SocketType::SEQPACKET;
        let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let Ok((sender, receiver)) = pair else { return Ok(false) };
        let above = Slot::try_from(order.len()).unwrap_or(Slot::MAX);
        let moved = |socket: OwnedFd| fcntl_dupfd_cloexec(socket, above);
        let (Ok(sender), Ok(receiver)) = (moved(sender), moved(receiver)) else { return Ok(false) };
        for some in order.chunks(MOST_RIGHTS) {
            // SAFETY: the caller lists numbers that are open here, and nothing closes them meanwhile.
            let borrow = |&slot: &Slot| unsafe { BorrowedFd::borrow_raw(slot) };
            let files: Vec<_> = some.iter().map(borrow).collect();
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_RIGHTS))];
            let mut rights = SendAncillaryBuffer::new(&mut space);
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            if !rights.push(SendAncillaryMessage::ScmRights(&files))
                || sendmsg(&sender, &[], &mut rights, flags).is_err()
            {
                return Ok(false);
            }
        }
        let (low, high) = (sender.as_raw_fd(), receiver.as_raw_fd());
        let (low, high) = (low.min(high).unsigned_abs(), low.max(high).unsigned_abs());
        for (first, last) in [(0, low - 1), (low + 1, high - 1), (high + 1, libc::c_uint::MAX)] {
            if first <= last {
                // SAFETY: closes what is in this thread's copy of the table, but for the sockets.
                check(unsafe { libc::close_range(first, last, 0) })?;
            }
        }
        let mut next = 0;
        for _ in order.chunks(MOST_RIGHTS) {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_RIGHTS))];
            let mut rights = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            recvmsg(&receiver, &mut [], &mut rights, flags)?;
            for message in rights.drain() {
                let RecvAncillaryMessage::ScmRights(files) = message else { continue };
                for file in files {
                    // From now on it is of the table, which goes with the thread.
                    if file.into_raw_fd() != next {
                        return Err(io::Error::from_raw_os_error(libc::EMFILE));
                    }
                    next += 1;
                }
            }
        }
        if next == above { Ok(true) } else { Err(io::Error::from_raw_os_error(libc::EMFILE)) }
    }

    /// Has a signal wait for this thread, until it ends.
    pub(crate) fn await_signal(&mut self, signal: i32) -> io::Result<()> {
        // SAFETY: the sets are this frame's own; the thread blocks all signals before it is sent one,
        // and has no handlers or state of its own that this could reach.
        unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
            let sent = libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
            check(sent as libc::c_int).map(drop)
        }
    }

    /// Adds or changes the item (what `target` is, `target`).
    pub(crate) fn control(
        &mut self,
        epoll: Slot,
        change: Change,
        target: Slot,
        events: Events,
        data: u64,
    ) -> io::Result<()> {
        let operation = match change {
            Change::Add => libc::EPOLL_CTL_ADD,
            Change::Modify => libc::EPOLL_CTL_MOD,
        };
        let mut event = libc::epoll_event { events: events.bits(), u64: data };
        // SAFETY: the event outlives the call.
        check(unsafe { libc::epoll_ctl(epoll, operation, target, &raw mut event) }).map(drop)
    }

    /// Takes out what is to be reported, into `reports`, at most its length,
    /// and says how many that were. Does not block.
    pub(crate) fn wait(&mut self, epoll: Slot, reports: &mut [Report]) -> io::Result<usize> {
        let most = reports.len().min(i32::MAX as usize / size_of::<Report>()) as libc::c_int;
        loop {
            // SAFETY: the kernel writes at most `most` reports.
            let result = check(unsafe { libc::epoll_wait(epoll, reports.as_mut_ptr(), most, 0) });
            match result {
                Ok(count) => return Ok(count.unsigned_abs() as usize),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Which of [`Events::CONDITIONS`] each slot's file reports now.
    pub(crate) fn conditions(&mut self, slots: &[Slot]) -> io::Result<Vec<Events>> {
        // `poll(2)` refuses more descriptors than RLIMIT_NOFILE, which is
        // never lowered below this in practice; the rest is just more calls.
        const MOST: usize = 256;
        let mut all = Vec::with_capacity(slots.len());
        for some in slots.chunks(MOST) {
            let mut asked: Vec<_> = some
                .iter()
                .map(|&fd| libc::pollfd {
                    fd,
                    events: Events::CONDITIONS.bits() as i16,
                    revents: 0,
                })
                .collect();
            // SAFETY: the array is as long as it is said to be. With no
            // timeout the call is not interrupted.
            check(unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, 0) })?;
            all.extend(asked.iter().map(|asked| {
                Events::from_bits_retain(u32::from(asked.revents.cast_unsigned()))
                    & Events::CONDITIONS
            }));
        }
        Ok(all)
    }
}
