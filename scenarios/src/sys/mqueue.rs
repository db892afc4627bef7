//! POSIX message queues (`mq_overview(7)`).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::done;

/// A description that is open on a queue.
pub(crate) struct Queue(OwnedFd);

/// A name that no other process gives a queue.
pub(crate) fn queue_name(what: &str) -> String {
    format!("/dormouse.{}.{what}", std::process::id())
}

fn c_string(name: &str) -> CString {
    CString::new(name).expect("it has no zero byte")
}

/// `mq_unlink(3)`.
pub(crate) fn unlink_queue(name: &str) -> io::Result<()> {
    // SAFETY: the name lives over the call.
    done(unsafe { libc::mq_unlink(c_string(name).as_ptr()) }).map(drop)
}

/// Why a scenario about queues cannot run here.
pub(crate) fn no_queues() -> Option<String> {
    let answer = Queue::open(&queue_name("none"), 0).err().and_then(|it| it.raw_os_error());
    (answer != Some(libc::ENOENT)).then(|| "POSIX message queues are not available".into())
}

impl Queue {
    /// `mq_open(3)` of one that is there.
    pub(crate) fn open(name: &str, flags: i32) -> io::Result<Self> {
        // SAFETY: the name lives over the call, and without O_CREAT there are no more arguments.
        done(unsafe { libc::mq_open(c_string(name).as_ptr(), flags) }).map(Self::of)
    }

    /// `mq_open(3)` of a new one, for so many messages of so many bytes, to read and to write.
    pub(crate) fn create(name: &str, flags: i32, (messages, len): (i64, i64)) -> io::Result<Self> {
        // SAFETY: a structure of numbers, of which zero is one.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        (attributes.mq_maxmsg, attributes.mq_msgsize) = (messages, len);
        let flags = flags | libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        let (name, mode) = (c_string(name), 0o600 as libc::mode_t);
        // SAFETY: name and attributes live over the call.
        done(unsafe { libc::mq_open(name.as_ptr(), flags, mode, &raw mut attributes) })
            .map(Self::of)
    }

    fn of(fd: i64) -> Self {
        // SAFETY: the kernel has just made it, and nobody else has it.
        Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }

    pub(crate) fn send(&self, message: &[u8], priority: u32) -> io::Result<()> {
        let (fd, at) = (self.0.as_raw_fd(), message.as_ptr().cast());
        // SAFETY: the message lives over the call.
        done(unsafe { libc::mq_send(fd, at, message.len(), priority) }).map(drop)
    }

    /// A message and its priority.
    pub(crate) fn receive(&self) -> io::Result<(Vec<u8>, u32)> {
        let [_, _, len, _] = self.attributes();
        let (mut message, mut priority) = (vec![0_u8; len as usize], 0);
        let (fd, at) = (self.0.as_raw_fd(), message.as_mut_ptr().cast());
        // SAFETY: there is room for as much as the queue takes.
        let len = unsafe { libc::mq_receive(fd, at, message.len(), &raw mut priority) };
        message.truncate(done(len as i64)? as usize);
        Ok((message, priority))
    }

    /// Flags, how many messages of how many bytes it takes, and how many are in it.
    pub(crate) fn attributes(&self) -> [i64; 4] {
        // SAFETY: a structure of numbers, of which zero is one.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the attributes live over the call.
        done(unsafe { libc::mq_getattr(self.0.as_raw_fd(), &raw mut attributes) })
            .expect("mq_getattr");
        let libc::mq_attr { mq_flags, mq_maxmsg, mq_msgsize, mq_curmsgs, .. } = attributes;
        [mq_flags, mq_maxmsg, mq_msgsize, mq_curmsgs]
    }

    /// `mq_notify(2)`: how, which signal or socket, and the value or where the bytes are that the
    /// socket is sent.
    pub(crate) fn notify(&self, how: i32, number: i32, value: usize) -> io::Result<()> {
        // SAFETY: a structure of numbers, of which zero is one.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        (event.sigev_notify, event.sigev_signo) = (how, number);
        event.sigev_value.sival_ptr = std::ptr::with_exposed_provenance_mut(value);
        // SAFETY: the event lives over the call, and so does what it points to.
        done(unsafe { libc::syscall(libc::SYS_mq_notify, self.0.as_raw_fd(), &raw const event) })
            .map(drop)
    }
}

impl From<Queue> for OwnedFd {
    fn from(queue: Queue) -> Self {
        queue.0
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
