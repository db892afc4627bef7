//! Pidfds.
//!
//! Kernel object: an open file description on `struct pid`, the number of a
//! task, which outlives the task. All of one task have one inode on pidfs.
//! Truth from: `/proc/PID/fdinfo`; `PIDFD_GET_INFO`, how a dead task ended.
//! Image: `pidfd_entry` in `files.img`. CRIU does not keep how a dead task
//! ended; that has a field of our own.
//! Create: `pidfd_open(2)`: of a task of the tree when it lives, of one that
//! is to be a zombie before it ends; of a dead one on a process that is made
//! to die in the same way, one for all pidfds of the same task.
//! Fill: nothing.
//! Not preserved: the inode number; the control group that a dead task was
//! in last, and whether its core was dumped. A task outside of the tree is refused.
//! Kernel needed: 5.3; 6.9 for those of threads; 6.15 tells how a task ended.
//! Scenarios: `files::pidfd*`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::pidfd::PidfdEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::pidfd::{PidFd, exit_status};
use dormouse_kernel::proc::{Extra, PidfdTarget};
use dormouse_kernel::signal::Signal;
use dormouse_kernel::{HostPid, NsPid};
use dormouse_puppet::{Batch, Ending};
use rustix::fs::OFlags;

use super::create::{Milestone, Stash};
use super::stand_in::StandIn;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, FsMagic, ImageSink,
    ImageSource, Inode, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// A pidfd.
#[derive(Debug, PartialEq, Eq)]
pub struct Pidfd {
    status: Status,
    /// It is of a thread, and not of a process (`PIDFD_THREAD`).
    of_thread: bool,
    task: Task,
    /// The same for all pidfds of one task.
    inode: u32,
}

/// What it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// A task of the tree, or a zombie.
    Living(NsPid),
    /// Dead and reaped, with its wait status.
    Dead(Option<u32>),
}

/// `PIDFD_THREAD`.
const THREAD: OFlags = OFlags::EXCL;

/// Signals that no task dies of.
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// CRIU's pid for a dead task.
const DEAD: i32 = -1;

/// Processes that are to die when all pidfds of dead tasks are open on them.
#[derive(Debug, Default)]
struct Doomed(BTreeMap<u32, (StandIn, Ending)>);

impl Stash for Doomed {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        std::mem::take(&mut self.0).into_values().try_for_each(|(task, ending)| task.end(ending))
    }
}

/// What gives this wait status.
fn ending(status: Option<u32>) -> Ending {
    let status = status.unwrap_or(0);
    match Signal::from_raw((status & 0x7f).cast_signed()) {
        Some(signal) => Ending::Signal(signal),
        None => Ending::Exit((status >> 8 & 0xff) as u8),
    }
}

/// Whether a task that has ended can have this wait status.
fn is_wait_status(status: u32) -> bool {
    let signal = (status & 0x7f).cast_signed();
    let deadly = |signal: Signal| !HARMLESS.contains(&signal.as_raw());
    status <= 0xffff
        && match signal {
            0 => status & 0x80 == 0,
            _ => status >> 8 == 0 && Signal::from_raw(signal).is_some_and(deadly),
        }
}

impl FileKind for Pidfd {
    const NAME: &'static str = "pidfd";
    const TYPE: FdType = FdType::PidFd;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        let old = || probe.anonymous_inode() == Some("pidfd");
        (probe.file_system == FsMagic::PID || old()) && !probe.is_path_only()
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let refuse = |reason, hint| {
            let detail = match &probe.info.extra {
                Extra::Pidfd(PidfdTarget::Task { pid, .. }) => format!("of task {pid}").into(),
                _ => probe.link.clone().into(),
            };
            Err(Error::Unsupported { object: "a pidfd", detail, reason, hint })
        };
        let status = Status::collect_without(cx, probe, THREAD)?;
        let task = match &probe.info.extra {
            Extra::Pidfd(PidfdTarget::Reaped) => {
                Task::Dead(exit_status(probe.duplicate()?.as_fd()))
            }
            Extra::Pidfd(PidfdTarget::Task { pid, .. }) => match cx.ns_pid(*pid) {
                Some(pid) => Task::Living(pid),
                None => {
                    return refuse(
                        "its task is not part of the checkpoint",
                        "checkpoint the tree that the other task belongs to as well",
                    );
                }
            },
            _ => {
                return refuse(
                    "its task is in another pid namespace",
                    "checkpoint the program while it has none open",
                );
            }
        };
        // CRIU's field is that long; the kernel counts up, so it tells enough.
        let inode = probe.stat.st_ino as u32;
        Ok(Self { status, of_thread: probe.flags().contains(THREAD), task, inode })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, of_thread, task, inode } = self;
        let (flags, fown) = status.encode();
        // CRIU gives them to pidfd_open(2).
        let mut flags = OFlags::from_bits_retain(flags) - OFlags::RDWR;
        flags.set(THREAD, *of_thread);
        let (nspid, status) = match *task {
            Task::Living(pid) => (pid.as_raw(), None),
            Task::Dead(status) => (DEAD, status),
        };
        let pidfd =
            PidfdEntry { id: id.as_raw(), ino: *inode, flags: flags.bits(), nspid, fown, status };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            pidfd: Some(Box::new(pidfd)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(pidfd) = entry.pidfd.as_deref() else {
            return Err(wrong("it has no pidfd_entry"));
        };
        let PidfdEntry { id: own_id, ino, flags, nspid, fown, status } = pidfd;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let task = match *nspid {
            DEAD if status.is_some_and(|status| !is_wait_status(status)) => {
                return Err(wrong("its task has ended in a way that cannot be"));
            }
            DEAD => Task::Dead(*status),
            pid => Task::Living(NsPid::from_raw(pid).ok_or_else(|| wrong("its pid is none"))?),
        };
        let flags = OFlags::from_bits_retain(*flags);
        let of_thread = flags.contains(THREAD);
        let flags = (flags - THREAD) | OFlags::RDWR;
        let status = Status::decode(Self::NAME, id, flags.bits(), fown)?;
        Ok(Self { status, of_thread, task, inode: *ino })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        match self.task {
            Task::Living(_) => Stage::Living,
            Task::Dead(_) => Stage::Early,
        }
    }

    fn create(&self, _: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { status, of_thread, task, inode } = self;
        let pid = match *task {
            Task::Living(pid) => HostPid::from_raw(pid.as_raw()).expect("a pid is positive"),
            Task::Dead(status) => cx.stash::<Doomed>().of(*inode, status)?,
        };
        let file = if *of_thread { PidFd::open_thread(pid)? } else { PidFd::open(pid)? };
        status.apply(Self::NAME, file.as_fd())?;
        Ok(file.into())
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, _: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        Ok(())
    }
}

impl Pidfd {
    /// The living task or zombie that it stands for.
    pub(super) fn task(&self) -> Option<NsPid> {
        match self.task {
            Task::Living(pid) => Some(pid),
            Task::Dead(_) => None,
        }
    }
}

impl Doomed {
    /// The process that stands for the task with this inode.
    fn of(&mut self, inode: u32, status: Option<u32>) -> Result<HostPid> {
        use std::collections::btree_map::Entry;
        let (task, _) = match self.0.entry(inode) {
            Entry::Occupied(task) => task.into_mut(),
            Entry::Vacant(place) => {
                let mut task = StandIn::new(None)?;
                let mut batch = Batch::new();
                // It is not to leave a core file.
                let none = batch.data(&[0; 16]);
                batch.call(libc::SYS_setrlimit, [libc::RLIMIT_CORE.into(), none.into()]);
                task.run(batch)?;
                place.insert((task, ending(status)))
            }
        };
        Ok(task.pid())
    }
}
