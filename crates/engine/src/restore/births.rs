//! How each task of a tree is made: by which thread, and with what it shares
//! with that thread.
//!
//! A task has its memory, signal handlers, fd table, directories and what is
//! undone when it ends from its maker or gets new ones, so whatever two tasks share must come down to them by `clone3(2)`:
//! the maker of a thread is any thread of its process which has that; the
//! maker of a process is the very thread whose child it is.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::NsPid;
use dormouse_kernel::clone::CloneFlags;
use dormouse_kernel::signal::Signal;
use dormouse_resources::file::FdTableId;
use dormouse_resources::task::Refusal;

use super::decode::{Body, DirectoriesId, Process, Thread, host};
use super::spawn_plan::Step;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// One call of `clone3(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    /// The thread that makes it.
    maker: NsPid,
    /// The new task.
    pub(crate) task: NsPid,
    /// The process it is in, or is.
    pub(crate) process: NsPid,
    /// What it shares.
    pub(crate) flags: CloneFlags,
    /// What tells its parent of its end; for a thread nothing does, and a
    /// sibling has that of its maker.
    pub(crate) exit_signal: Option<Signal>,
}

/// The births of a tree, by process: the process first unless it is the root,
/// then its threads.
#[derive(Debug)]
pub(crate) struct Births(BTreeMap<NsPid, Vec<Birth>>);

/// What a task may have in common with others.
#[derive(Clone, Copy)]
struct Shares {
    space: NsPid,
    handlers: u32,
    table: FdTableId,
    directories: DirectoriesId,
    undo: NsPid,
}

/// What exists after the births so far.
#[derive(Default)]
struct Born {
    tasks: BTreeMap<NsPid, Shares>,
    spaces: BTreeSet<NsPid>,
    handlers: BTreeSet<u32>,
    tables: BTreeSet<FdTableId>,
    directories: BTreeSet<DirectoriesId>,
    undos: BTreeSet<NsPid>,
}

impl Births {
    /// Works them out for the forks of `steps`.
    pub(crate) fn plan(processes: &[Process], steps: &[Step]) -> Result<Self, Error> {
        const PHASE: Phase = Phase::Plan;
        let known: BTreeMap<i32, &Process> =
            processes.iter().map(|process| (process.node.pid.as_raw(), process)).collect();
        let mut births = BTreeMap::new();
        let mut born = Born::default();
        if let Some(root) = processes.first() {
            born.add_leader(root);
            births.insert(root.node.pid, born.threads(root).of(PHASE, host(root.node.pid))?);
        }
        for (at, step) in steps.iter().enumerate() {
            let Step::Fork { maker, child, sibling } = *step else { continue };
            let number = |raw| NsPid::from_raw(raw).expect("plans are made of pids");
            let (maker, pid) = (number(maker), number(child));
            let list = match known.get(&child) {
                None => match steps.get(at + 1) {
                    // A helper has nothing of its own that its child is to share.
                    Some(Step::Fork { maker: helper, child, .. }) if *helper == pid.as_raw() => {
                        vec![born.helper(maker, pid, known.get(child))]
                    }
                    _ => vec![stand_in(maker, pid)],
                },
                Some(process) => {
                    let by_parent = process.node.parent == Some(maker);
                    if !sibling && !by_parent {
                        check_adopted(process).of(PHASE, host(pid))?;
                    }
                    let maker = process.parent_thread.filter(|_| by_parent).unwrap_or(maker);
                    if sibling {
                        check_sibling(known.get(&maker.as_raw()), process).of(PHASE, host(pid))?;
                    }
                    born.process(process, maker, sibling).of(PHASE, host(pid))?
                }
            };
            births.insert(pid, list);
        }
        Ok(Self(births))
    }

    /// Who makes a process.
    pub(crate) fn maker_of(&self, process: NsPid) -> Option<NsPid> {
        self.0.get(&process)?.first().map(|birth| birth.maker)
    }

    /// The births of a process and its threads, in order, together where one
    /// thread makes many.
    pub(crate) fn of(&self, process: NsPid) -> impl Iterator<Item = (NsPid, &[Birth])> {
        let all = self.0.get(&process).map_or(&[][..], Vec::as_slice);
        all.chunk_by(|one, next| one.maker == next.maker).map(|births| (births[0].maker, births))
    }
}

pub(super) fn stand_in(maker: NsPid, pid: NsPid) -> Birth {
    let exit_signal = Some(Signal::CHLD);
    Birth { maker, task: pid, process: pid, flags: CloneFlags::empty(), exit_signal }
}

/// What is made with `CLONE_PARENT` has the parent and the exit signal of its
/// maker; a stand-in's are the common ones.
fn check_sibling(maker: Option<&&Process>, process: &Process) -> Result<(), Cause> {
    let (signal, thread) =
        maker.map_or((Some(Signal::CHLD), None), |maker| (maker.exit_signal, maker.parent_thread));
    if (signal, thread) == (process.exit_signal, process.parent_thread) {
        return Ok(());
    }
    Err(Cause::Unsupported(Refusal::UnlikeSibling))
}

/// Whoever is adopted is a child of the adopter's first thread, and ends with
/// the common signal.
fn check_adopted(process: &Process) -> Result<(), Cause> {
    if (process.exit_signal, process.parent_thread) == (Some(Signal::CHLD), None) {
        return Ok(());
    }
    Err(Cause::Unsupported(Refusal::UnlikeOrphan))
}

impl Born {
    fn shares(body: &Body, thread: &Thread) -> Shares {
        let (space, handlers) = (body.space, body.handlers);
        let (directories, undo) = (thread.directories.number, thread.undo_owner);
        Shares { space, handlers, table: thread.table, directories, undo }
    }

    fn add(&mut self, task: NsPid, shares: Shares) {
        self.spaces.insert(shares.space);
        self.handlers.insert(shares.handlers);
        self.tables.insert(shares.table);
        self.directories.insert(shares.directories);
        self.undos.insert(shares.undo);
        self.tasks.insert(task, shares);
    }

    /// A leader that has ended was made like the first thread that has not.
    fn add_leader(&mut self, process: &Process) {
        if let Some(body) = &process.body {
            self.add(process.node.pid, Self::shares(body, &body.threads[0]));
        }
    }

    /// One that is to fork `child` in the place of `maker`, with all that the
    /// two share.
    fn helper(&mut self, maker: NsPid, pid: NsPid, child: Option<&&Process>) -> Birth {
        let body = child.and_then(|process| process.body.as_ref());
        let flags = body.and_then(|body| self.flags(maker, Self::shares(body, &body.threads[0])));
        if let Some(&shares) = self.tasks.get(&maker) {
            self.tasks.insert(pid, shares);
        }
        Birth { flags: flags.unwrap_or(CloneFlags::empty()), ..stand_in(maker, pid) }
    }

    /// What a task with `shares` is to share with `maker`; `None` if it could
    /// not get it from there.
    fn flags(&self, maker: NsPid, shares: Shares) -> Option<CloneFlags> {
        let given = self.tasks.get(&maker);
        let Shares { space, handlers, table, directories, undo } = shares;
        let same = |is: fn(&Shares, &Shares) -> bool| given.is_some_and(|given| is(given, &shares));
        let kinds = [
            (CloneFlags::VM, same(|a, b| a.space == b.space), self.spaces.contains(&space)),
            (
                CloneFlags::SIGHAND,
                same(|a, b| a.handlers == b.handlers),
                self.handlers.contains(&handlers),
            ),
            (CloneFlags::FILES, same(|a, b| a.table == b.table), self.tables.contains(&table)),
            (
                CloneFlags::FS,
                same(|a, b| a.directories == b.directories),
                self.directories.contains(&directories),
            ),
            (CloneFlags::SYSVSEM, same(|a, b| a.undo == b.undo), self.undos.contains(&undo)),
        ];
        let mut flags = CloneFlags::empty();
        for (flag, same, exists) in kinds {
            if exists && !same {
                return None;
            }
            flags.set(flag, same);
        }
        Some(flags)
    }

    fn process(
        &mut self,
        process: &Process,
        maker: NsPid,
        sibling: bool,
    ) -> Result<Vec<Birth>, Cause> {
        let pid = process.node.pid;
        let mut flags = match &process.body {
            None => CloneFlags::empty(),
            Some(body) => self
                .flags(maker, Self::shares(body, &body.threads[0]))
                .ok_or(Cause::Unsupported(Refusal::SharedAside))?,
        };
        self.add_leader(process);
        flags.set(CloneFlags::PARENT, sibling);
        let exit_signal = process.exit_signal.filter(|_| !sibling);
        let mut births = vec![Birth { maker, task: pid, process: pid, flags, exit_signal }];
        births.extend(self.threads(process)?);
        Ok(births)
    }

    fn threads(&mut self, process: &Process) -> Result<Vec<Birth>, Cause> {
        let mut births = Vec::new();
        let Some(body) = &process.body else { return Ok(births) };
        let mut elders = vec![process.node.pid];
        for thread in body.threads.iter().filter(|thread| thread.tid != process.node.pid) {
            let shares = Self::shares(body, thread);
            let birth = elders.iter().find_map(|&maker| {
                let flags = self.flags(maker, shares)? | CloneFlags::THREAD;
                let (task, process) = (thread.tid, process.node.pid);
                Some(Birth { maker, task, process, flags, exit_signal: None })
            });
            births.push(birth.ok_or(Cause::Unsupported(Refusal::SharedApart))?);
            self.add(thread.tid, shares);
            elders.push(thread.tid);
        }
        Ok(births)
    }
}
