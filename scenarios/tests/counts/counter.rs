//! Counts system calls by the kernel's own tracepoints, without stopping anybody.
//!
//! Truth from: `perf_event_open(2)`; counts of an event with `inherit` hold
//! those of all children, which begin with their `execve(2)`.
//!
//! # Safety
//!
//! The one call made here hands over a structure that says its own size, and gives
//! a descriptor to this call alone.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `struct perf_event_attr` as of its first version (`PERF_ATTR_SIZE_VER0`).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    config1: u64,
}

const _: () = assert!(size_of::<Attributes>() == 64);

const TRACEPOINT: u32 = 2;
const DISABLED: u64 = 1;
const INHERIT: u64 = 1 << 1;
const ENABLE_ON_EXEC: u64 = 1 << 12;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: u64 = 1 << 3;

/// Where tracepoints have their numbers.
pub(crate) struct Tracepoints(PathBuf);

impl Tracepoints {
    /// Mounts them at a new directory, for as long as the mount namespace lives.
    pub(crate) fn mount(dir: &Path) -> io::Result<Self> {
        let at = dir.join("tracing");
        fs::create_dir(&at)?;
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tracefs", &at, "tracefs", flags, None)?;
        Ok(Self(at))
    }

    fn counter(&self, name: &str, task: i32, flags: u64) -> io::Result<Counter> {
        let id = fs::read_to_string(self.0.join("events").join(name).join("id"))?;
        let config = id.trim().parse().map_err(io::Error::other)?;
        let size = size_of::<Attributes>() as u32;
        let attributes =
            Attributes { kind: TRACEPOINT, size, config, flags, ..Attributes::default() };
        // SAFETY: the structure is of the length it says, and only read.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, task, -1, -1, CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given it to this call alone.
        Ok(Counter(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Counts in all programs that the calling thread will run.
    pub(crate) fn of_children(&self, name: &str) -> io::Result<Counter> {
        self.counter(name, 0, DISABLED | INHERIT | ENABLE_ON_EXEC)
    }

    /// Counts in a task that is there.
    pub(crate) fn of_task(&self, name: &str, task: i32) -> io::Result<Counter> {
        self.counter(name, task, 0)
    }
}

/// How often something has happened.
pub(crate) struct Counter(OwnedFd);

impl Counter {
    pub(crate) fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        rustix::io::read(&self.0, &mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}
