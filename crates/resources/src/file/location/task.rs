//! Files of `/proc` that are about a task.
//!
//! Kernel object: an inode of procfs that refers to a `struct pid`, which
//! outlives the task (`fs/proc/base.c`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dormouse_kernel::proc::Stat;
use dormouse_kernel::{HostPid, NsPid};
use rustix::fs::{CWD, statat};
use rustix::io::Errno;

use crate::file::create::{CreateCx, Milestone, Stash};
use crate::file::stand_in::StandIn;
use crate::file::{FsMagic, Probe};
use crate::{Error, Result};

/// Where `/proc` is, unless the image says otherwise.
pub(super) const PROC: &str = "/proc";

/// The inode number of the root of every procfs (`PROC_ROOT_INO`).
const ROOT_INODE: u64 = 1;

/// Directories of a task that list what a restore makes later than files.
const PARTS: [&str; 3] = ["fd", "fdinfo", "map_files"];

/// A file below `/proc/PID` or `/proc/PID/task/TID`, or one of these.
#[derive(Debug)]
pub(super) struct TaskFile {
    /// Where that `/proc` is.
    pub(super) mount: PathBuf,
    /// The process by whose directory it is reached.
    pub(super) process: NsPid,
    /// The task that it is about, if not as a process.
    thread: Option<NsPid>,
    /// The rest of the path.
    below: PathBuf,
}

impl TaskFile {
    /// What `name`, in the `/proc` at `mount`, tells.
    pub(super) fn parse(mount: &Path, name: &Path) -> Option<Self> {
        let pid = |path: &Path| NsPid::from_raw(path.to_str()?.parse().ok()?);
        let first = |path: &Path| path.iter().next().map(PathBuf::from);
        let below = name.strip_prefix(mount).ok()?;
        let directory = first(below)?;
        let process = pid(&directory)?;
        let below = below.strip_prefix(&directory).expect("it begins so");
        let (mut thread, mut rest) = (None, below);
        if let Ok(tasks) = below.strip_prefix("task")
            && let Some(directory) = first(tasks)
        {
            thread = Some(pid(&directory)?);
            rest = tasks.strip_prefix(&directory).expect("it begins so");
        }
        Some(Self { mount: mount.to_owned(), process, thread, below: rest.to_owned() })
    }

    /// The same of a file that was found under `name`.
    pub(super) fn of(probe: &Probe, name: &Path) -> Option<Self> {
        if probe.file_system != FsMagic::PROC {
            return None;
        }
        let is_root = |path: &&Path| {
            let found = statat(CWD, *path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
            found.is_ok_and(|it| it.st_dev == probe.stat.st_dev && it.st_ino == ROOT_INODE)
        };
        Self::parse(name.ancestors().find(is_root)?, name)
    }

    /// The task.
    pub(super) fn task(&self) -> NsPid {
        self.thread.unwrap_or(self.process)
    }

    /// When the task began, in ticks of the clock since the system did.
    pub(super) fn start(&self) -> Result<u64> {
        let mut path = self.mount.join(self.process.to_string());
        if let Some(thread) = self.thread {
            path.extend([Path::new("task"), Path::new(&thread.to_string())]);
        }
        let path = path.join("stat");
        let bytes = std::fs::read(&path).map_err(Error::kernel_io("read", &path))?;
        let stat = Stat::parse(&bytes).map_err(|_| Error::kernel("read", &path)(Errno::IO))?;
        Ok(stat.start_ticks)
    }

    /// Whether it is about one descriptor or mapping of the task.
    pub(super) fn is_about_part(&self) -> bool {
        let mut names = self.below.iter();
        names.next().is_some_and(|name| PARTS.iter().any(|part| *part == name))
            && names.next().is_some()
    }

    /// The path of the same file about another task, the first of its process.
    pub(super) fn about(&self, task: HostPid) -> PathBuf {
        let mut path = self.mount.join(task.to_string());
        if self.thread.is_some() {
            path.extend([Path::new("task"), Path::new(&task.to_string())]);
        }
        // A path that ends in a slash would not be of a file.
        if self.below.as_os_str().is_empty() { path } else { path.join(&self.below) }
    }
}

/// Processes that stand for dead tasks, until all files about those are open.
#[derive(Debug, Default)]
struct Dead(BTreeMap<NsPid, StandIn>);

impl Stash for Dead {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// A process that stands for a dead task, with its pid if that is free.
pub(super) fn stand_in(task: NsPid, cx: &mut CreateCx<'_>) -> Result<HostPid> {
    use std::collections::btree_map::Entry;
    let stand_in = match cx.stash::<Dead>().0.entry(task) {
        Entry::Occupied(stand_in) => stand_in.into_mut(),
        Entry::Vacant(place) => place.insert(StandIn::with_pid(task)?),
    };
    Ok(stand_in.pid())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::TaskFile;
    use dormouse_kernel::HostPid;

    /// The task, whether it is about a part, and the path about task 9.
    fn parse(mount: &str, name: &str) -> Option<(i32, bool, PathBuf)> {
        let file = TaskFile::parse(Path::new(mount), Path::new(name))?;
        let other = file.about(HostPid::from_raw(9).unwrap());
        Some((file.task().as_raw(), file.is_about_part(), other))
    }

    #[test]
    fn paths_tell_the_task() {
        let some = |task, part, other: &str| Some((task, part, PathBuf::from(other)));
        assert_eq!(parse("/proc", "/proc/12/stat"), some(12, false, "/proc/9/stat"));
        assert_eq!(parse("/proc", "/proc/12"), some(12, false, "/proc/9"));
        assert_eq!(parse("/proc", "/proc/12/task"), some(12, false, "/proc/9/task"));
        assert_eq!(parse("/proc", "/proc/12/task/13"), some(13, false, "/proc/9/task/9"));
        assert_eq!(parse("/a/p", "/a/p/1/task/3/io"), some(3, false, "/a/p/9/task/9/io"));
        assert_eq!(parse("/proc", "/proc/12/fd"), some(12, false, "/proc/9/fd"));
        assert_eq!(parse("/proc", "/proc/12/fdinfo/3"), some(12, true, "/proc/9/fdinfo/3"));
        for other in ["/proc", "/proc/meminfo", "/proc/sys/1", "/proc/0", "/proc/-1/stat", "/x"] {
            assert_eq!(parse("/proc", other), None, "{other}");
        }
    }
}
