//! Tasks that wait in one epoll, or to send, in the order in which they would be woken.
//!
//! Who is stopped leaves the queue, and whoever waits first afterwards is woken
//! last, or first. So the queues are read before anybody is stopped, and the waiters are
//! let go one after the other.
//!
//! - Kernel object: `struct eventpoll.wq`
//! - Truth from: `ep_poll` in `fs/eventpoll.c`, which puts each waiter at the
//!   front; [`super::senders`]
//! - Without `CAP_BPF` and `CAP_PERFMON`, or without type information: they
//!   wait in the order in which the tree is let go

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use dormouse_kernel::kcmp::{self, Kcmp, Shared};
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::{BlockedIn, ProcDir};
use dormouse_kernel::{FdNum, HostPid};
use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, Numbers, OpenFiles, ReadError,
};

use super::senders::Senders;
use super::stale;
use super::traced::{Unreadable, numbers};
use crate::crew;

/// What comes of it if they cannot be read.
const LOST: &str = "who waits longest, in an epoll or to send, may not be woken in turn any more";

/// More tasks than there can be.
const MOST: usize = 1 << 22;

/// Offsets in bytes.
struct Layout {
    files: OpenFiles,
    numbers: Numbers,
    queue: usize,
    entry: usize,
    task: usize,
    senders: Senders,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let head = btf.structure("wait_queue_head")?;
        let entry = btf.structure("wait_queue_entry")?;
        Ok(Self {
            files: OpenFiles::new(btf)?,
            numbers: Numbers::new(btf)?,
            queue: btf.structure("eventpoll")?.offset("wq")? + head.offset("head")?,
            entry: entry.offset("entry")?,
            task: entry.offset("private")?,
            senders: Senders::new(btf)?,
        })
    }

    /// Who waits in an epoll, the newest first.
    fn waiters(
        &self,
        memory: &mut KernelMemory,
        epoll: Address,
    ) -> Result<Vec<HostPid>, ReadError> {
        let head = epoll + self.queue as u64;
        // They come and go meanwhile: what is torn ends somewhere.
        let links = memory.links(head, MOST)?;
        let found: Vec<_> =
            links.into_iter().filter_map(|link| link.checked_sub(self.entry as u64)).collect();
        let tasks = memory.words_behind(&found, self.task)?;
        Ok(numbers(&self.numbers, memory, &tasks)?.into_iter().flatten().collect())
    }

    /// Who waits in each of the epolls that tasks wait in, the oldest first.
    fn epolls(&self, memory: &mut KernelMemory, waiting: &[&Wait]) -> Vec<Vec<HostPid>> {
        let epolls: BTreeMap<_, _> =
            waiting.iter().map(|wait| ((wait.pid, wait.fd), wait.tid)).collect();
        let mut queues: BTreeMap<Address, Vec<HostPid>> = BTreeMap::new();
        for ((pid, fd), tid) in epolls {
            let Some(epoll) = epoll(pid, tid, fd) else { continue };
            let Ok(found) = self.files.private_data(memory, &[epoll.as_fd()]) else {
                continue;
            };
            for at in found {
                if !queues.contains_key(&at)
                    && let Ok(waiters) = self.waiters(memory, at)
                {
                    queues.insert(at, waiters);
                }
            }
        }
        let tids: BTreeSet<_> = waiting.iter().map(|wait| wait.tid).collect();
        let own = |waiters: Vec<HostPid>| {
            waiters.into_iter().rev().filter(|tid| tids.contains(tid)).collect()
        };
        queues.into_values().map(own).collect()
    }
}

/// A task that waits in an epoll, or to send.
#[derive(Clone, Copy, Debug)]
struct Wait {
    pid: HostPid,
    tid: HostPid,
    fd: FdNum,
    is_in_epoll: bool,
}

/// The tasks of a tree that wait in epolls in which others of it wait too: of
/// each epoll those first that came first. Likewise those that wait to send.
#[derive(Debug, Default)]
pub(crate) struct Queues(Vec<HostPid>);

impl Queues {
    /// Reads them, while the tree runs. Whoever comes or goes meanwhile has a
    /// place that nobody can tell.
    pub(super) fn read(Looked { waiting, .. }: &Looked) -> Self {
        let (waiting, sending): (Vec<&Wait>, Vec<&Wait>) =
            waiting.iter().partition(|wait| wait.is_in_epoll);
        // Numbers tell nothing: one process may have an epoll under several.
        if waiting.len() < 2 && sending.len() < 2 {
            return Self::default();
        }
        let (mut memory, layout) = match KernelMemory::open(Layout::new) {
            Ok(open) => open,
            Err(error) => {
                Unreadable::from(error).tell(LOST);
                return Self::default();
            }
        };
        let mut queues = layout.epolls(&mut memory, &waiting);
        let sending: Vec<_> = sending.iter().map(|wait| wait.tid).collect();
        queues.extend(layout.senders.queues(&mut memory, &sending));
        Self(queues.into_iter().filter(|waiters| waiters.len() > 1).flatten().collect())
    }

    /// Whether nobody waits together with others.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By task, its turn.
    pub(crate) fn turns(&self) -> BTreeMap<HostPid, u32> {
        self.0.iter().copied().zip(0..).collect()
    }
}

/// What there is to see of a tree that runs.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Those that may wait together with others.
    waiting: Vec<Wait>,
    /// Threads with children.
    pub(super) parents: BTreeSet<HostPid>,
    /// Processes in which the number with which a call waits may have been closed: by another
    /// thread, which may have ended, where that happens most.
    pub(super) suspicious: Vec<HostPid>,
    /// Processes of one thread, which waits with a file, that are not among those: their numbers may
    /// have been closed by a process that they share their fd table with.
    pub(super) waiting_alone: Vec<HostPid>,
    /// All processes, parents first.
    pub(super) processes: Vec<HostPid>,
    /// The calls in which threads were, as far as these were asked.
    pub(super) calls: Vec<Call>,
}

/// A call that a thread is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) pid: HostPid,
    pub(super) tid: HostPid,
    pub(super) number: u64,
    pub(super) args: [u64; 6],
}

/// Looks at the tree below `root`.
pub(super) fn look(root: HostPid) -> Looked {
    let (mut found, mut processes, mut next) = (Looked::default(), vec![root], 0);
    while let Some(&pid) = processes.get(next) {
        next += 1;
        // What has gone waits nowhere.
        let Ok(dir) = ProcDir::open(pid) else { continue };
        let tids = dir.tasks().unwrap_or_default();
        let may_wait = tids.len() < FEW || may_wait_together(&dir);
        let looked = crew::each(&tids, |&tid| {
            let may_wait = may_wait || has_own_files(pid, tid);
            let call = may_wait.then(|| dir.syscall_of(tid));
            (dir.children(tid).unwrap_or_default(), call)
        });
        let mut is_suspicious = tids.len() > 1;
        let mut waits_with_file = false;
        for (tid, (children, call)) in tids.into_iter().zip(looked) {
            if !children.is_empty() {
                found.parents.insert(tid);
            }
            processes.extend(children);
            let Some(Ok(BlockedIn::Syscall { number, args, .. })) = call else { continue };
            found.calls.push(Call { pid, tid, number, args });
            waits_with_file |= stale::waits_with_file(number, args);
            let is_in_epoll = is_wait(number);
            is_suspicious |= is_in_epoll;
            if is_in_epoll || is_sending(&dir, number, args[0]) {
                let fd = FdNum::from_raw(args[0] as u32);
                found.waiting.push(Wait { pid, tid, fd, is_in_epoll });
            }
        }
        if is_suspicious {
            found.suspicious.push(pid);
        } else if waits_with_file {
            found.waiting_alone.push(pid);
        }
    }
    found.processes = processes;
    found
}

/// So few threads are asked sooner than it is known that they cannot wait.
const FEW: usize = 16;

/// What the link of an epoll's descriptor reads as.
const EPOLL: &[u8] = b"anon_inode:[eventpoll]";

/// What that of a socket's begins with.
const SOCKET: &[u8] = b"socket:[";

/// More descriptors than are looked through.
const MANY: usize = 256;

/// Whether there may be an epoll, or a socket, among the descriptors of a process.
fn may_wait_together(dir: &ProcDir) -> bool {
    let Ok(fds) = dir.fd_numbers() else { return true };
    let is_one = |&fd: &FdNum| {
        dir.fd_link(fd).is_ok_and(|link| {
            let link = link.as_bytes();
            link == EPOLL || link.starts_with(SOCKET)
        })
    };
    fds.len() > MANY || fds.iter().any(is_one)
}

/// Whether a call sends to a socket, as far as that shows.
fn is_sending(dir: &ProcDir, number: u64, fd: u64) -> bool {
    match number.cast_signed() {
        libc::SYS_sendto | libc::SYS_sendmsg | libc::SYS_sendmmsg => true,
        libc::SYS_write | libc::SYS_writev => {
            let link = dir.fd_link(FdNum::from_raw(fd as u32));
            link.is_ok_and(|link| link.as_bytes().starts_with(SOCKET))
        }
        _ => false,
    }
}

/// Whether a thread may have other descriptors than its process.
fn has_own_files(pid: HostPid, tid: HostPid) -> bool {
    !kcmp::shared(pid, tid, Shared::Files).is_ok_and(Kcmp::is_same)
}

fn is_wait(number: u64) -> bool {
    [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2]
        .contains(&number.cast_signed())
}

/// The epoll itself. The table may be the thread's own.
fn epoll(pid: HostPid, tid: HostPid, fd: FdNum) -> Option<OwnedFd> {
    let task = if pid == tid { PidFd::open(pid) } else { PidFd::open_thread(tid) };
    task.or_else(|_| PidFd::open(pid)).ok()?.get_fd(fd).ok()
}

/// How long one waiter, and all together, are given until they wait, where
/// processors are busy with others.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Ticks of processor time after which a task has long returned.
const RETURNED: u64 = 2;

/// Gives a task that was let go the time to wait again, as the next must come
/// after it. One that has found something returns instead.
#[derive(Debug)]
pub(crate) struct Usher {
    end: Instant,
}

impl Usher {
    pub(crate) fn new() -> Self {
        Self { end: Instant::now() + PATIENCE[1] }
    }

    pub(crate) fn await_wait(&self, tid: HostPid) {
        let Ok(dir) = ProcDir::open(tid) else { return };
        // That of the thread alone.
        let ran = || dir.stat_of(tid).map(|stat| stat.cpu_ticks.0 + stat.cpu_ticks.1);
        let Ok(before) = ran() else { return };
        let end = self.end.min(Instant::now() + PATIENCE[0]);
        loop {
            match dir.syscall() {
                // Or in another call, which it cannot have come to but by returning.
                Ok(BlockedIn::Syscall { .. }) | Err(_) => return,
                _ if Instant::now() > end => return,
                _ if ran().is_ok_and(|now| now >= before + RETURNED) => return,
                Ok(_) => std::thread::sleep(Duration::from_micros(20)),
            }
        }
    }
}
