//! System V IPC of the host's namespace.

pub(crate) mod pieces;
pub(crate) mod removed;
pub(crate) mod segment;
pub(crate) mod shared;
pub(crate) mod undo;
pub(crate) mod undo_shared;

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

/// A set of semaphores.
#[derive(Clone, Copy)]
pub(crate) struct Semaphores {
    id: i32,
    len: usize,
}

impl Semaphores {
    /// `semget(2)`, and gives them their values.
    pub(crate) fn make(values: &[u16]) -> Self {
        let len = values.len();
        // SAFETY: plain numbers.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, len as i32, libc::IPC_CREAT | 0o600) };
        sys::done(id).expect("semget");
        // SAFETY: there is a value for each of them.
        sys::done(unsafe { libc::semctl(id, 0, libc::SETALL, values.as_ptr()) }).expect("SETALL");
        Self { id, len }
    }

    /// `semop(2)` of pairs of number and operation, with `SEM_UNDO` and without waiting.
    pub(crate) fn operate(self, operations: &[(u16, i16)]) {
        let flags = (libc::SEM_UNDO | libc::IPC_NOWAIT) as i16;
        let mut operations: Vec<_> = operations
            .iter()
            .map(|&(sem_num, sem_op)| libc::sembuf { sem_num, sem_op, sem_flg: flags })
            .collect();
        // SAFETY: as many operations as are given.
        sys::done(unsafe { libc::semop(self.id, operations.as_mut_ptr(), operations.len()) })
            .expect("semop");
    }

    /// `GETALL`.
    pub(crate) fn values(self) -> Vec<u16> {
        let mut values = vec![0; self.len];
        // SAFETY: there is room for all of them.
        sys::done(unsafe { libc::semctl(self.id, 0, libc::GETALL, values.as_mut_ptr()) })
            .expect("GETALL");
        values
    }

    /// `IPC_RMID`.
    pub(crate) fn remove(self) {
        // SAFETY: no argument goes with this command.
        sys::done(unsafe { libc::semctl(self.id, 0, libc::IPC_RMID) }).expect("IPC_RMID");
    }
}

/// `shmdt(2)`.
pub(crate) fn detach(area: Area) -> io::Result<()> {
    // SAFETY: no reference points into the segment, and the caller is done with it.
    sys::done(unsafe { libc::shmdt(area.pointer().cast()) }).map(drop)
}
