//! Writes the images of all tasks.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use dormouse_image::ImageName;
use dormouse_image::proto::core::{CoreEntry, Machine, TaskCoreEntry, TaskKobjIdsEntry};
use dormouse_image::proto::fs::FsEntry;
use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_image::proto::pstree::PstreeEntry;
use dormouse_image::store::NewDump;
use dormouse_kernel::{HostPid, NsPid};
use dormouse_resources::file::{FdTableId, NamespaceType};
use dormouse_resources::memory::{HOST_IPC, Mm};
use dormouse_resources::task::{Filters, Life, Remains, TreeNode};

use super::collect::{Living, Thread};
use super::enumerate::Census;
use super::frozen::{Frozen, Process};
use super::semaphores::Undo;
use super::terminals;
use crate::cause::{At, Cause};
use crate::{DumpOptions, Error, NetworkLock, Phase, TcpConnections, crew};

const PHASE: Phase = Phase::Encode;

/// CRIU's image format.
const IMAGE_VERSION: u32 = 2;

/// So many processes' or threads' images are in memory at a time.
const AT_ONCE: usize = 256;

/// What an fd table is called in images.
pub(super) fn table_id(number: usize) -> FdTableId {
    FdTableId::from_raw(image_number(number))
}

/// CRIU keeps number one for its own objects, and checks that nothing has it.
fn image_number(number: usize) -> u32 {
    u32::try_from(number + 2).expect("fewer objects than tasks")
}

/// A tree in the initial namespaces has the same pids inside and outside.
pub(super) fn image_pid(pid: HostPid) -> u32 {
    pid.as_raw().unsigned_abs()
}

fn ns(pid: HostPid) -> NsPid {
    NsPid::from_raw(pid.as_raw()).expect("a host pid is positive")
}

/// Writes everything but files, memory and the inventory.
pub(super) fn encode(
    frozen: &Frozen,
    census: &Census,
    (read, filters): (&BTreeMap<HostPid, Living>, &Filters),
    dump: &NewDump,
) -> Result<(), Error> {
    let tree: Vec<PstreeEntry> = frozen.processes.iter().map(|p| node(p).encode()).collect();
    dump.put_all(ImageName::PsTree, &tree).at(PHASE)?;
    let segments = census.objects.segments().encode();
    if !segments.is_empty() {
        dump.put_all(ImageName::IpcShm(HOST_IPC), &segments).at(PHASE)?;
    }
    if let Some(entry) = filters.encode() {
        dump.put_one(ImageName::Seccomp, &entry).at(PHASE)?;
    }
    let without = terminals::without(frozen);
    for some in frozen.processes.chunks(AT_ONCE) {
        let images = some.iter().map(|process| {
            let lacks = without.contains(&process.pid);
            let parent = process.parent.and_then(|parent| read.get(&parent));
            let continued = parent.is_some_and(|parent| parent.continued.contains(&process.pid));
            encode_process((process, lacks, continued), census, read.get(&process.pid))
                .of(PHASE, process.pid)
        });
        let images = images.collect::<Result<Vec<_>, _>>()?;
        let written = crew::each(&images, |images| images.write(dump).of(PHASE, images.pid));
        written.into_iter().collect::<Result<(), _>>()?;
        for process in some {
            let Some(living) = read.get(&process.pid) else { continue };
            encode_others(process, living, census, dump).of(PHASE, process.pid)?;
        }
    }
    Ok(())
}

/// What is written of a process and its first thread.
struct ProcessImages<'a> {
    pid: HostPid,
    core: CoreEntry,
    living: Option<(TaskKobjIdsEntry, Option<&'a Mm>, FsEntry)>,
}

impl ProcessImages<'_> {
    fn write(&self, dump: &NewDump) -> Result<(), Cause> {
        let pid = image_pid(self.pid);
        dump.put_one(ImageName::Core(pid), &self.core)?;
        let Some((ids, mm, directories)) = &self.living else { return Ok(()) };
        dump.put_one(ImageName::Ids(pid), ids)?;
        if let Some(mm) = mm {
            dump.put_one(ImageName::Mm(pid), &mm.encode())?;
        }
        Ok(dump.put_one(ImageName::Fs(pid), directories)?)
    }
}

fn node(process: &Process) -> TreeNode {
    let group = |pid: Option<HostPid>| pid.map_or(0, |pid| pid.as_raw());
    let leader = process.leader_status.map(|_| ns(process.pid)).into_iter();
    TreeNode {
        pid: ns(process.pid),
        parent: process.parent.map(ns),
        pgid: group(process.stat.pgrp),
        sid: group(process.stat.session),
        threads: leader.chain(process.threads.iter().map(|task| ns(task.tid()))).collect(),
    }
}

fn encode_process<'a>(
    (process, without_terminal, continued): (&Process, bool, bool),
    census: &Census,
    living: Option<&'a Living>,
) -> Result<ProcessImages<'a>, Cause> {
    let mut core = CoreEntry { mtype: Machine::X8664.into(), ..CoreEntry::default() };
    encode_birth(process, core.tc.get_or_insert_default());
    if without_terminal {
        core.tc.get_or_insert_default().without_terminal = Some(true);
    }
    let Some(living) = living else {
        let status = process.stat.exit_code.cast_unsigned();
        Life::Zombie { status }.encode(&mut core);
        core.tc.get_or_insert_default().comm = process.stat.comm.as_bytes().to_vec();
        encode_remains(process, &mut core)?;
        return Ok(ProcessImages { pid: process.pid, core, living: None });
    };
    let life = process.held_by.map_or(Life::Running, Life::Stopped);
    life.encode(&mut core);
    if process.held_by.is_some() {
        // What a wait would tell, and zero once one has (`do_task_stat` in
        // `fs/proc/array.c`).
        core.tc.get_or_insert_default().stop_seen = Some(process.stat.exit_code == 0);
    }
    core.tc.get_or_insert_default().continued = continued.then_some(true);
    living.state.encode(&mut core);
    living.outside.encode(&mut core);
    living.timers.encode(&mut core);
    match living.threads.first().filter(|first| first.tid == process.pid) {
        Some(leader) => {
            encode_thread(leader, &mut core);
            encode_undo(process, leader.tid, &census.undo, &mut core);
            census.possessions.of(leader.tid).encode(&mut core);
        }
        None => {
            let tc = core.tc.get_or_insert_default();
            tc.leader_status = process.leader_status.map(i32::cast_unsigned);
            tc.comm = process.stat.comm.as_bytes().to_vec();
            encode_remains(process, &mut core)?;
        }
    }
    let first = process.first();
    let directories = census.directories[census.fs.number(first)].encode();
    let living = Some((ids(first, census), living.mm.as_ref(), directories));
    Ok(ProcessImages { pid: process.pid, core, living })
}

/// Writes all threads but the leader.
fn encode_others(
    process: &Process,
    living: &Living,
    census: &Census,
    dump: &NewDump,
) -> Result<(), Cause> {
    let leads = living.threads.first().is_some_and(|first| first.tid == process.pid);
    for some in living.threads[usize::from(leads)..].chunks(AT_ONCE) {
        let cores: Vec<_> = some
            .iter()
            .map(|thread| Ok((thread, encode_other(process, thread, census, dump)?)))
            .collect::<Result<_, Cause>>()?;
        let written = crew::each(&cores, |(thread, core)| {
            dump.put_one(ImageName::Core(image_pid(thread.tid)), core)
        });
        written.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

/// What is left of a first thread that has ended.
fn encode_remains(process: &Process, core: &mut CoreEntry) -> Result<(), Cause> {
    let status = process.proc.status_of(process.pid)?;
    Remains::collect(process.pid, &status)?.encode(core);
    Ok(())
}

/// A thread that is not the leader.
fn encode_other(
    process: &Process,
    thread: &Thread,
    census: &Census,
    dump: &NewDump,
) -> Result<CoreEntry, Cause> {
    let (first, tid) = (process.first(), image_pid(thread.tid));
    let mut core = CoreEntry::default();
    encode_thread(thread, &mut core);
    encode_undo(process, thread.tid, &census.undo, &mut core);
    census.possessions.of(thread.tid).encode(&mut core);
    let of_thread = core.thread_core.get_or_insert_default();
    let files = census.files.number(thread.tid);
    if files != census.files.number(first) {
        of_thread.files_id = Some(image_number(files));
    }
    let fs = census.fs.number(thread.tid);
    if fs != census.fs.number(first) {
        // Threads come in the order of their tids, so the owner's is the lowest.
        let owner = census.fs.owners()[fs];
        of_thread.fs_id = Some(image_pid(owner));
        if owner == thread.tid {
            dump.put_one(ImageName::Fs(tid), &census.directories[fs].encode())?;
        }
    }
    Ok(core)
}

/// What ties a process to its parent, where it is not what fork(2) makes it.
/// The root's parent is outside.
fn encode_birth(process: &Process, tc: &mut TaskCoreEntry) {
    if process.parent.is_some() && process.stat.exit_signal != libc::SIGCHLD {
        tc.exit_signal = Some(process.stat.exit_signal.unsigned_abs());
    }
    if process.parent_thread != process.parent {
        tc.parent_tid = process.parent_thread.map(image_pid);
    }
}

fn encode_thread(thread: &Thread, core: &mut CoreEntry) {
    let Thread { tid: _, cpu, areas, interrupted, time_left, turn, seccomp, dispatch, state } =
        thread;
    cpu.encode(core);
    areas.encode(core);
    seccomp.encode(core);
    dispatch.encode(core);
    state.encode(core);
    let of_thread = core.thread_core.get_or_insert_default();
    of_thread.interrupted = interrupted.map(dormouse_puppet::Interruption::code);
    of_thread.turn = *turn;
    of_thread.time_left = time_left.map(|left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
}

/// What is undone when the thread ends, or with whom it has that in common.
fn encode_undo(process: &Process, tid: HostPid, undo: &Undo, core: &mut CoreEntry) {
    if let Some(own) = undo.of(tid) {
        own.encode(core);
    }
    let first = process.first();
    let presumed = if tid == first { Some(tid) } else { undo.owner(first) };
    let owner = undo.owner(tid).filter(|&owner| Some(owner) != presumed);
    core.thread_core.get_or_insert_default().undo_tid = owner.map(image_pid);
}

/// Of the task that stands for a process.
fn ids(task: HostPid, census: &Census) -> TaskKobjIdsEntry {
    TaskKobjIdsEntry {
        vm_id: image_number(census.memory.number(task)),
        files_id: image_number(census.files.number(task)),
        fs_id: image_number(census.fs.number(task)),
        sighand_id: image_number(census.handlers.number(task)),
        ..namespaces()
    }
}

/// The namespaces are those of dormouse itself, which a restore keeps.
fn namespaces() -> TaskKobjIdsEntry {
    TaskKobjIdsEntry {
        pid_ns_id: Some(NamespaceType::PID.number),
        net_ns_id: Some(NamespaceType::NET.number),
        ipc_ns_id: Some(NamespaceType::IPC.number),
        uts_ns_id: Some(NamespaceType::UTS.number),
        time_ns_id: Some(NamespaceType::TIME.number),
        mnt_ns_id: Some(NamespaceType::MOUNT.number),
        user_ns_id: Some(NamespaceType::USER.number),
        cgroup_ns_id: Some(NamespaceType::CGROUP.number),
        ..TaskKobjIdsEntry::default()
    }
}

/// CRIU's numbers of ways to lock the network.
const LOCKED_BY_NFTABLES: u32 = 1;
const NOT_LOCKED: u32 = 2;

/// What makes the dump complete. `run` names what locks the network, if
/// connections were saved.
pub(super) fn inventory(
    options: &DumpOptions,
    census: &Census,
    run: Option<&str>,
) -> InventoryEntry {
    let method = match options.network_lock {
        NetworkLock::Nftables => LOCKED_BY_NFTABLES,
        NetworkLock::Skip => NOT_LOCKED,
    };
    InventoryEntry {
        img_version: IMAGE_VERSION,
        fdinfo_per_id: Some(true),
        root_ids: Some(TaskKobjIdsEntry {
            vm_id: 1,
            files_id: 1,
            fs_id: 1,
            sighand_id: 1,
            ..namespaces()
        }),
        ns_per_id: Some(true),
        lsmtype: Some(0),
        tcp_close: (options.tcp == TcpConnections::Close).then_some(true),
        network_lock_method: Some(method),
        dump_criu_run_id: run.map(|run| run.as_bytes().to_vec()),
        keys: Some(census.possessions.keys().encode()),
        ..InventoryEntry::default()
    }
}
