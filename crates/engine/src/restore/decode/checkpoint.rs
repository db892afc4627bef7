//! What images say, judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dormouse_kernel::signal::Signal;
use dormouse_kernel::{FdNum, HostPid, NsPid};
use dormouse_puppet::Interruption;
use dormouse_resources::file::{FdTable, FdTableId, FileId, FileRef, Files, Lock, SignalItem};
use dormouse_resources::memory::{PagesFiles, SavedMemory, SavedObject, Segments, ShmemId};
use dormouse_resources::task::{
    Cpu, Filters, FsState, Keyrings, Keys, Life, Outside, PosixTimers, ProcessState, Remains,
    Seccomp, SemaphoreUndo, SyscallDispatch, ThreadAreas, ThreadState, TreeNode,
};

/// A checkpoint, judged: nothing that comes later looks at an image again.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The processes, the root first and every parent before its children.
    pub(crate) processes: Vec<Process>,
    /// The address spaces, by the first process that has each.
    pub(crate) spaces: BTreeMap<NsPid, Space>,
    /// Every file.
    pub(crate) files: Files,
    /// Every fd table.
    pub(crate) tables: BTreeMap<FdTableId, FdTable>,
    /// Items of epolls on signalfds.
    pub(crate) signal_items: Vec<SignalItem>,
    /// Locks, each with the file it is on.
    pub(crate) locks: Vec<(Lock, FileRef)>,
    /// Every shared memory object, be it mapped or the inode of a memfd.
    pub(crate) objects: BTreeMap<ShmemId, SavedObject>,
    /// System V segments that are attached.
    pub(crate) segments: Segments,
    /// Seccomp filters.
    pub(crate) filters: Filters,
    /// The keys that tasks possess, if that is known.
    pub(crate) keys: Option<Keys>,
    /// The contents of all memory.
    pub(crate) pages: Arc<PagesFiles>,
}

impl Checkpoint {
    /// The processes that are not zombies.
    pub(crate) fn living(&self) -> impl Iterator<Item = (&Process, &Body)> {
        self.processes.iter().filter_map(|process| Some((process, process.body.as_ref()?)))
    }

    /// A process that has this file open, and the number there.
    pub(crate) fn holder(&self, file: FileId) -> Option<(NsPid, FdNum)> {
        super::all::holder(&self.processes, &self.tables, file)
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its place in the tree.
    pub(crate) node: TreeNode,
    /// Whether it runs.
    pub(crate) life: Life,
    /// If it is stopped, whether its parent has been told already.
    pub(crate) stop_seen: bool,
    /// Whether its parent has still to be told that it goes on after a stop.
    pub(crate) continued: bool,
    /// Whether it has given up the terminal that controls its session.
    pub(crate) without_terminal: bool,
    /// What tells its parent of its end.
    pub(crate) exit_signal: Option<Signal>,
    /// The thread of its parent that it is a child of, if not the leader.
    pub(crate) parent_thread: Option<NsPid>,
    /// Its name.
    pub(crate) name: String,
    /// If it or its first thread has ended, what is left of that, as far as it is known.
    pub(crate) remains: Option<Remains>,
    /// What it has, unless it is a zombie.
    pub(crate) body: Option<Body>,
}

/// What a living process has.
#[derive(Debug)]
pub(crate) struct Body {
    /// What it has as a whole.
    pub(crate) state: ProcessState,
    /// What dormouse writes to `/proc`.
    pub(crate) outside: Outside,
    /// Its POSIX timers.
    pub(crate) timers: PosixTimers,
    /// The first process that has its address space.
    pub(crate) space: NsPid,
    /// The number of its signal handlers; who has the same shares them.
    pub(crate) handlers: u32,
    /// What `exit(2)` was given by the leader, if that has ended and other
    /// threads go on.
    pub(crate) leader_code: Option<u8>,
    /// Its threads, the leader first unless it has ended.
    pub(crate) threads: Vec<Thread>,
}

/// An address space.
#[derive(Debug)]
pub(crate) struct Space {
    /// What is in it.
    pub(crate) memory: SavedMemory,
    /// Files that are mapped or executed.
    pub(crate) mapped: BTreeMap<FileId, FileRef>,
}

/// A thread.
#[derive(Debug)]
pub(crate) struct Thread {
    /// Its tid.
    pub(crate) tid: NsPid,
    /// Its registers.
    pub(crate) cpu: Cpu,
    /// Areas of memory that it has described to the processor.
    pub(crate) areas: ThreadAreas,
    /// How a call was interrupted, which the registers make again.
    pub(crate) interrupted: Option<Interruption>,
    /// What was left of that call's time-out.
    pub(crate) time_left: Option<Duration>,
    /// Its turn among those who wait in epolls with others.
    pub(crate) turn: Option<u32>,
    /// What keeps it from making calls.
    pub(crate) seccomp: Seccomp,
    /// What its program handles of its system calls.
    pub(crate) dispatch: SyscallDispatch,
    /// Everything else.
    pub(crate) state: ThreadState,
    /// What is undone when it ends, unless another task has the same.
    pub(crate) undo: SemaphoreUndo,
    /// The first task that has the same.
    pub(crate) undo_owner: NsPid,
    /// Its keyrings.
    pub(crate) keyrings: Keyrings,
    /// Its fd table.
    pub(crate) table: FdTableId,
    /// Its directories, with a number that tells who shares them.
    pub(crate) directories: Directories,
}

/// Which tasks share root, working directory and umask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DirectoriesId {
    /// Those of a process: the number of its kernel object.
    Process(u32),
    /// Those of threads that are not those of their process: the number of
    /// the image.
    Threads(u32),
}

/// Root, working directory and umask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directories {
    /// Tasks with the same number share them.
    pub(crate) number: DirectoriesId,
    /// The values.
    pub(crate) state: FsState,
    /// The working directory.
    pub(crate) cwd: FileRef,
    /// The root directory.
    pub(crate) root: FileRef,
}

/// A tree in the initial namespaces has the same pids inside and outside.
pub(crate) fn host(pid: NsPid) -> HostPid {
    HostPid::from_raw(pid.as_raw()).expect("a pid is positive")
}
