//! Scheduling of another task: policy, affinity, I/O priority.
#![allow(unsafe_code)]

use crate::sys::check;
use crate::{Errno, HostPid};
use thiserror::Error;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `sched_getattr(2)`.
    GetAttr,
    /// `sched_setattr(2)`.
    SetAttr,
    /// `sched_getaffinity(2)`.
    GetAffinity,
    /// `sched_setaffinity(2)`.
    SetAffinity,
    /// `getpriority(2)`.
    GetNice,
    /// `ioprio_get(2)`.
    GetIoPriority,
    /// `ioprio_set(2)`.
    SetIoPriority,
}

/// It failed.
#[derive(Debug, Error)]
#[error("cannot {} of task {task}", match operation {
    Operation::GetAttr => "get the scheduling policy",
    Operation::SetAttr => "set the scheduling policy",
    Operation::GetAffinity => "get the processors",
    Operation::SetAffinity => "set the processors",
    Operation::GetNice => "get the nice value",
    Operation::GetIoPriority => "get the I/O priority",
    Operation::SetIoPriority => "set the I/O priority",
})]
pub struct Error {
    /// What was tried.
    pub operation: Operation,
    /// On which task.
    pub task: HostPid,
    /// Why not. `ESRCH`: it is gone; `EPERM`: `CAP_SYS_NICE` is missing.
    pub source: Errno,
}

/// `struct sched_attr`, see `sched_setattr(2)`. Each task (thread) has its
/// own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SchedAttr {
    /// Of the structure as the kernel wrote it, in bytes; it is not read back.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// 1 to 99, for `SCHED_FIFO` and `SCHED_RR`; 0 for others.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`; since Linux 6.12 also the time slice
    /// of a task that asked for one.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
    /// 0 to 1024, the least utilisation to assume.
    pub util_min: u32,
    /// 0 to 1024, the most utilisation to assume.
    pub util_max: u32,
}

/// `SCHED_ATTR_SIZE_VER1`.
const _: () = assert!(size_of::<SchedAttr>() == 56);

impl SchedAttr {
    /// As the kernel reads it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        let &Self { size: _, policy, flags, nice, priority, .. } = self;
        let &Self { runtime, deadline, period, util_min, util_max, .. } = self;
        let mut at = 0;
        let mut put = |word: &[u8]| {
            bytes[at..at + word.len()].copy_from_slice(word);
            at += word.len();
        };
        put(&(size_of::<Self>() as u32).to_ne_bytes());
        put(&policy.to_ne_bytes());
        put(&flags.to_ne_bytes());
        put(&nice.to_ne_bytes());
        put(&priority.to_ne_bytes());
        for nanoseconds in [runtime, deadline, period] {
            put(&nanoseconds.to_ne_bytes());
        }
        put(&util_min.to_ne_bytes());
        put(&util_max.to_ne_bytes());
        bytes
    }
}

/// How a task is scheduled.
///
/// # Errors
///
/// See [`Error::source`].
pub fn attr(task: HostPid) -> Result<SchedAttr, Error> {
    let mut attr = SchedAttr::default();
    // SAFETY: `attr` is writable, of the kernel's layout, and its size is
    // handed over: the kernel writes no more than that.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            task.as_raw(),
            &raw mut attr,
            size_of::<SchedAttr>() as libc::c_ulong,
            0 as libc::c_ulong,
        )
    })
    .map_err(|source| Error { operation: Operation::GetAttr, task, source })?;
    Ok(attr)
}

/// Sets how a task is scheduled.
///
/// # Errors
///
/// See [`Error::source`]; also `EINVAL`: no such policy, or values that do
/// not fit it; `EBUSY`: no processor time is left to promise.
pub fn set_attr(task: HostPid, attr: SchedAttr) -> Result<(), Error> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..attr };
    // SAFETY: `attr` is of the kernel's layout, says its own size, and is
    // only read.
    check(unsafe {
        libc::syscall(libc::SYS_sched_setattr, task.as_raw(), &raw const attr, 0 as libc::c_ulong)
    })
    .map(drop)
    .map_err(|source| Error { operation: Operation::SetAttr, task, source })
}

/// A set of processors: bit `n % 64` of word `n / 64` is processor `n`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuSet(Vec<u64>);

impl CpuSet {
    /// From words, the lowest processors first.
    #[must_use]
    pub fn from_words(mut words: Vec<u64>) -> Self {
        while words.last() == Some(&0) {
            words.pop();
        }
        Self(words)
    }

    /// Where the kernel lists the processors that can be used.
    pub const ONLINE: &'static str = "/sys/devices/system/cpu/online";

    /// All processors that can be used.
    ///
    /// # Errors
    ///
    /// There is no [`Self::ONLINE`], or it is no list of ranges.
    pub fn online() -> Result<Self, Errno> {
        let text = std::fs::read_to_string(Self::ONLINE)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Self::parse(text.trim_end()).ok_or(Errno::PROTO)
    }

    /// From a list of ranges, as `0-3,8`.
    fn parse(list: &str) -> Option<Self> {
        let mut words = Vec::new();
        for range in list.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            for cpu in first.parse::<usize>().ok()?..=last.parse::<usize>().ok()? {
                words.resize(words.len().max(cpu / 64 + 1), 0);
                words[cpu / 64] |= 1 << (cpu % 64);
            }
        }
        Some(Self::from_words(words))
    }

    /// The words, without trailing zeros.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// Only the first of them.
    #[must_use]
    pub fn first(&self) -> Self {
        let mut words = self.0.clone();
        if let Some(at) = words.iter().position(|&word| word != 0) {
            words.truncate(at + 1);
            words[at] &= words[at].wrapping_neg();
        }
        Self(words)
    }

    /// The processors' numbers, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| index * 64 + bit)
        })
    }
}

/// The processors a task may run on.
///
/// # Errors
///
/// See [`Error::source`].
pub fn affinity(task: HostPid) -> Result<CpuSet, Error> {
    // The kernel refuses room for less than all processors it was built for,
    // 8192 at most today.
    let mut words = vec![0u64; 16];
    loop {
        // SAFETY: the kernel writes at most the bytes given.
        let written = check(unsafe {
            libc::syscall(
                libc::SYS_sched_getaffinity,
                task.as_raw(),
                size_of_val(&*words) as libc::c_ulong,
                words.as_mut_ptr(),
            )
        });
        match written {
            Ok(bytes) => {
                words.truncate(bytes as usize / size_of::<u64>());
                return Ok(CpuSet::from_words(words));
            }
            Err(Errno::INVAL) if words.len() < 1 << 14 => {
                let len = words.len() * 2;
                words.resize(len, 0);
            }
            Err(source) => return Err(Error { operation: Operation::GetAffinity, task, source }),
        }
    }
}

/// Sets the processors a task may run on. Those that do not exist are
/// ignored.
///
/// # Errors
///
/// See [`Error::source`]; also `EINVAL`: none of them exists, or is allowed
/// by the task's cpuset.
pub fn set_affinity(task: HostPid, cpus: &CpuSet) -> Result<(), Error> {
    // SAFETY: the kernel reads at most the bytes given.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            task.as_raw(),
            size_of_val(cpus.words()) as libc::c_ulong,
            cpus.words().as_ptr(),
        )
    })
    .map(drop)
    .map_err(|source| Error { operation: Operation::SetAffinity, task, source })
}

/// The I/O priority of a task: a class in the upper three of 16 bits, a level
/// below, see `ioprio_set(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IoPriority(u16);

impl IoPriority {
    /// From the kernel's bits.
    #[must_use]
    pub const fn from_raw(bits: u16) -> Self {
        Self(bits)
    }

    /// The kernel's bits.
    #[must_use]
    pub const fn as_raw(self) -> u16 {
        self.0
    }

    /// `IOPRIO_CLASS_*`. 0, none: it follows from the nice value.
    #[must_use]
    pub const fn class(self) -> u16 {
        self.0 >> 13
    }
}

/// The nice value of a task, whatever its policy.
///
/// # Errors
///
/// See [`Error::source`].
pub fn nice(task: HostPid) -> Result<i32, Error> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, task.as_raw()) })
        // The call itself tells no negative numbers (`getpriority(2)`).
        .map(|above| 20 - above as i32)
        .map_err(|source| Error { operation: Operation::GetNice, task, source })
}

const IOPRIO_WHO_PROCESS: i32 = 1;

/// The I/O priority of a task. One that has not set any reads as what follows
/// from its policy and nice value, with a class.
///
/// # Errors
///
/// See [`Error::source`].
pub fn io_priority(task: HostPid) -> Result<IoPriority, Error> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, task.as_raw()) })
        .map(|bits| IoPriority(bits as u16))
        .map_err(|source| Error { operation: Operation::GetIoPriority, task, source })
}

/// Sets the I/O priority of a task.
///
/// # Errors
///
/// See [`Error::source`]; the real-time class needs `CAP_SYS_NICE` or
/// `CAP_SYS_ADMIN`.
pub fn set_io_priority(task: HostPid, priority: IoPriority) -> Result<(), Error> {
    // SAFETY: no memory is involved.
    check(unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            task.as_raw(),
            i32::from(priority.0),
        )
    })
    .map(drop)
    .map_err(|source| Error { operation: Operation::SetIoPriority, task, source })
}

#[cfg(test)]
mod tests {
    use super::{
        CpuSet, IoPriority, SchedAttr, affinity, attr, io_priority, set_affinity, set_attr,
        set_io_priority,
    };
    use crate::Errno;
    use crate::sleeper::Sleeper;

    #[test]
    fn what_is_set_reads_back() {
        let mut sleeper = Sleeper::start();
        let task = sleeper.pid();
        let batch = SchedAttr { policy: libc::SCHED_BATCH as u32, nice: 7, ..attr(task).unwrap() };
        set_attr(task, batch).unwrap();
        let now = attr(task).unwrap();
        assert_eq!((now.policy, now.nice, now.priority), (batch.policy, 7, 0));
        let stat = sleeper.dir().stat().unwrap();
        assert_eq!((stat.policy, stat.nice), (now.policy, now.nice));

        let allowed = affinity(task).unwrap();
        let one = allowed.iter().last().unwrap();
        let mut words = vec![0; one / 64 + 3];
        words[one / 64] = 1 << (one % 64);
        let one = CpuSet::from_words(words);
        set_affinity(task, &one).unwrap();
        assert_eq!(affinity(task).unwrap(), one);
        assert_eq!(set_affinity(task, &CpuSet::default()).unwrap_err().source, Errno::INVAL);

        let idle = IoPriority::from_raw(3 << 13);
        set_io_priority(task, idle).unwrap();
        assert_eq!(io_priority(task).unwrap(), idle);
        assert_eq!(idle.class(), 3);

        sleeper.reap();
        let error = attr(task).unwrap_err();
        assert_eq!(error.source, Errno::SRCH);
        assert_eq!(error.to_string(), format!("cannot get the scheduling policy of task {task}"));
    }

    #[test]
    fn a_set_of_processors_has_no_trailing_zeros() {
        let set = CpuSet::from_words(vec![0b101, 1 << 63, 0, 0]);
        assert_eq!(set.words(), [0b101, 1 << 63]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2, 127]);
    }

    #[test]
    fn a_list_of_processors_is_understood() {
        assert_eq!(CpuSet::parse("0,2,127").unwrap().words(), [0b101, 1 << 63]);
        assert_eq!(CpuSet::parse("1-3").unwrap().words(), [0b1110]);
        assert_eq!(CpuSet::parse("1-"), None);
        assert!(CpuSet::online().unwrap().iter().count() > 0);
    }

    #[test]
    fn attributes_are_laid_out_as_the_kernel_has_them() {
        let bytes =
            SchedAttr { policy: 6, nice: -1, util_max: 9, ..SchedAttr::default() }.to_bytes();
        assert_eq!((bytes[0], bytes[4], bytes[16], bytes[52]), (56, 6, 255, 9));
    }
}
