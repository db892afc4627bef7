//! Reads and judges the images of a process.

use std::collections::BTreeMap;
use std::time::Duration;

use dormouse_image::proto::core::{CoreEntry, TaskKobjIdsEntry};
use dormouse_image::proto::fs::FsEntry;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::NsPid;
use dormouse_kernel::signal::Signal;
use dormouse_puppet::Interruption;
use dormouse_resources::file::{FdTableId, FileId, ImageSource, Use};
use dormouse_resources::memory::{Backing, PagesFiles, SavedMemory};
use dormouse_resources::task::{
    Cpu, Filters, FsState, Keyrings, Keys, Life, Outside, PosixTimers, ProcessState, Remains,
    Seccomp, SemaphoreUndo, SyscallDispatch, ThreadAreas, ThreadState, TreeNode,
};

use super::all::{contradiction, number};
use super::checkpoint::{Body, Directories, DirectoriesId, Process, Space, Thread};
use crate::cause::Cause;
use crate::crew;

/// The address spaces that were read, and which process had which number
/// first.
#[derive(Default)]
pub(super) struct Spaces {
    pub(super) read: BTreeMap<NsPid, Space>,
    first: BTreeMap<u32, NsPid>,
}

pub(super) fn decode_process(
    dir: &ImageDir,
    node: TreeNode,
    common: (&Filters, Option<&Keys>),
    spaces: &mut Spaces,
    (source, pages): (&mut ImageSource<'_>, &mut PagesFiles),
) -> Result<Process, Cause> {
    let pid = number(node.pid);
    let core: CoreEntry = dir.get_one(ImageName::Core(pid))?;
    let life = Life::decode(&core)?;
    let name = core.tc.as_ref().map(|tc| tc.comm.clone()).unwrap_or_default();
    let name = String::from_utf8_lossy(&name).into_owned();
    let stop_seen = core.tc.as_ref().and_then(|tc| tc.stop_seen).unwrap_or(false);
    let continued = core.tc.as_ref().and_then(|tc| tc.continued).unwrap_or(false);
    if continued && life != Life::Running {
        return Err(contradiction(ImageName::Core(pid), "it goes on, and does not run"));
    }
    let without_terminal = core.tc.as_ref().and_then(|tc| tc.without_terminal).unwrap_or(false);
    let (exit_signal, parent_thread) = decode_birth(pid, &core)?;
    let remains = Remains::decode(&core)?;
    let body = if let Life::Zombie { .. } = life {
        // CRIU writes them for zombies as well, and nothing in them counts.
        drop(dir.find_file(ImageName::Ids(pid))?);
        None
    } else {
        let body = decode_body(dir, (&node, &core), common, spaces, (source, pages))?;
        Some(hide_interruptions(body, matches!(life, Life::Stopped(_))))
    };
    Ok(Process {
        node,
        life,
        stop_seen,
        continued,
        without_terminal,
        exit_signal,
        parent_thread,
        name,
        remains,
        body,
    })
}

/// What a process has that lives.
fn decode_body(
    dir: &ImageDir,
    (node, core): (&TreeNode, &CoreEntry),
    common: (&Filters, Option<&Keys>),
    spaces: &mut Spaces,
    (source, pages): (&mut ImageSource<'_>, &mut PagesFiles),
) -> Result<Body, Cause> {
    let pid = number(node.pid);
    let ids: TaskKobjIdsEntry = dir.get_one(ImageName::Ids(pid))?;
    let space = *spaces.first.entry(ids.vm_id).or_insert(node.pid);
    if space == node.pid {
        spaces.read.insert(space, Space::decode(dir, pid, (source, pages))?);
    }
    let leader_code = decode_leader(node, core)?;
    let process = Directories::read(dir, pid, DirectoriesId::Process(ids.fs_id), source)?;
    let mut threads = Vec::with_capacity(node.threads.len());
    // So many threads' images are in memory at a time.
    const AT_ONCE: usize = 256;
    for some in node.threads[usize::from(leader_code.is_some())..].chunks(AT_ONCE) {
        let others = crew::each(some, |&tid| {
            let image = ImageName::Core(number(tid));
            (tid != node.pid).then(|| dir.get_one::<CoreEntry>(image)).transpose()
        });
        for (&tid, other) in some.iter().zip(others) {
            let other = other?;
            let first = threads.first().map(|first: &Thread| first.undo_owner);
            let shares = (&ids, process, first.unwrap_or(tid));
            let core = other.as_ref().unwrap_or(core);
            threads.push(decode_thread(dir, tid, core, common, shares, source)?);
        }
    }
    let state = ProcessState::decode(core)?;
    let first = threads[0].seccomp;
    for thread in &mut threads {
        thread.seccomp = common.0.of_thread(thread.seccomp, first);
    }
    let timers = PosixTimers::decode(core, &node.threads)?;
    let outside = Outside::decode(core)?;
    let handlers = ids.sighand_id;
    Ok(Body { state, outside, timers, space, handlers, leader_code, threads })
}

/// `is_held` says whether job control holds the process.
fn hide_interruptions(mut body: Body, is_held: bool) -> Body {
    for thread in &mut body.threads {
        thread.hide_interruption(is_held);
    }
    body
}

/// What the leader has given to `exit(2)`, if other threads go on without it.
fn decode_leader(node: &TreeNode, core: &CoreEntry) -> Result<Option<u8>, Cause> {
    let Some(status) = core.tc.as_ref().and_then(|tc| tc.leader_status) else { return Ok(None) };
    let bad = |reason| contradiction(ImageName::Core(number(node.pid)), reason);
    if node.threads.len() == 1 {
        return Err(bad("its only thread has ended"));
    }
    let [0, code, 0, 0] = status.to_le_bytes() else {
        return Err(bad("its first thread has ended as no thread can"));
    };
    Ok(Some(code))
}

/// What ties a process to its parent: the signal that tells of its end, and
/// the thread it belongs to.
fn decode_birth(pid: u32, core: &CoreEntry) -> Result<(Option<Signal>, Option<NsPid>), Cause> {
    let bad = |reason| contradiction(ImageName::Core(pid), reason);
    let tc = core.tc.as_ref();
    let number = |raw: u32| i32::try_from(raw).ok();
    let exit_signal = match tc.and_then(|tc| tc.exit_signal) {
        None => Some(Signal::CHLD),
        Some(0) => None,
        Some(raw) => {
            let signal = number(raw).and_then(Signal::from_raw);
            Some(signal.ok_or_else(|| bad("its end is told by something that is no signal"))?)
        }
    };
    let parent_thread = match tc.and_then(|tc| tc.parent_tid) {
        None => None,
        Some(raw) => {
            let thread = number(raw).and_then(NsPid::from_raw);
            Some(thread.ok_or_else(|| bad("it is the child of something that is no thread"))?)
        }
    };
    Ok((exit_signal, parent_thread))
}

impl Space {
    fn decode(
        dir: &ImageDir,
        pid: u32,
        (source, pages): (&mut ImageSource<'_>, &mut PagesFiles),
    ) -> Result<Self, Cause> {
        let image = ImageName::Mm(pid);
        let memory = SavedMemory::decode(dir, pid, pages)?;
        let mm = &memory.mm;
        let mut mapped = BTreeMap::new();
        let mut reference = |file: FileId, use_, object, id| {
            let place = (image, object, id);
            // Each use is judged, if it is another one than before.
            if !mapped.contains_key(&file) || use_ == Use::Ring {
                mapped.insert(file, source.file_ref(file.as_raw(), use_, place));
            }
        };
        reference(mm.exe, Use::Inode, "executable", 0);
        for vma in &mm.vmas {
            let at = vma.range.start().as_raw();
            match vma.backing {
                Backing::File { file, .. } => reference(file.file, Use::Inode, "mapping", at),
                Backing::Ring { file, .. } => reference(file, Use::Ring, "ring", at),
                _ => {}
            }
        }
        Ok(Self { memory, mapped })
    }
}

impl Directories {
    fn read(
        dir: &ImageDir,
        task: u32,
        number: DirectoriesId,
        source: &mut ImageSource<'_>,
    ) -> Result<Self, Cause> {
        let image = ImageName::Fs(task);
        let entry: FsEntry = dir.get_one(image)?;
        let state = FsState::decode(task, &entry)?;
        let mut reference = |file: FileId, object| {
            source.file_ref(file.as_raw(), Use::Inode, (image, object, task.into()))
        };
        let cwd = reference(state.cwd, "working directory");
        let root = reference(state.root, "root directory");
        Ok(Self { number, state, cwd, root })
    }
}

impl Thread {
    /// CRIU lets a call that its dump has interrupted end with `EINTR`. The
    /// registers still tell which call it was, and here it is made again, unless
    /// a handler runs, or the stop of the process has ended it.
    fn hide_interruption(&mut self, is_held: bool) {
        if self.interrupted.is_none()
            && let Some(interruption) = Interruption::of_eintr(&self.cpu.registers, is_held)
        {
            self.interrupted = Some(interruption);
            self.cpu.registers = Interruption::call_again(&self.cpu.registers);
        }
    }
}

fn decode_thread(
    dir: &ImageDir,
    tid: NsPid,
    core: &CoreEntry,
    (filters, keys): (&Filters, Option<&Keys>),
    (ids, process, undo_owner): (&TaskKobjIdsEntry, Directories, NsPid),
    source: &mut ImageSource<'_>,
) -> Result<Thread, Cause> {
    let image = ImageName::Core(number(tid));
    let extension = core.thread_core.as_ref();
    let interrupted = match extension.and_then(|thread| thread.interrupted) {
        None => None,
        Some(code) => Some(
            Interruption::from_code(code)
                .ok_or_else(|| contradiction(image, "no call is interrupted with that answer"))?,
        ),
    };
    let table = extension.and_then(|thread| thread.files_id).unwrap_or(ids.files_id);
    let directories = match extension.and_then(|thread| thread.fs_id) {
        None => process,
        Some(shared) => Directories::read(dir, shared, DirectoriesId::Threads(shared), source)?,
    };
    let undo_owner = match extension.and_then(|thread| thread.undo_tid) {
        None => undo_owner,
        Some(raw) => i32::try_from(raw)
            .ok()
            .and_then(NsPid::from_raw)
            .ok_or_else(|| contradiction(image, "it undoes what no task does"))?,
    };
    let undo = SemaphoreUndo::decode(core)?;
    if undo_owner != tid && undo != SemaphoreUndo::default() {
        return Err(contradiction(image, "it undoes what another task does, and something else"));
    }
    Ok(Thread {
        tid,
        cpu: Cpu::decode(core)?,
        areas: ThreadAreas::decode(core)?,
        interrupted,
        time_left: extension.and_then(|thread| thread.time_left).map(Duration::from_nanos),
        turn: extension.and_then(|thread| thread.turn),
        seccomp: Seccomp::decode(core, filters)?,
        dispatch: SyscallDispatch::decode(core)?,
        state: ThreadState::decode(core)?,
        undo,
        undo_owner,
        keyrings: Keyrings::decode(core, keys)?,
        table: FdTableId::from_raw(table),
        directories,
    })
}
