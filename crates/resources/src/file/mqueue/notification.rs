//! Who is told when a message comes into an empty queue (`mq_notify(2)`).
//!
//! The kernel forgets it when the process closes any descriptor of the queue.

use dormouse_image::proto::files::mqueue::MqueueNotifyEntry;
use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::{FdNum, HostPid, NsPid};
use dormouse_puppet::Batch;
use rustix::fs::{OFlags, fstat};

use super::inside::{COOKIE, Listener};
use crate::file::{CollectCx, Probe};
use crate::{Error, Result};

/// What a process has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The process.
    pub process: NsPid,
    /// A descriptor that it has on the queue.
    pub fd: FdNum,
    how: How,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// Nothing happens, but nobody else can ask (`SIGEV_NONE`).
    Nothing,
    Signal {
        number: u32,
        value: u64,
    },
    /// Some bytes come to a netlink socket: so the C library knows when to
    /// start a thread.
    Socket {
        fd: FdNum,
        cookie: [u8; COOKIE],
    },
}

const NONE: u32 = libc::SIGEV_NONE as u32;
const SIGNAL: u32 = libc::SIGEV_SIGNAL as u32;
const THREAD: u32 = libc::SIGEV_THREAD as u32;
/// `_NSIG`.
const LAST_SIGNAL: u32 = 64;

impl Notification {
    /// What `listener` has asked for, unless it is none of the tree's.
    pub(super) fn collect(
        cx: &CollectCx<'_>,
        probe: &Probe,
        listener: &Listener,
    ) -> Result<Option<Self>> {
        let refuse = |reason| Error::Unsupported {
            object: "a message queue",
            detail: probe.link.clone().into(),
            reason,
            hint: "let the program take back its mq_notify first",
        };
        let Listener { process, how, signal, value, socket } = listener;
        let Some((host, process)) = process.and_then(|host| Some((host, cx.ns_pid(host)?))) else {
            return Ok(None);
        };
        let fd = descriptor(host, |stat| {
            (stat.st_dev, stat.st_ino) == (probe.stat.st_dev, probe.stat.st_ino)
        })?;
        let fd = fd.ok_or_else(|| refuse("who is told of messages does not have it open"))?;
        let how = match (*how, socket) {
            (NONE, _) => How::Nothing,
            (SIGNAL, _) => How::Signal { number: *signal, value: *value },
            (THREAD, Some((inode, cookie))) => {
                // Sockets have numbers of their own, those that nobody has open none.
                let is_socket = |stat: rustix::fs::Stat| {
                    stat.st_mode & libc::S_IFMT == libc::S_IFSOCK && stat.st_ino == *inode
                };
                let fd = descriptor(host, is_socket)?
                    .ok_or_else(|| refuse("the socket that is told of messages is not open"))?;
                let cookie = cookie.as_slice().try_into().expect("so many bytes were read");
                How::Socket { fd, cookie }
            }
            _ => return Err(refuse("how its program is told of messages is unknown here")),
        };
        Ok(Some(Self { process, fd, how }))
    }

    pub(super) fn encode(&self) -> MqueueNotifyEntry {
        let Self { process, fd, how } = self;
        let (how, number, value, cookie) = match how {
            How::Nothing => (NONE, 0, 0, None),
            How::Signal { number, value } => (SIGNAL, *number, *value, None),
            How::Socket { fd, cookie } => (THREAD, fd.as_raw(), 0, Some(cookie.to_vec())),
        };
        let pid = process.as_raw().cast_unsigned();
        MqueueNotifyEntry { pid, fd: fd.as_raw(), how, number, value, cookie }
    }

    pub(super) fn decode(entry: &MqueueNotifyEntry) -> Option<Self> {
        let MqueueNotifyEntry { pid, fd, how, number, value, cookie } = entry;
        let how = match (*how, cookie) {
            (NONE, None) => How::Nothing,
            (SIGNAL, None) if *number <= LAST_SIGNAL => {
                How::Signal { number: *number, value: *value }
            }
            (THREAD, Some(cookie)) => {
                let cookie = cookie.as_slice().try_into().ok()?;
                How::Socket { fd: FdNum::from_raw(*number), cookie }
            }
            _ => return None,
        };
        let process = NsPid::from_raw(i32::try_from(*pid).ok()?)?;
        Some(Self { process, fd: FdNum::from_raw(*fd), how })
    }

    /// The descriptor of the socket, if there is one.
    #[must_use]
    pub fn socket(&self) -> Option<FdNum> {
        match self.how {
            How::Socket { fd, .. } => Some(fd),
            How::Nothing | How::Signal { .. } => None,
        }
    }

    /// Has the process ask for it again.
    pub fn register(&self, batch: &mut Batch) {
        // `struct sigevent`.
        let mut event = [0; 64];
        let mut put = |at: usize, bytes: &[u8]| event[at..at + bytes.len()].copy_from_slice(bytes);
        let (how, number) = match &self.how {
            How::Nothing => (NONE, 0),
            How::Signal { number, value } => {
                put(0, &value.to_ne_bytes());
                (SIGNAL, *number)
            }
            How::Socket { fd, .. } => (THREAD, fd.as_raw()),
        };
        put(8, &number.to_ne_bytes());
        put(12, &how.to_ne_bytes());
        let event = batch.data(&event);
        if let How::Socket { cookie, .. } = &self.how {
            let cookie = batch.data(cookie);
            batch.point(event, 0, cookie);
        }
        batch.call(libc::SYS_mq_notify, [self.fd.as_raw().into(), event.into()]);
    }
}

/// The first descriptor of a process on a file that is like this.
fn descriptor(process: HostPid, is_it: impl Fn(rustix::fs::Stat) -> bool) -> Result<Option<FdNum>> {
    let proc = ProcDir::open(process)?;
    for fd in proc.fd_numbers()? {
        let file = proc.open_fd(fd, OFlags::PATH)?;
        if is_it(fstat(&file).map_err(Error::kernel("fstat", "/proc/PID/fd"))?) {
            return Ok(Some(fd));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(how: How) -> Notification {
        Notification { process: NsPid::from_raw(7).unwrap(), fd: FdNum::from_raw(3), how }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for how in [
            How::Nothing,
            How::Signal { number: 64, value: u64::MAX },
            How::Socket { fd: FdNum::from_raw(9), cookie: [5; COOKIE] },
        ] {
            let notification = notification(how);
            assert_eq!(Notification::decode(&notification.encode()), Some(notification));
        }
    }

    #[test]
    fn nonsense_is_none() {
        let socket = How::Socket { fd: FdNum::from_raw(9), cookie: [5; COOKIE] };
        let good = notification(socket).encode();
        for spoil in [
            |entry: &mut MqueueNotifyEntry| entry.pid = 0,
            |entry: &mut MqueueNotifyEntry| entry.how = SIGNAL,
            |entry: &mut MqueueNotifyEntry| entry.how = 17,
            |entry: &mut MqueueNotifyEntry| entry.cookie = None,
            |entry: &mut MqueueNotifyEntry| entry.cookie = Some(vec![1]),
        ] {
            let mut entry = good.clone();
            spoil(&mut entry);
            assert_eq!(Notification::decode(&entry), None, "{entry:?}");
        }
        let mut signal = notification(How::Signal { number: 1, value: 0 }).encode();
        signal.number = 65;
        assert_eq!(Notification::decode(&signal), None);
    }
}
