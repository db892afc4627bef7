//! What a dump holds, for people: made from the images alone, without judging them.
//!
//! Everything here can be serialised. Names and paths are made UTF-8 (a byte that is not becomes
//! U+FFFD): this is for reading, not for restoring.

mod file;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::name::ImageName;
use crate::proto::core::{CoreEntry, TaskKobjIdsEntry};
use crate::proto::files::memfd::MemfdInodeEntry;
use crate::proto::files::tty::TtyInfoEntry;
use crate::proto::files::{FdinfoEntry, FileEntry};
use crate::proto::pstree::PstreeEntry;
use crate::proto::task_state;
use crate::store::ImageDir;

pub use file::Descriptor;
pub use memory::{Mapping, Memory, StoredPages};

/// A dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dump {
    /// Microseconds since boot at the dump.
    pub uptime_us: Option<u64>,
    /// Where the directory this dump builds upon is, if it does.
    pub parent: Option<String>,
    /// The processes, parents before children.
    pub processes: Vec<Process>,
    /// The descriptor tables the processes use, by id.
    pub fd_tables: BTreeMap<u32, Vec<Descriptor>>,
    /// The image files.
    pub images: Vec<Image>,
    /// Files ending in `.img` that are no images we know.
    pub unknown_images: Vec<String>,
}

/// An image file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes it takes on disk: less where it has holes.
    pub bytes_on_disk: u64,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Pid in the namespace of the dump's root.
    pub pid: u32,
    /// Its parent; 0 for the root of the dump.
    pub ppid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Name.
    pub comm: String,
    /// What it was doing.
    pub state: State,
    /// Path of its program, if known.
    pub exe: Option<String>,
    /// Its threads, the leader among them.
    pub threads: Vec<Thread>,
    /// Which of [`Dump::fd_tables`] it uses.
    pub fd_table: Option<u32>,
    /// Its memory; a zombie has none.
    pub memory: Option<Memory>,
}

/// What a process was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It ran or slept.
    Running,
    /// It was stopped by a signal.
    Stopped,
    /// It had ended, and its parent did not know yet.
    Zombie,
    /// There is no image of it, or one that says something else.
    Unknown,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Its tid, in the namespace of the dump's root.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// Which of [`Dump::fd_tables`] it uses, if not its process's.
    pub fd_table: Option<u32>,
}

/// Describes the dump in a directory.
///
/// # Errors
/// When there is none, or an image cannot be read.
pub fn describe(path: &Path) -> Result<Dump> {
    let (dir, inventory) = ImageDir::open(path)?;
    let files = Files {
        entries: by_id(dir.get_all::<FileEntry>(ImageName::Files)?, |file| file.id),
        terminals: by_id(dir.get_all::<TtyInfoEntry>(ImageName::TtyInfo)?, |tty| tty.id),
        memfds: by_id(dir.get_all::<MemfdInodeEntry>(ImageName::MemfdInode)?, |m| m.inode_id),
    };
    let mut processes = Vec::new();
    for entry in dir.get_all::<PstreeEntry>(ImageName::PsTree)? {
        processes.push(process(&dir, &files, &entry)?);
    }
    let used: BTreeSet<u32> = processes
        .iter()
        .flat_map(|p| p.threads.iter().filter_map(|t| t.fd_table).chain(p.fd_table))
        .collect();
    let mut fd_tables = BTreeMap::new();
    for id in used {
        let table = dir.get_all::<FdinfoEntry>(ImageName::Fdinfo(id))?;
        fd_tables.insert(id, table.iter().map(|fd| files.descriptor(fd)).collect());
    }
    let images = dir
        .list()?
        .into_iter()
        .map(|(name, size)| Image {
            name: name.to_string(),
            bytes: size.len,
            bytes_on_disk: size.allocated,
        })
        .collect();
    let unknown_images = dir
        .unread()?
        .into_iter()
        .filter(|name| ImageName::parse(name.as_encoded_bytes()).is_none())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    Ok(Dump {
        uptime_us: inventory.dump_uptime,
        parent: dir.parent_target()?.map(|target| target.to_string_lossy().into_owned()),
        processes,
        fd_tables,
        images,
        unknown_images,
    })
}

/// What descriptors refer to.
struct Files {
    entries: BTreeMap<u32, FileEntry>,
    terminals: BTreeMap<u32, TtyInfoEntry>,
    memfds: BTreeMap<u64, MemfdInodeEntry>,
}

fn by_id<K: Ord, V>(entries: Vec<V>, id: fn(&V) -> K) -> BTreeMap<K, V> {
    entries.into_iter().map(|entry| (id(&entry), entry)).collect()
}

fn process(dir: &ImageDir, files: &Files, entry: &PstreeEntry) -> Result<Process> {
    let PstreeEntry { pid, ppid, pgid, sid, threads: ref tids } = *entry;
    let leader = dir.find_one::<CoreEntry>(ImageName::Core(pid))?;
    let task = leader.as_ref().and_then(|core| core.tc.as_ref());
    let ids = match dir.find_one::<TaskKobjIdsEntry>(ImageName::Ids(pid))? {
        Some(ids) => Some(ids),
        None => leader.as_ref().and_then(|core| core.ids.clone()),
    };
    let mut threads = Vec::new();
    for &tid in tids {
        let own = if tid == pid { leader.clone() } else { dir.find_one(ImageName::Core(tid))? };
        let thread = own.and_then(|core| core.thread_core).unwrap_or_default();
        threads.push(Thread {
            tid,
            comm: text(thread.comm.as_deref().unwrap_or_default()),
            fd_table: thread.files_id,
        });
    }
    let (exe, memory) = memory::read(dir, files, pid)?;
    Ok(Process {
        pid,
        ppid,
        pgid,
        sid,
        comm: text(task.map_or(&[], |task| &task.comm)),
        state: match task.map(|task| task.task_state) {
            Some(task_state::ALIVE) => State::Running,
            Some(task_state::STOPPED) => State::Stopped,
            Some(task_state::DEAD | task_state::ZOMBIE) => State::Zombie,
            _ => State::Unknown,
        },
        exe,
        threads,
        fd_table: ids.map(|ids| ids.files_id),
        memory,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
