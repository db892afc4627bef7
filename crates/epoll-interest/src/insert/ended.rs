//! Items on signalfds as those leave behind who have added some and ended.
//!
//! Truth from: `signalfd_cleanup` (`fs/signalfd.c`) and `ep_poll_callback`
//! (`fs/eventpoll.c`): with the last of the process' signal handlers, each
//! item that hangs on them is told of a hang-up, and taken off.
//!
//! # Safety
//! The child has a copy of all memory, and one thread of those there may be: it
//! must not touch what another might have locked. So all it needs is made
//! before, it makes system calls only, and never returns. Its fd table is a
//! copy as well.

#![allow(unsafe_code)]

use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use super::{InsertError, Insertion};

/// An item that no signal reaches.
#[derive(Clone, Copy, Debug)]
pub struct EndedInsertion<'fd> {
    /// Where to put it.
    pub epoll: BorrowedFd<'fd>,
    /// The item, on a signalfd.
    pub item: Insertion<'fd>,
    /// A signal that the signalfd takes, and that is to be reported by the
    /// item: if it is a one-shot, it has fired then.
    pub fired_by: Option<i32>,
}

/// Adds items on signalfds, in this order, by a process that then ends. So they
/// wait for nobody's signals, and report those of whoever looks.
///
/// The end of that process makes all pending, but one-shots that have fired.
///
/// # Errors
/// [`InsertError`], with the index of the item for the epoll. Items before the
/// one that failed stay.
pub fn insert_by_ended(items: &[EndedInsertion<'_>]) -> Result<(), InsertError> {
    if items.is_empty() {
        return Ok(());
    }
    let (hear, tell) = io::pipe().map_err(InsertError::Process)?;
    let raw = |&EndedInsertion { epoll, item, fired_by }: &EndedInsertion<'_>| Raw {
        epoll: epoll.as_raw_fd(),
        file: item.file.as_raw_fd(),
        number: super::places::slot(item.fd),
        event: libc::epoll_event { events: item.events.bits(), u64: item.data },
        fired_by,
    };
    let raw: Vec<Raw> = items.iter().map(raw).collect();
    let mut reports = vec![libc::epoll_event { events: 0, u64: 0 }; items.len()];
    // SAFETY: see above.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            add_all(&raw, &mut reports, tell.as_raw_fd());
        }
        child
    };
    if child < 0 {
        return Err(InsertError::Process(io::Error::last_os_error()));
    }
    let failed = outcome(child, hear, tell).map_err(InsertError::Process)?;
    let Some((index, error)) = failed else { return Ok(()) };
    let source = io::Error::from_raw_os_error(error);
    let fd = items.get(index).map_or(crate::FdNumber::from_raw(0), |item| item.item.fd);
    Err(InsertError::Control { epoll: index, fd, source })
}

/// Waits for the child's end, and says which item it failed at, and why.
fn outcome(
    child: libc::pid_t,
    mut hear: PipeReader,
    tell: PipeWriter,
) -> io::Result<Option<(usize, i32)>> {
    drop(tell);
    let mut told = Vec::new();
    let heard = hear.read_to_end(&mut told);
    let mut status = 0;
    // SAFETY: the status is this frame's own, and the child nobody else's.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    heard?;
    match *told.as_slice() {
        [] if status == 0 => Ok(None),
        [a, b, c, d, e, f, g, h] => {
            let index = u32::from_ne_bytes([a, b, c, d]) as usize;
            Ok(Some((index, i32::from_ne_bytes([e, f, g, h]))))
        }
        _ => Err(io::Error::other("a process that adds items was killed")),
    }
}

/// All that the child needs of an item.
struct Raw {
    epoll: RawFd,
    file: RawFd,
    number: RawFd,
    event: libc::epoll_event,
    fired_by: Option<i32>,
}

/// All that the child does.
///
/// # Safety
/// For a process that has only this thread, and nothing to lose.
unsafe fn add_all(items: &[Raw], reports: &mut [libc::epoll_event], tell: RawFd) -> ! {
    let all = u64::MAX;
    // SAFETY: system calls only, on memory of this process that nobody else
    // writes to, and on its own fd table; the C library's wrappers take no locks.
    unsafe {
        // The C library would leave out signals of its own.
        let set = libc::SIG_SETMASK;
        libc::syscall(libc::SYS_rt_sigprocmask, set, &raw const all, 0, size_of_val(&all));
        for (index, item) in items.iter().enumerate() {
            if add(item, reports) < 0 {
                let error = *libc::__errno_location();
                let mut told = [0; 8];
                told[..4].copy_from_slice(&(index as u32).to_ne_bytes());
                told[4..].copy_from_slice(&error.to_ne_bytes());
                libc::write(tell, told.as_ptr().cast(), told.len());
                libc::_exit(1);
            }
        }
        libc::_exit(0);
    }
}

/// Adds one; negative if that fails. Its number is what it was afterwards.
///
/// # Safety
/// As [`add_all`].
unsafe fn add(item: &Raw, reports: &mut [libc::epoll_event]) -> i64 {
    let Raw { epoll, file, number, mut event, fired_by } = *item;
    // SAFETY: as there; the kernel writes no more reports than there is room for.
    unsafe {
        let kept = libc::fcntl(number, libc::F_DUPFD, 0);
        let epoll = if epoll == number { kept } else { epoll };
        let file = if file == number { kept } else { file };
        if libc::dup2(file, number) < 0 {
            return -1;
        }
        if let Some(signal) = fired_by {
            let (pid, tid) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
            if libc::syscall(libc::SYS_tgkill, pid, tid, signal) < 0 {
                return -1;
            }
        }
        let added = libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, number, &raw mut event);
        if added < 0 {
            return -1;
        }
        if let Some(signal) = fired_by {
            let most = reports.len().min(i32::MAX as usize / size_of_val(&event)) as libc::c_int;
            libc::epoll_wait(epoll, reports.as_mut_ptr(), most, 0);
            let own = 1_u64 << (signal - 1);
            let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let (own, at_once, len) = (&raw const own, &raw const at_once, size_of::<u64>());
            libc::syscall(libc::SYS_rt_sigtimedwait, own, 0, at_once, len);
        }
        if kept < 0 {
            libc::close(number);
        } else {
            libc::dup2(kept, number);
            libc::close(kept);
        }
        0
    }
}
