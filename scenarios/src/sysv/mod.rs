//! System V IPC of the host's namespace.

pub(crate) mod pieces;
pub(crate) mod removed;
pub(crate) mod segment;
pub(crate) mod shared;

use std::io;

use crate::sys::{self, Area};

/// A shared memory segment.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    id: i32,
    len: usize,
}

impl Segment {
    /// `shmget(2)`.
    pub(crate) fn make(key: i32, len: usize, mode: i32) -> Self {
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | mode;
        // SAFETY: plain numbers.
        let id = sys::done(unsafe { libc::shmget(key, len, flags) }).expect("shmget");
        Self { id: id as i32, len }
    }

    /// A key that nobody else has, and which differs by `bit`.
    pub(crate) fn key(bit: u32) -> i32 {
        let now = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970");
        (now.as_nanos() as u32 >> 1 | bit << 31).cast_signed()
    }

    /// `shmat(2)`, where the kernel likes.
    pub(crate) fn attach(self, flags: i32) -> Area {
        // SAFETY: the kernel finds a free place.
        let at = unsafe { libc::shmat(self.id, std::ptr::null(), flags) };
        assert_ne!(at.addr(), usize::MAX, "shmat: {}", io::Error::last_os_error());
        Area::mapped(at.expose_provenance(), self.len)
    }

    /// `IPC_STAT`.
    pub(crate) fn stat(self) -> io::Result<libc::shmid_ds> {
        // SAFETY: a structure of numbers, of which zero is one.
        let mut stat: libc::shmid_ds = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills the whole structure, which lives over the call.
        sys::done(unsafe { libc::shmctl(self.id, libc::IPC_STAT, &raw mut stat) })?;
        Ok(stat)
    }

    /// `IPC_RMID`.
    pub(crate) fn remove(self) {
        // SAFETY: no structure goes with this command.
        sys::done(unsafe { libc::shmctl(self.id, libc::IPC_RMID, std::ptr::null_mut()) })
            .expect("IPC_RMID");
    }

    /// What lasts of its description: key, owner, creator, mode and size.
    pub(crate) fn description(self) -> [u64; 7] {
        let stat = self.stat().expect("IPC_STAT");
        let perm = stat.shm_perm;
        [
            u64::from(perm.__key.cast_unsigned()),
            perm.uid.into(),
            perm.gid.into(),
            perm.cuid.into(),
            perm.cgid.into(),
            perm.mode.into(),
            stat.shm_segsz as u64,
        ]
    }

    /// How many times it is attached.
    pub(crate) fn attached(self) -> u64 {
        self.stat().expect("IPC_STAT").shm_nattch
    }
}

/// `shmdt(2)`.
pub(crate) fn detach(area: Area) -> io::Result<()> {
    // SAFETY: no reference points into the segment, and the caller is done with it.
    sys::done(unsafe { libc::shmdt(area.pointer().cast()) }).map(drop)
}
