//! Everything that exists so far of a tree that is being restored.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use dormouse_kernel::clone::{self, CloneFlags, spawn_bare, spawn_orphan};
use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::ptrace::{self, Halt, Options, Outcome, Running, Stopped};
use dormouse_kernel::signal::Signal;
use dormouse_kernel::{AddrRange, Errno, HostPid, NsPid};
use dormouse_puppet::{Arg, Bare, Batch, Error, Slot, run_together, vacate_together};
use dormouse_resources::file::RingTasks;
use dormouse_resources::task::Inheritance;

use super::births::{self, Birth};
use super::decode::{Process, host};
use super::holder::taken;
use crate::cause::Cause;
use crate::dump::Usher;
use crate::{RestoreOptions, RootParent};

/// The puppets of the tree, by tid. Whatever becomes of dormouse, the kernel
/// kills them (`PTRACE_O_EXITKILL`); if the restore fails, dropping this does.
#[derive(Debug)]
pub(crate) struct World {
    puppets: BTreeMap<NsPid, Bare>,
    /// Tasks that are no puppets any more, and wait to be let go.
    ready: Vec<Stopped>,
    root: NsPid,
    /// The descriptor in every puppet that leads to dormouse.
    link: u64,
    /// Who cannot work at the same time.
    pub(super) kinship: Kinship,
}

/// Which tasks share their memory or their fd table.
#[derive(Debug, Default)]
pub(super) struct Kinship(BTreeMap<NsPid, [NsPid; 2]>);

impl Kinship {
    fn add(&mut self, task: NsPid, maker: NsPid, flags: CloneFlags) {
        let of_maker = self.of(maker);
        let shared = [CloneFlags::VM, CloneFlags::FILES].map(|flag| flags.contains(flag));
        let of_task = [0, 1].map(|kind| if shared[kind] { of_maker[kind] } else { task });
        self.0.insert(task, of_task);
    }

    /// The tasks who had its memory and its fd table first.
    fn of(&self, task: NsPid) -> [NsPid; 2] {
        self.0.get(&task).copied().unwrap_or([task; 2])
    }

    pub(super) fn are_related(&self, one: NsPid, other: NsPid) -> bool {
        self.of(one).iter().zip(self.of(other)).any(|(one, other)| *one == other)
    }
}

/// Whose child the root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    Dormouse,
    /// Dormouse's parent.
    OfDormouse,
    /// Whoever looks after orphans.
    None,
}

impl Parent {
    /// As `options` have it.
    pub(crate) fn of(root: &Process, options: &RestoreOptions) -> Self {
        let threads = root.body.iter().flat_map(|body| &body.threads);
        let is_told = || threads.clone().any(|thread| thread.state.parent_death.is_told());
        match options.parent {
            RootParent::Caller => Self::Dormouse,
            RootParent::Leaving if is_told() => Self::None,
            RootParent::Other | RootParent::Leaving => Self::OfDormouse,
        }
    }
}

impl World {
    /// Makes the root: a fork of dormouse with nothing of dormouse in it.
    /// `room` is free in every process of the tree, `link` a descriptor
    /// number that no fd table of the tree uses. Seccomp filters will not hold for puppets if
    /// `unfiltered`, which takes `CAP_SYS_ADMIN`.
    pub(crate) fn begin(
        root: NsPid,
        (parent, unfiltered): (Parent, bool),
        (room, link): (AddrRange, u32),
    ) -> Result<Self, Cause> {
        Inheritance::shed_io_priority()?;
        let spawn = || match parent {
            Parent::Dormouse => spawn_bare(&[root], CloneFlags::empty()),
            Parent::OfDormouse => spawn_bare(&[root], CloneFlags::PARENT),
            Parent::None => spawn_orphan(root),
        };
        let goes = Going::begin();
        let pid = loop {
            match spawn() {
                Err(clone::Error::PidTaken { .. }) if goes.may_be_free_soon(root) => {}
                Err(clone::Error::PidTaken { .. }) => return Err(taken(root)),
                spawned => break spawned?,
            }
        };
        let mut world = Self {
            puppets: BTreeMap::new(),
            ready: Vec::new(),
            root,
            link: link.into(),
            kinship: Kinship::default(),
        };
        let mut options = Options::EXITKILL | Options::TRACESYSGOOD;
        options.set(Options::SUSPEND_SECCOMP, unfiltered);
        let task = match Running::seize(pid, options)?.halt()? {
            Halt::Halted { task, .. } => task,
            Halt::Exited { .. } | Halt::Ended { .. } => {
                return Err(Error::Died(pid).into());
            }
        };
        let mut bare = Bare::take_over(task, root, room)?;
        bare.strip()?;
        world.puppets.insert(root, bare);
        world.connect()?;
        Ok(world)
    }

    /// Rids the root of everything it has inherited, and gives it a pidfd of
    /// dormouse. Whoever it forks has that too.
    fn connect(&mut self) -> Result<(), Cause> {
        let own = HostPid::of_self().as_raw();
        let mut batch = Batch::new();
        batch.call(libc::SYS_close_range, [0.into(), u32::MAX.into(), 0.into()]);
        // The lowest number that is free.
        batch.call(libc::SYS_pidfd_open, [own.into(), 0.into()]);
        Inheritance::shed(&mut batch);
        if self.link != 0 {
            let flags = libc::O_CLOEXEC;
            batch.call(libc::SYS_dup3, [0.into(), self.link.into(), flags.into()]);
            batch.call(libc::SYS_close, [0.into()]);
        }
        self.run(self.root, batch)?;
        Ok(())
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> NsPid {
        self.root
    }

    /// Has a task make the calls of a batch.
    pub(crate) fn run(
        &mut self,
        task: NsPid,
        batch: Batch,
    ) -> Result<dormouse_puppet::Replies, Cause> {
        Ok(self.puppet(task).run(batch)?)
    }

    /// Has threads of one process make the calls of a batch each, all at once.
    pub(crate) fn run_together(&mut self, batches: Vec<(NsPid, Batch)>) -> Result<(), Cause> {
        let mut batches: BTreeMap<NsPid, Batch> = batches.into_iter().collect();
        let Some((&low, _)) = batches.first_key_value() else { return Ok(()) };
        let tasks = self.puppets.range_mut(low..);
        let tasks = tasks.filter_map(|(tid, bare)| Some((bare, batches.remove(tid)?)));
        let tasks: Vec<_> = tasks.collect();
        Ok(run_together(tasks)?)
    }

    /// A task.
    pub(crate) fn puppet(&mut self, task: NsPid) -> &mut Bare {
        self.puppets.get_mut(&task).expect("a task is made before it is used")
    }

    /// Takes a task out of the world.
    pub(crate) fn take(&mut self, task: NsPid) -> Bare {
        self.puppets.remove(&task).expect("a task is made before it is used")
    }

    /// Puts back a task that was taken out.
    pub(crate) fn put_back(&mut self, task: NsPid, puppet: Bare) {
        self.puppets.insert(task, puppet);
    }

    /// Has tasks unmap their rooms, all at once; each is the last of its address space that
    /// makes calls.
    pub(crate) fn vacate(&mut self, tasks: &BTreeSet<NsPid>) -> Result<(), Cause> {
        let (Some(&low), Some(&high)) = (tasks.first(), tasks.last()) else { return Ok(()) };
        let some = self.puppets.range_mut(low..=high).filter(|(task, _)| tasks.contains(task));
        Ok(vacate_together(some.map(|(_, puppet)| puppet))?)
    }

    /// Puts back a task that is as it was, until [`Self::release`].
    pub(crate) fn put_ready(&mut self, task: Stopped) {
        self.ready.push(task);
    }

    /// The tasks that are as they were.
    pub(crate) fn ready(&self) -> &[Stopped] {
        &self.ready
    }

    /// Lets go of all tasks: first those that have `turns`, one after the
    /// other, as nobody can wake them until the others run; then those to whom signals are
    /// sent, who might have them wake others as long as they are traced; and all in the order in which
    /// they were ready. Who is killed just then was restored all the same.
    pub(crate) fn release(
        mut self,
        turns: &BTreeMap<HostPid, u32>,
        targets: &BTreeSet<HostPid>,
    ) -> Result<(), ptrace::Error> {
        // Whatever fails, those that are left are still ended by `drop`.
        self.ready.reverse();
        self.ready.sort_by_key(|task| {
            let tid = task.tid();
            Reverse((turns.get(&tid).map_or(u32::MAX, |&turn| turn), !targets.contains(&tid)))
        });
        let usher = Usher::new();
        while let Some(task) = self.ready.pop() {
            let tid = task.tid();
            match task.detach(None) {
                Err(error) if !error.is_death() => return Err(error),
                _ if turns.contains_key(&tid) => usher.await_wait(tid),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a call that fetches a descriptor of dormouse's.
    pub(crate) fn fetch(&self, batch: &mut Batch, file: BorrowedFd<'_>) -> Slot {
        fetch(self.link, batch, file)
    }

    /// The descriptor that leads to dormouse.
    pub(crate) fn link(&self) -> u64 {
        self.link
    }

    /// Has `maker` make a child that stands for a process that has ended.
    pub(crate) fn stand_in(&mut self, maker: NsPid, pid: NsPid) -> Result<(), Cause> {
        self.multiply(maker, &[births::stand_in(maker, pid)]).map_err(|(_, cause)| cause)
    }

    /// Has `maker` make tasks, all in one batch. An error comes with the process that it is about.
    pub(crate) fn multiply(
        &mut self,
        maker: NsPid,
        births: &[Birth],
    ) -> Result<(), (NsPid, Cause)> {
        let goes = Going::begin();
        let mut left = births;
        loop {
            let mut batch = Batch::new();
            for birth in left {
                batch.clone_task(birth.flags, birth.exit_signal, birth.task);
            }
            let ran = self.puppet(maker).run(batch);
            // Calls are made in order, up to the first that fails.
            let made = match ran {
                Ok(_) => left.len(),
                Err(_) => left.iter().take_while(|birth| is_traced_here(birth.task)).count(),
            };
            let (those, rest) = left.split_at(made);
            // Whatever comes of it, nobody who was made is forgotten.
            let adopted: Vec<_> = those.iter().map(|birth| self.adopt(maker, birth)).collect();
            adopted.into_iter().collect::<Result<(), _>>()?;
            left = rest;
            let Err(error) = ran else { return Ok(()) };
            match (error, left.first()) {
                (Error::Call { source: Errno::EXIST, .. }, Some(Birth { task, process, .. })) => {
                    if !goes.may_be_free_soon(*task) {
                        return Err((*process, taken(*task)));
                    }
                }
                (error, failed) => {
                    return Err((failed.map_or(maker, |birth| birth.process), error.into()));
                }
            }
        }
    }

    fn adopt(&mut self, maker: NsPid, birth: &Birth) -> Result<(), (NsPid, Cause)> {
        let Birth { task, process, flags, .. } = *birth;
        let puppet = Bare::adopt(&self.puppets[&maker], host(task), task, process);
        self.puppets.insert(task, puppet.map_err(|error| (process, error.into()))?);
        self.kinship.add(task, maker, flags);
        Ok(())
    }
}

impl RingTasks for World {
    fn puppet(&mut self, task: NsPid) -> &mut Bare {
        World::puppet(self, task)
    }

    fn fetch(&self, batch: &mut Batch, file: BorrowedFd<'_>) -> Slot {
        World::fetch(self, batch, file)
    }
}

/// Adds a call that fetches a descriptor of dormouse's over the `link`.
pub(crate) fn fetch(link: u64, batch: &mut Batch, file: BorrowedFd<'_>) -> Slot {
    let args: [Arg; 3] = [link.into(), file.as_raw_fd().into(), 0.into()];
    batch.call(libc::SYS_pidfd_getfd, args)
}

/// Waits for numbers that nobody seems to have, and that are not free.
struct Going(Instant);

impl Going {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Whether it is worth trying again, after a moment: the kernel takes a task that is reaped out of
    /// its tables before it frees the number (`release_task` in `kernel/exit.c`), and what is
    /// left of a process group may be about to end as well.
    fn may_be_free_soon(&self, pid: NsPid) -> bool {
        const PATIENCE: Duration = Duration::from_secs(1);
        let unseen = ProcDir::open(host(pid)).is_err();
        let soon = unseen && self.0.elapsed() < PATIENCE;
        if soon {
            std::thread::sleep(Duration::from_millis(1));
        }
        soon
    }
}

/// Whether a task is one that a puppet has made. A tracer is a thread.
fn is_traced_here(task: NsPid) -> bool {
    let status = ProcDir::open(host(task)).and_then(|dir| dir.status());
    status.is_ok_and(|status| status.tracer == Some(HostPid::of_thread()))
}

impl Drop for World {
    fn drop(&mut self) {
        // Parents last, so that nobody sees a child end.
        let puppets = std::mem::take(&mut self.puppets).into_values().map(|puppet| puppet.tid());
        let mut tids: Vec<_> = puppets.chain(self.ready.drain(..).map(|task| task.tid())).collect();
        tids.sort_by(|a, b| b.cmp(a));
        for pid in tids.iter().filter_map(|tid| rustix::process::Pid::from_raw(tid.as_raw())) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        for tid in tids {
            let mut running = Running::attached(tid);
            while let Ok(Outcome::Stopped(task)) = running.wait() {
                match task.resume(Some(Signal::KILL)) {
                    Ok(task) => running = task,
                    Err(_) => break,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dormouse_kernel::Addr;

    use super::*;
    use crate::Phase;
    use crate::cause::At as _;

    /// A number that nobody has.
    fn free() -> NsPid {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        NsPid::from_raw(child.id().cast_signed()).unwrap()
    }

    fn lives(pid: NsPid) -> bool {
        let stat = ProcDir::open(host(pid)).and_then(|dir| dir.stat());
        stat.is_ok_and(|stat| !stat.state.is_dead())
    }

    #[test]
    fn who_was_made_before_a_failure_ends_with_the_world() {
        let room = AddrRange::with_len(Addr::from_raw(0x6000_0000_0000), 1 << 20).unwrap();
        let [root, child] = [free(), free()];
        let taken = NsPid::from_raw(HostPid::of_self().as_raw()).unwrap();
        let mut world = World::begin(root, (Parent::Dormouse, false), (room, 3)).unwrap();
        let births = [child, taken].map(|task| births::stand_in(root, task));
        let (of, cause) = world.multiply(root, &births).unwrap_err();
        assert!(matches!(cause, Cause::PidTaken { .. }), "{cause}");
        assert_eq!(of, taken);
        assert!([root, child].into_iter().all(lives));
        drop(world);
        assert!(![root, child].into_iter().any(lives));
    }

    #[test]
    fn who_has_died_is_named() {
        let room = AddrRange::with_len(Addr::from_raw(0x6100_0000_0000), 1 << 20).unwrap();
        let [root, child] = [free(), free()];
        let mut world = World::begin(root, (Parent::Dormouse, false), (room, 3)).unwrap();
        world.multiply(root, &[births::stand_in(root, child)]).unwrap();
        let pid = rustix::process::Pid::from_raw(child.as_raw()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let failed = world.vacate(&BTreeSet::from([root, child])).at(Phase::Threads).unwrap_err();
        assert_eq!(failed.task, Some(host(child)), "{failed}");
        let failed = world.run(child, Batch::new()).of(Phase::Spawn, host(root)).unwrap_err();
        assert_eq!(failed.task, Some(host(child)), "{failed}");
    }
}
