//! Calls that wait with a file which their descriptor's number does not stand for any more.
//!
//! A call holds its file until it returns, whatever becomes of the number meanwhile. But one that was
//! interrupted is made again by the number. So they are looked for before anybody is stopped: a call
//! that has yet to put its file has the address of it on its stack, where the call that is made again
//! would look in the table.
//!
//! - Kernel object: `struct pt_regs` and `struct fd` on the stack of a sleeping task, `struct fdtable`
//! - Truth from: `fdget` and `fdput` in `include/linux/file.h`, whose low bits say how to put it;
//!   `sockfd_lookup_light` in `net/socket.c`, which keeps the socket in its place;
//!   `arch/x86/entry/entry_64.S`: `ax` is `-ENOSYS` until the call returns
//! - Not seen: `poll(2)` and `select(2)`, which look their numbers up again when they are made again: what
//!   only such a call holds is closed then, and its items are gone from all epolls. Nor calls but
//!   `epoll_wait(2)` of a process of one thread, unless its fd table is that of the first thread of another
//!   process of the tree
//! - Without `CAP_BPF` and `CAP_PERFMON`, or without type information: only numbers that
//!   are closed are noticed

use std::os::fd::AsFd;

use dormouse_kernel::io_uring::ENTER_REGISTERED_RING;
use dormouse_kernel::kcmp::Shared;
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::{self, BlockedIn, ProcDir, TaskState};
use dormouse_kernel::{Errno, FdNum, HostPid};
use dormouse_resources::task::Refusal;
use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, Numbers, OpenFiles, ReadError, Tasks,
};
use tracing::debug;

use super::queues::{self, Looked};
use super::sharing::{Hint, Sharing};
use super::stacks::{STACK, Stacks};
use super::traced::{Unreadable, numbers, word};
use crate::cause::At;
use crate::{Error, Phase};

/// What comes of it if they cannot be read.
const LOST: &str =
    "calls that wait with a file whose number stands for another by now go on in that";

/// More tasks than there can be.
const MOST: usize = 1 << 22;
/// Tasks that are looked at together.
const SOME: usize = 64;
/// How often what changes meanwhile is read.
const TRIES: usize = 4;

/// Refuses a tree in which a call waits that could not be made again.
pub(super) fn check(looked: &Looked) -> Result<(), Error> {
    let sharing = with_shared_tables(looked);
    if looked.suspicious.is_empty() && sharing.is_empty() {
        return Ok(());
    }
    let found = match KernelMemory::open(Layout::new) {
        Ok((mut memory, layout)) => {
            let mut suspicious = looked.suspicious.iter().chain(&sharing);
            suspicious.find_map(|&pid| layout.stale_of(&mut memory, pid))
        }
        Err(error) => {
            Unreadable::from(error).tell(LOST);
            looked.calls.iter().find_map(closed)
        }
    };
    match found {
        None => Ok(()),
        Some(Stale { pid, tid, fd }) => {
            let refused = Refusal::StaleNumber.error(format!("of tid {tid}"));
            Err(refused).of_fd(Phase::Freeze, pid, Some(fd))
        }
    }
}

/// Those processes of one thread that wait with a file and have one fd table with another process of the
/// tree. If that cannot be told, because one has gone, it may be all.
fn with_shared_tables(looked: &Looked) -> Vec<HostPid> {
    let alone = &looked.waiting_alone;
    if alone.is_empty() || looked.processes.len() < 2 {
        return Vec::new();
    }
    let processes = looked.processes.iter().map(|&pid| (pid, Hint::None));
    let Ok(tables) = Sharing::find(processes, Shared::Files) else { return alone.clone() };
    let users = tables.users();
    alone.iter().copied().filter(|&pid| users[tables.number(pid)] > 1).collect()
}

/// A thread that waits so, and with which number.
struct Stale {
    pid: HostPid,
    tid: HostPid,
    fd: FdNum,
}

/// The descriptors that a call with these arguments waits with.
fn descriptors(number: u64, args: [u64; 6]) -> impl Iterator<Item = FdNum> {
    let places: &[usize] = match number.cast_signed() {
        libc::SYS_fcntl
            if ![libc::F_SETLKW, libc::F_OFD_SETLKW].contains(&(args[1] as u32).cast_signed()) =>
        {
            &[]
        }
        libc::SYS_io_uring_enter if args[3] as u32 & ENTER_REGISTERED_RING != 0 => &[],
        libc::SYS_epoll_wait
        | libc::SYS_epoll_pwait
        | libc::SYS_epoll_pwait2
        | libc::SYS_io_uring_enter
        | libc::SYS_read
        | libc::SYS_readv
        | libc::SYS_pread64
        | libc::SYS_preadv
        | libc::SYS_preadv2
        | libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_pwrite64
        | libc::SYS_pwritev
        | libc::SYS_pwritev2
        | libc::SYS_recvfrom
        | libc::SYS_recvmsg
        | libc::SYS_recvmmsg
        | libc::SYS_sendto
        | libc::SYS_sendmsg
        | libc::SYS_sendmmsg
        | libc::SYS_accept
        | libc::SYS_accept4
        | libc::SYS_connect
        | libc::SYS_ioctl
        | libc::SYS_fcntl
        | libc::SYS_flock
        | libc::SYS_mq_timedsend
        | libc::SYS_mq_timedreceive
        | libc::SYS_vmsplice => &[0],
        libc::SYS_sendfile | libc::SYS_tee => &[0, 1],
        libc::SYS_splice => &[0, 2],
        _ => &[],
    };
    places.iter().map(move |&place| FdNum::from_raw(args[place] as u32))
}

/// Whether a call with these arguments waits with a file.
pub(super) fn waits_with_file(number: u64, args: [u64; 6]) -> bool {
    descriptors(number, args).next().is_some()
}

/// The closed number that a call waits with, as far as `/proc` tells.
fn closed(call: &queues::Call) -> Option<Stale> {
    let &queues::Call { pid, tid, number, args } = call;
    let dir = ProcDir::open(pid).and_then(|dir| dir.task(tid)).ok()?;
    let is_closed =
        |fd| matches!(dir.fd_link(fd), Err(proc::Error::Io { source: Errno::NOENT, .. }));
    let fd = descriptors(number, args).find(|&fd| is_closed(fd))?;
    let sleeps = dir.stat().is_ok_and(|stat| stat.state == TaskState::Sleeping);
    let still = |now| matches!(now, BlockedIn::Syscall { number: n, args: a, .. } if (n, a) == (number, args));
    (sleeps && dir.syscall().is_ok_and(still)).then_some(Stale { pid, tid, fd })
}

/// Offsets in bytes.
struct Layout {
    tasks: Tasks,
    files: OpenFiles,
    numbers: Numbers,
    stacks: Stacks,
    signal: usize,
    threads: usize,
    thread: usize,
    status: usize,
    switches: [usize; 2],
}

/// A call that seems to wait with another file than its number stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Suspect {
    task: Address,
    number: u64,
    args: [u64; 6],
    fd: FdNum,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let task = btf.structure("task_struct")?;
        let (info_at, info) = task.member("thread_info")?;
        Ok(Self {
            tasks: Tasks::new(btf)?,
            files: OpenFiles::new(btf)?,
            numbers: Numbers::new(btf)?,
            stacks: Stacks::new(btf)?,
            signal: task.offset("signal")?,
            threads: btf.structure("signal_struct")?.offset("thread_head")?,
            thread: task.offset("thread_node")?,
            status: info_at + info.offset("status")?,
            switches: [task.offset("nvcsw")?, task.offset("nivcsw")?],
        })
    }

    /// The first thread of a process that waits so.
    fn stale_of(&self, memory: &mut KernelMemory, pid: HostPid) -> Option<Stale> {
        let pidfd = PidFd::open(pid).ok()?;
        let dir = ProcDir::open(pid).ok()?;
        let found = (0..TRIES).find_map(|_| self.suspects(memory, &pidfd).ok());
        if found.is_none() {
            debug!(%pid, "its threads never stood still");
        }
        let mut found = found.unwrap_or_default().into_iter();
        found.find_map(|suspect| {
            let tid = self.confirm(memory, &dir, suspect).unwrap_or_else(|error| {
                debug!(%pid, %error, "a thread cannot be looked at");
                None
            });
            Some(Stale { pid, tid: tid?, fd: suspect.fd })
        })
    }

    fn suspects(
        &self,
        memory: &mut KernelMemory,
        pidfd: &PidFd,
    ) -> Result<Vec<Suspect>, ReadError> {
        let leader = self.tasks.of(memory, pidfd.as_fd())?;
        let head = memory.word(leader + self.signal as u64)? + self.threads as u64;
        let links = memory.links(head, MOST)?;
        let tasks: Vec<_> =
            links.iter().filter_map(|link| link.checked_sub(self.thread as u64)).collect();
        let mut suspects = Vec::new();
        for some in tasks.chunks(SOME) {
            match self.look(memory, some) {
                // Who ends meanwhile has no stack any more.
                Err(ReadError::Fault) => {
                    for task in some {
                        suspects.extend(self.look(memory, &[*task]).unwrap_or_default());
                    }
                }
                found => suspects.extend(found?),
            }
        }
        Ok(suspects)
    }

    /// The suspects among some tasks.
    fn look(
        &self,
        memory: &mut KernelMemory,
        tasks: &[Address],
    ) -> Result<Vec<Suspect>, ReadError> {
        let bottoms = self.stacks.bottoms(memory, tasks)?;
        let tops: Vec<_> = bottoms.iter().map(|bottom| bottom + STACK - TOP as u64).collect();
        let tops = memory.read(&tops, TOP)?;
        let calls = tasks.iter().zip(tops.chunks_exact(TOP)).flat_map(|(&task, top)| {
            let (number, args) = call(top).unzip();
            let fds = number.zip(args).map(|(number, args)| {
                descriptors(number, args).map(move |fd| Suspect { task, number, args, fd })
            });
            fds.into_iter().flatten()
        });
        let calls: Vec<_> = calls.collect();
        let slots: Vec<_> = calls.iter().map(|call| (call.task, call.fd.as_raw())).collect();
        let files = self.files.behind(memory, &slots)?;
        let open: Vec<_> = files.iter().copied().filter(|&file| file != 0).collect();
        let mut kept = self.files.kept_for(memory, &open)?.into_iter();
        let mut suspects = Vec::new();
        for (call, file) in calls.into_iter().zip(files) {
            let held = (file != 0).then(|| kept.next()).flatten();
            if !self.holds(memory, call.task, file, held)? {
                suspects.push(call);
            }
        }
        Ok(suspects)
    }

    /// Whether a task has a file, or what that keeps, on its stack.
    fn holds(
        &self,
        memory: &mut KernelMemory,
        task: Address,
        file: Address,
        kept: Option<Address>,
    ) -> Result<bool, ReadError> {
        /// Of `struct fd`.
        const FLAGS: u64 = 7;
        if file == 0 {
            return Ok(false);
        }
        let (_, stack) = self.stacks.live(memory, task)?;
        let words = (0..stack.len() / 8).map(|at| word(&stack, at * 8));
        let is_one = |word: u64| word & !FLAGS == file || Some(word) == kept.filter(|&at| at != 0);
        Ok(words.into_iter().any(is_one))
    }

    /// The thread that waits so, if it slept all the time while it was looked at.
    fn confirm(
        &self,
        memory: &mut KernelMemory,
        dir: &ProcDir,
        suspect: Suspect,
    ) -> Result<Option<HostPid>, ReadError> {
        /// `TS_COMPAT`: a call of the 32-bit kind, with other numbers.
        const COMPAT: u64 = 2;
        /// `PF_IO_WORKER`: see [`super::freeze`].
        const IO_WORKER: u32 = 0x10;
        let Suspect { task, number, args, .. } = suspect;
        let Some(tid) = numbers(&self.numbers, memory, &[task])?[0] else { return Ok(None) };
        let switches = self.switches.map(|at| task + at as u64);
        for _ in 0..TRIES {
            let before = memory.words(&switches)?;
            let is_suspect = self.look(memory, &[task])?.contains(&suspect);
            let is_foreign = memory.word(task + self.status as u64)? & COMPAT != 0;
            let now = dir.syscall_of(tid);
            let is_in_call = matches!(now, Ok(BlockedIn::Syscall { number: n, args: a, .. })
                if (n, a) == (number, args));
            let sleeps = dir
                .stat_of(tid)
                .is_ok_and(|stat| stat.state == TaskState::Sleeping && stat.flags & IO_WORKER == 0);
            if memory.words(&switches)? == before {
                let is_stale = is_suspect && !is_foreign && is_in_call && sleeps;
                return Ok(is_stale.then_some(tid));
            }
        }
        Ok(None)
    }
}

/// What is read of the top of a stack, in bytes.
const TOP: usize = 256;

/// The call that a task is in, by the top of its stack, and its arguments. `None` if that is not
/// in one of 64-bit code.
fn call(top: &[u8]) -> Option<(u64, [u64; 6])> {
    /// `struct pt_regs` in words, and the places of some (`arch/x86/include/asm/ptrace.h`).
    const REGISTERS: usize = 21;
    const R10: usize = 7;
    const R9: usize = 8;
    const R8: usize = 9;
    const AX: usize = 10;
    const DX: usize = 12;
    const SI: usize = 13;
    const DI: usize = 14;
    const ORIG_AX: usize = 15;
    const CS: usize = 17;
    /// `TOP_OF_KERNEL_STACK_PADDING`, in words: with FRED and without.
    const PADDINGS: [usize; 2] = [0, 2];
    /// `__USER_CS`; FRED has more in the bits above it.
    const CODE: u64 = 0x33;
    const IN_CALL: u64 = (-(libc::ENOSYS as i64)).cast_unsigned();
    let words = top.len() / 8;
    let found = PADDINGS.iter().find_map(|padding| {
        let first = words.checked_sub(padding + REGISTERS)?;
        let register = |place: usize| word(top, (first + place) * 8);
        let is_call = register(CS) & 0xffff == CODE && register(AX) == IN_CALL;
        is_call.then(|| (register(ORIG_AX), [DI, SI, DX, R10, R8, R9].map(register)))
    });
    found.filter(|&(number, _)| number.cast_signed() >= 0)
}
