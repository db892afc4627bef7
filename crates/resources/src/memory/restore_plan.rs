//! What is done to each process of a tree, so that it has its memory back.
//!
//! A process is made by `fork(2)`, so it begins with what its parent has at that moment. Pages
//! that both have in common, or that several children have in common, are put into the parent
//! before; all else is put where it belongs after
//! all children are made. So each process goes through two states: the one at the time its
//! children are made (its mappings, as wide as the children need them, with the pages some child
//! has in common with it or with another child), and its own.
//!
//! A chain of processes, each forked by the one before, costs time that grows with the square of its
//! length, as it cost the program: `fork(2)` enters each mapping that has pages of its own into the
//! trees of all ancestors (`anon_vma_clone` in `mm/rmap.c`), and so does `mprotect(2)` with each that
//! it divides. What dormouse itself does for a process does not depend on how deep it is.

use std::sync::Arc;

use dormouse_kernel::{Addr, AddrRange, HostPid};
use dormouse_puppet::{Arg, Bare, Batch, Perform};

use super::aio::AioContext;
use super::contents::Contents;
use super::error::{Error, Result};
use super::fill::{self, Filler, Filling};
use super::mm::{Mm, TransparentHugePages};
use super::planner::{Own, Planner, State, may_inherit, unify};
use super::ring;
use super::saved::{PagesFiles, SavedMemory};
use super::steps::{MapFiles, MapStep, NoFiles, Runner};
use super::vdso::{KernelVdso, free_range};
use super::vma::Vma;
use crate::file::FileId;

/// What is done to each process of a tree, in this order, for every process after its parent:
///
/// 1. A child that [shares nothing](Self::shares_with_parent) is best forked before its parent
///    does any of this. It may be forked later, but then it costs time to give it memory that it
///    has no use for.
/// 2. [`map`](Self::map): mappings.
/// 3. [`fill_common`](Self::fill_common): the pages children have in common with it.
/// 4. Children that share are forked now.
/// 5. [`settle`](Self::settle): what was there for the children only goes.
/// 6. [`fill`](Self::fill): all other pages. This may be done for all processes at once, beside
///    other work on them.
/// 7. [`place_rings`](Self::place_rings), when all files exist.
/// 8. [`make_contexts`](Self::make_contexts).
/// 9. [`finish`](Self::finish): protection, advice, locks, guards.
/// 10. [`allow_huge_pages`](Self::allow_huge_pages), when memory is registered with userfaultfds.
#[derive(Debug)]
pub struct RestorePlan<'a> {
    processes: Vec<Process<'a>>,
    files: Arc<PagesFiles>,
    counts: PlannedPages,
}

/// How many pages there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedPages {
    /// Compared with the parent's.
    pub compared: u64,
    /// In common with the parent, so not written.
    pub inherited: u64,
    /// To be written.
    pub written: u64,
}

/// One process of a tree.
#[derive(Clone, Copy, Debug)]
pub struct RestoredProcess<'a> {
    /// Its memory.
    pub memory: &'a SavedMemory,
    /// Which of the processes before it is to fork it; `None` for one that is forked by something
    /// without memory of its own.
    pub parent: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Process<'a> {
    pub(super) mm: &'a Mm,
    /// Whether it is forked when its parent has common pages.
    pub(super) shares: bool,
    /// Whether to set `PR_SET_THP_DISABLE` as it is to be.
    pub(super) sets_huge_pages: bool,
    /// Done first of all.
    pub(super) unmap: Vec<MapStep>,
    pub(super) map: Vec<MapStep>,
    /// Its layout when its children are made.
    pub(super) layout: Vec<Vma>,
    pub(super) common: Contents,
    pub(super) settle: Vec<MapStep>,
    pub(super) rest: Contents,
    pub(super) contexts: &'a [AioContext],
    pub(super) finish: Vec<MapStep>,
}

impl<'a> RestorePlan<'a> {
    /// Plans for all processes of a tree. `room` is the same in all of them, and free, see
    /// [`free_room`](Self::free_room).
    ///
    /// # Errors
    ///
    /// A pages file cannot be read, or a process had another vDSO than `kernel` has.
    ///
    /// # Panics
    ///
    /// If a parent does not stand before its children.
    pub fn new(
        processes: &[RestoredProcess<'a>],
        files: Arc<PagesFiles>,
        kernel: Option<&KernelVdso>,
        room: AddrRange,
    ) -> Result<Self> {
        for process in processes {
            KernelVdso::check(kernel, process.memory, &files)?;
        }
        let (contents, compared) = unify(processes, &files)?;
        let mut counts = PlannedPages { compared, ..PlannedPages::default() };
        let owned: Vec<Own<'a>> = processes
            .iter()
            .zip(contents)
            .map(|(process, contents)| {
                let SavedMemory { mm, segments, contexts, .. } = process.memory;
                Own { mm, segments, contexts, contents }
            })
            .collect();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); processes.len()];
        for (number, process) in processes.iter().enumerate() {
            if let Some(parent) = process.parent {
                assert!(parent < number, "parents stand before their children");
                if may_inherit(owned[parent].mm, owned[number].mm) {
                    children[parent].push(number);
                }
            }
        }
        let some_has_a_say = owned
            .iter()
            .any(|own| own.mm.huge_pages != TransparentHugePages::Anywhere || is_watched(own.mm));
        let mut states: Vec<Option<State>> = processes.iter().map(|_| None).collect();
        let mut planned = Vec::with_capacity(processes.len());
        for (number, own) in owned.iter().enumerate() {
            let inherited = states[number].take();
            let mut plan = Planner { own, inherited, kernel, room };
            let sharing = plan.sharing(&children[number], &owned);
            let heirs: Vec<_> = sharing.iter().map(|&child| &owned[child]).collect();
            let (mut process, state, inherited) = plan.plan(&heirs);
            process.sets_huge_pages = some_has_a_say;
            counts.inherited += inherited;
            counts.written += process.common.pages() + process.rest.pages();
            for child in sharing {
                states[child] = Some(state.clone());
            }
            planned.push(process);
        }
        Ok(Self { processes: planned, files, counts })
    }

    /// Finds a place of `len` bytes which is free in all processes, and not in `used`: what this
    /// process itself has mapped.
    pub fn free_room<'m>(
        memories: impl IntoIterator<Item = &'m SavedMemory>,
        used: impl IntoIterator<Item = AddrRange>,
        len: u64,
    ) -> Option<AddrRange> {
        let theirs = memories.into_iter().flat_map(|memory| &memory.mm.vmas).map(|vma| vma.range);
        // Far from both ends, where programs have their memory, and the kernel keeps a distance
        // below stacks.
        free_range(theirs.chain(used), Addr::from_raw(1 << 44), len)
    }

    /// How many pages there are of which kind.
    #[must_use]
    pub fn counts(&self) -> PlannedPages {
        self.counts
    }

    /// Whether a process is given pages for its children before they are made.
    #[must_use]
    pub fn has_common(&self, process: usize) -> bool {
        !self.processes[process].common.is_empty()
    }

    /// Whether a process has pages in common with its parent, so that it has to be forked after
    /// its parent has [them](Self::fill_common).
    #[must_use]
    pub fn shares_with_parent(&self, process: usize) -> bool {
        self.processes[process].shares
    }

    /// Gives a process its mappings, and the addresses the kernel keeps.
    ///
    /// # Errors
    ///
    /// A file cannot be had, or the kernel refuses a call.
    pub fn map<F: MapFiles>(
        &self,
        process: usize,
        puppet: &mut dyn Perform,
        files: F,
    ) -> Result<(), F::Error> {
        let process = &self.processes[process];
        let mut runner = Runner::new(puppet, files);
        runner.steps(&process.unmap)?;
        // Before any mapping of the file: the kernel does not exchange a file that is mapped. One
        // that shares with its parent runs the same file, and has it already.
        runner.also(!process.shares, |batch, exe| {
            process.mm.set(batch, exe);
            if process.sets_huge_pages {
                // They would fill gaps which are for the handler of a userfaultfd.
                let nowhere = TransparentHugePages::Nowhere;
                if is_watched(process.mm) { nowhere } else { process.mm.huge_pages }.set(batch);
            }
        })?;
        runner.steps(&process.map)?;
        runner.finish()
    }

    /// Puts the pages into a process that its children have in common with it. Returns when they
    /// are there.
    ///
    /// # Errors
    ///
    /// A pages file cannot be read, or memory not be written.
    pub fn fill_common(&self, process: usize, pid: HostPid) -> Result<()> {
        let process = &self.processes[process];
        if process.common.is_empty() {
            return Ok(());
        }
        let filler = Filler::new(pid, &process.layout, &process.common)?;
        fill::fill(&[filler], &self.files)
    }

    /// Takes away what a process had for its children only. They have been made.
    ///
    /// # Errors
    ///
    /// The kernel refuses a call.
    pub fn settle(&self, process: usize, puppet: &mut dyn Perform) -> Result<()> {
        let mut runner = Runner::new(puppet, NoFiles);
        runner.steps(&self.processes[process].settle)?;
        runner.finish()
    }

    /// Begins to put all other pages into the processes given, which are settled.
    ///
    /// # Errors
    ///
    /// Memory cannot be written.
    pub fn fill(&self, processes: &[(usize, HostPid)]) -> Result<Filling> {
        let filler = |&(process, pid): &(usize, HostPid)| {
            let process = &self.processes[process];
            Filler::new(pid, &process.mm.vmas, &process.rest)
        };
        let fillers = processes.iter().map(filler).collect::<Result<_>>()?;
        Ok(Filling::start(fillers, Arc::clone(&self.files)))
    }

    /// Maps the rings of io_uring that a process has, when everything else is mapped. `fetch` adds a
    /// call that opens one, which is closed afterwards.
    ///
    /// # Errors
    ///
    /// A ring cannot be had, or not where it was.
    pub fn place_rings<E: From<Error>>(
        &self,
        process: usize,
        puppet: &mut Bare,
        fetch: impl FnMut(&mut Batch, FileId) -> Result<Arg, E>,
    ) -> Result<(), E> {
        ring::place(&self.processes[process].mm.vmas, puppet, fetch)
    }

    /// Makes the AIO contexts that a process has, which is filled.
    ///
    /// # Errors
    ///
    /// The kernel refuses a call.
    pub fn make_contexts(&self, process: usize, puppet: &mut Bare) -> Result<()> {
        self.processes[process].contexts.iter().try_for_each(|context| context.create(puppet))
    }

    /// Gives the mappings of a process, which is filled, their final protection and all else. Files
    /// are sealed by now; `files` has those to open for which a mapping had to wait for that.
    ///
    /// # Errors
    ///
    /// A file cannot be had, or the kernel refuses a call.
    pub fn finish<F: MapFiles>(
        &self,
        process: usize,
        puppet: &mut dyn Perform,
        files: F,
    ) -> Result<(), F::Error> {
        let mut runner = Runner::new(puppet, files);
        runner.steps(&self.processes[process].finish)?;
        let outlook = self.processes[process].mm.outlook;
        runner.also(false, |batch, _| outlook.set(batch))?;
        runner.finish()
    }

    /// Lets a process have huge pages again, if it could have none as long as memory of it was
    /// [yet to be registered](crate::file::CreatedFiles::register_memory) with userfaultfds.
    ///
    /// # Errors
    ///
    /// The kernel refuses a call.
    pub fn allow_huge_pages(&self, process: usize, puppet: &mut dyn Perform) -> Result<()> {
        let mm = self.processes[process].mm;
        if is_watched(mm) {
            let mut batch = Batch::new();
            mm.huge_pages.set(&mut batch);
            puppet.perform(batch)?;
        }
        Ok(())
    }
}

/// Whether memory is registered with a userfaultfd.
fn is_watched(mm: &Mm) -> bool {
    mm.vmas.iter().any(Vma::is_watched)
}

#[cfg(test)]
mod tests;
