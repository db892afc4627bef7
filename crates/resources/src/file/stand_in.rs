//! Processes that do for a file what some other process once did.
//!
//! The kernel notes who makes a connection, or listens: his pid and credentials.
//! While files are created, the processes of the tree do not exist yet, and
//! their pids are free. So a fork of this process takes such a pid, and the
//! credentials, for as long as a few calls take. It has all descriptors that
//! this process has, under their numbers.

use dormouse_kernel::clone::{self, CloneFlags, spawn_bare};
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::ptrace::{Halt, Options, Outcome, Running};
use dormouse_kernel::signal::Signal;
use dormouse_kernel::{Addr, AddrRange, FdNum, HostPid, NsPid};
use dormouse_puppet::{Bare, Batch, Ending, Replies};
use std::os::fd::OwnedFd;

use crate::Result;

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    /// The process.
    pub(crate) pid: NsPid,
    /// Its effective user.
    pub(crate) uid: u32,
    /// Its effective group.
    pub(crate) gid: u32,
    /// Its supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// A fork of this process, ended when it is dropped.
#[derive(Debug)]
pub(crate) struct StandIn {
    bare: Option<Bare>,
    pid: HostPid,
}

/// Memory for its batches, in bytes; none of it is touched unless it is needed.
const ROOM: u64 = 64 << 20;

impl StandIn {
    /// One with these credentials, and this pid unless somebody else has it
    /// meanwhile. It may still do all that this process may.
    pub(crate) fn new(identity: Option<&Identity>) -> Result<Self> {
        let Some(identity) = identity else {
            return Self::take_over(spawn_bare(&[], CloneFlags::empty())?);
        };
        let mut own = Self::with_pid(identity.pid)?;
        own.run(become_like(identity))?;
        Ok(own)
    }

    /// One that is like this process, but has this pid unless somebody else has
    /// it meanwhile.
    pub(crate) fn with_pid(pid: NsPid) -> Result<Self> {
        let pid = match spawn_bare(&[pid], CloneFlags::empty()) {
            Err(clone::Error::PidTaken { .. }) => spawn_bare(&[], CloneFlags::empty())?,
            spawned => spawned?,
        };
        Self::take_over(pid)
    }

    fn take_over(pid: HostPid) -> Result<Self> {
        // From here on its end is seen to.
        let mut own = Self { bare: None, pid };
        let task = match Running::seize(pid, Options::EXITKILL | Options::TRACESYSGOOD)?.halt()? {
            Halt::Halted { task, .. } => task,
            Halt::Exited { .. } | Halt::Ended { .. } => {
                return Err(dormouse_puppet::Error::Died(pid).into());
            }
        };
        let number = NsPid::from_raw(pid.as_raw()).expect("a pid is positive");
        own.bare = Some(Bare::take_over(task, number, room()?)?);
        Ok(own)
    }

    /// Has it make calls.
    pub(crate) fn run(&mut self, batch: Batch) -> Result<Replies> {
        Ok(self.bare()?.run(batch)?)
    }

    /// The puppet that it is.
    pub(crate) fn bare(&mut self) -> Result<&mut Bare> {
        Ok(self.bare.as_mut().ok_or(dormouse_puppet::Error::Died(self.pid))?)
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> HostPid {
        self.pid
    }

    /// Has it end so.
    pub(crate) fn end(mut self, ending: Ending) -> Result<()> {
        match self.bare.take() {
            Some(bare) => Ok(bare.end(ending)?),
            None => Err(dormouse_puppet::Error::Died(self.pid).into()),
        }
    }

    /// Brings descriptors here that it made.
    pub(crate) fn fetch(&self, fds: impl IntoIterator<Item = u32>) -> Result<Vec<OwnedFd>> {
        let pidfd = PidFd::open(self.pid)?;
        let get = |fd| Ok(pidfd.get_fd(FdNum::from_raw(fd))?);
        fds.into_iter().map(get).collect()
    }
}

/// Takes on credentials and keeps all capabilities.
fn become_like(identity: &Identity) -> Batch {
    const SECBIT_NO_SETUID_FIXUP: u64 = 1 << 2;
    let Identity { pid: _, uid, gid, groups } = identity;
    let mut batch = Batch::new();
    batch.call(libc::SYS_prctl, [libc::PR_SET_SECUREBITS.into(), SECBIT_NO_SETUID_FIXUP.into()]);
    let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
    let list = batch.data(&bytes);
    batch.call(libc::SYS_setgroups, [(groups.len() as u64).into(), list.into()]);
    batch.call(libc::SYS_setresgid, [(*gid).into(), (*gid).into(), (*gid).into()]);
    batch.call(libc::SYS_setresuid, [(*uid).into(), (*uid).into(), (*uid).into()]);
    batch
}

/// A range that is free in this process, and so in its fork.
fn room() -> Result<AddrRange> {
    let mut at = 0x1_0000_0000;
    for vma in ProcDir::of_self()?.maps()? {
        if vma.range.start().as_raw().saturating_sub(at) >= ROOM * 2 {
            break;
        }
        at = at.max(vma.range.end().as_raw());
    }
    Ok(AddrRange::with_len(Addr::from_raw(at), ROOM).expect("there is room in an address space"))
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if self.bare.take().is_some_and(|bare| bare.end(Ending::Exit(0)).is_ok()) {
            return;
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid.as_raw()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let mut running = Running::attached(self.pid);
        while let Ok(Outcome::Stopped(task)) = running.wait() {
            match task.resume(Some(Signal::KILL)) {
                Ok(task) => running = task,
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, StandIn};
    use dormouse_kernel::NsPid;
    use dormouse_kernel::socket::SocketOption;
    use dormouse_puppet::Batch;

    #[test]
    fn a_pair_is_made_by_somebody_else() {
        let highest = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
        // Most likely free.
        let number: i32 = highest.trim().parse::<i32>().unwrap() - 7;
        let pid = NsPid::from_raw(number).unwrap();
        let identity = Identity { pid, uid: 1234, gid: 5678, groups: vec![7, 9] };
        let mut stand_in = StandIn::new(Some(&identity)).unwrap();
        let mut batch = Batch::new();
        let fds = batch.out(8);
        let kind = libc::SOCK_STREAM;
        batch.call(
            libc::SYS_socketpair,
            [libc::AF_UNIX.into(), kind.into(), 0.into(), (&fds).into()],
        );
        let replies = stand_in.run(batch).unwrap();
        let [one, _] = *replies.array::<8>(&fds).as_chunks::<4>().0 else { unreachable!() };
        let socket = stand_in.fetch([u32::from_ne_bytes(one)]).unwrap().remove(0);
        drop(stand_in);
        let mut cred = [0; 12];
        SocketOption::of_socket(libc::SO_PEERCRED).get_into(&socket, &mut cred).unwrap();
        let numbers: Vec<u32> = cred.as_chunks().0.iter().map(|&b| u32::from_ne_bytes(b)).collect();
        assert_eq!(numbers, [number.unsigned_abs(), 1234, 5678]);
    }
}
