//! Gives every process of a tree its address space.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use dormouse_kernel::close::close_all;
use dormouse_kernel::{FdNum, NsPid};
use dormouse_puppet::{Arg, Batch, Perform};
use dormouse_resources::file::{CreateCx, CreatedFiles, FileRef};
use dormouse_resources::memory::{
    Access, Filling, KernelVdso, MadeSegments, MapFiles, MapSource, PlannedPages, RestorePlan,
    RestoredProcess, SavedObject, SharedMemory, ShmemId, is_crowded,
};
use dormouse_resources::task::Refusal;

use super::decode::{Checkpoint, Space, host};
use super::overlap::Overlap;
use super::plan::Plan;
use super::spawn_plan::Step;
use super::world::{World, fetch};
use crate::cause::{At, Cause};
use crate::{Error, Phase, Progress};

/// The memory of the tree, on its way into the processes.
#[derive(Debug)]
pub(super) struct Memory<'a> {
    plan: RestorePlan<'a>,
    /// Every address space with the first process that has it, in the order in
    /// which those are forked.
    order: Vec<(NsPid, &'a Space)>,
    /// The number of the address space of each process.
    numbers: BTreeMap<NsPid, usize>,
    /// For whom helpers are forked.
    helped: BTreeMap<NsPid, NsPid>,
    /// Which of them have their mappings.
    mapped: Vec<bool>,
    /// What is mapped by several processes is opened once.
    files: BTreeMap<(FileRef, Access), OwnedFd>,
    objects: BTreeMap<ShmemId, OwnedFd>,
    /// System V segments that were gone.
    segments: MadeSegments,
}

impl<'a> Memory<'a> {
    /// Thinks out how each process comes to its memory. A process can inherit
    /// from whoever forks it.
    pub(super) fn plan(checkpoint: &'a Checkpoint, plan: &Plan) -> Result<Self, Error> {
        const PHASE: Phase = Phase::Plan;
        let Lineage { makers, firsts, helped } = Lineage::of(checkpoint, &plan.steps);
        let mut order: Vec<_> = firsts.into_iter().collect();
        order.sort_unstable_by_key(|&(_, (_, at))| at);
        let of_spaces: BTreeMap<_, _> =
            order.iter().enumerate().map(|(number, &(space, _))| (space, number)).collect();
        let numbers: BTreeMap<_, _> = checkpoint
            .living()
            .map(|(process, body)| (process.node.pid, of_spaces[&body.space]))
            .collect();
        let order: Vec<_> =
            order.into_iter().map(|(space, (pid, _))| (pid, &checkpoint.spaces[&space])).collect();
        if let Some((pid, _)) = order.iter().find(|(_, space)| is_crowded(&space.memory.mm.vmas)) {
            return Err(Cause::Unsupported(Refusal::ManyMappings)).of(PHASE, host(*pid));
        }
        let parent = |pid| numbers.get(makers.get(pid)?).copied();
        let processes: Vec<_> = order
            .iter()
            .map(|(pid, space)| RestoredProcess { memory: &space.memory, parent: parent(pid) })
            .collect();
        let kernel = KernelVdso::probe().at(PHASE)?;
        let pages = Arc::clone(&checkpoint.pages);
        let plan = RestorePlan::new(&processes, pages, kernel.as_ref(), plan.room).at(PHASE)?;
        let mapped = vec![false; order.len()];
        let (files, objects) = (BTreeMap::new(), BTreeMap::new());
        let segments = MadeSegments::new();
        Ok(Self { plan, order, numbers, helped, mapped, files, objects, segments })
    }

    /// Whether a process, or one that shares its memory, is best forked when
    /// all those are that inherit nothing.
    pub(super) fn is_late(&self, pid: NsPid) -> bool {
        self.numbers.get(&pid).is_some_and(|&number| self.plan.shares_with_parent(number))
    }

    /// Whether a process is to be forked when its maker
    /// [has](Self::prepare) what they have in common.
    pub(super) fn inherits(&self, pid: NsPid) -> bool {
        let pid = self.helped.get(&pid).copied().unwrap_or(pid);
        let number = self.numbers.get(&pid).filter(|&&number| self.order[number].0 == pid);
        number.is_some_and(|&number| self.plan.shares_with_parent(number))
    }

    /// How many pages there are of which kind.
    pub(super) fn pages(&self) -> PlannedPages {
        self.plan.counts()
    }

    /// Makes the shared memory that the tree has mapped, with its contents.
    pub(super) fn make_objects(
        &mut self,
        checkpoint: &Checkpoint,
        world: &mut World,
        root: NsPid,
    ) -> Result<(), Cause> {
        for (id, mut mapped) in SharedMemory::of(self.order.iter().map(|(_, space)| &space.memory))
        {
            let saved = checkpoint.objects.get(&id);
            // More of it than is mapped now may have been.
            mapped.size = mapped.size.max(saved.map_or(0, SavedObject::end));
            let file = mapped.create(world.puppet(root))?;
            if let Some(saved) = saved {
                saved.fill(file.as_fd(), mapped.size, &checkpoint.pages, &mut |_| ())?;
            }
            self.objects.insert(id, file);
        }
        for (id, segment) in checkpoint.segments.iter() {
            let made = segment.create(id, world.puppet(root), &mut self.segments)?;
            let saved = checkpoint.objects.get(&segment.contents());
            if let (Some(file), Some(saved)) = (made, saved) {
                saved.fill(file.as_fd(), segment.size(), &checkpoint.pages, &mut |_| ())?;
            }
        }
        Ok(())
    }

    /// Gives a process its mappings, and the pages it has in common with those
    /// that it is to fork.
    pub(super) fn prepare(
        &mut self,
        pid: NsPid,
        world: &mut World,
        cx: &mut CreateCx<'_>,
    ) -> Result<(), Error> {
        let Some(&number) = self.numbers.get(&pid) else { return Ok(()) };
        let (pid, _) = self.order[number];
        let link = world.link();
        if self.map(number, (world.puppet(pid), link), cx)? {
            self.plan.fill_common(number, host(pid)).of(Phase::Memory, host(pid))?;
        }
        Ok(())
    }

    /// Gives a process its mappings; tells whether it had none before.
    fn map(
        &mut self,
        number: usize,
        (puppet, link): (&mut dyn Perform, u64),
        cx: &mut CreateCx<'_>,
    ) -> Result<bool, Error> {
        if std::mem::replace(&mut self.mapped[number], true) {
            return Ok(false);
        }
        let (pid, space) = self.order[number];
        let mut opener = Opener { link, cx, space, files: &mut self.files, objects: &self.objects };
        opener.keep_sealed().of(Phase::Memory, host(pid))?;
        self.plan.map(number, puppet, opener).of(Phase::Memory, host(pid))?;
        Ok(true)
    }

    /// Begins to fill all processes. All of them are forked.
    pub(super) fn begin_filling(
        &mut self,
        world: &mut World,
        cx: &mut CreateCx<'_>,
    ) -> Result<Filling, Error> {
        let mut overlap = Overlap::new(world, Phase::Memory);
        let link = overlap.link();
        let mut common = Vec::new();
        for number in 0..self.order.len() {
            let (pid, _) = self.order[number];
            if self.map(number, (&mut overlap.hands(pid), link), cx)?
                && self.plan.has_common(number)
            {
                common.push((number, pid));
            }
        }
        overlap.world()?;
        for (number, pid) in common {
            self.plan.fill_common(number, host(pid)).of(Phase::Memory, host(pid))?;
        }
        for (number, (pid, _)) in self.order.iter().enumerate() {
            let hands = &mut overlap.hands(*pid);
            self.plan.settle(number, hands).of(Phase::Memory, host(*pid))?;
        }
        overlap.finish()?;
        self.close();
        let pids: Vec<_> =
            self.order.iter().enumerate().map(|(number, (pid, _))| (number, host(*pid))).collect();
        self.plan.fill(&pids).at(Phase::Memory)
    }

    /// Closes what is mapped wherever it has to be, but for what has to be mapped once more.
    fn close(&mut self) {
        let sealed: BTreeSet<_> = self.order.iter().flat_map(|(_, space)| sealed(space)).collect();
        let (kept, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.files)
            .into_iter()
            .partition(|(source, _)| sealed.contains(source));
        self.files = kept;
        let objects = std::mem::take(&mut self.objects);
        close_all(rest.into_values().chain(objects.into_values()));
    }

    /// Waits for the contents, and puts the last hand to the mappings.
    pub(super) fn finish(
        self,
        filling: Filling,
        (world, created): (&mut World, &CreatedFiles<'_>),
        progress: &mut dyn Progress,
    ) -> Result<MadeSegments, Error> {
        let (total, before) = (filling.total(), filling.done());
        progress.advance(before);
        filling.wait().at(Phase::Memory)?;
        progress.advance(total - before);
        let link = world.link();
        for (number, (pid, space)) in self.order.iter().enumerate() {
            let ring = |batch: &mut Batch, file| -> Result<Arg, Cause> {
                Ok(Arg::from(&fetch(link, batch, created.get(space.mapped[&file]))))
            };
            let puppet = world.puppet(*pid);
            self.plan.place_rings(number, puppet, ring).of(Phase::Memory, host(*pid))?;
            let puppet = world.puppet(*pid);
            self.plan.make_contexts(number, puppet).of(Phase::Memory, host(*pid))?;
        }
        let mut overlap = Overlap::new(world, Phase::Memory);
        for (number, (pid, space)) in self.order.iter().enumerate() {
            let sealed = Sealed { link, space, files: &self.files };
            let hands = &mut overlap.hands(*pid);
            self.plan.finish(number, hands, sealed).of(Phase::Memory, host(*pid))?;
        }
        overlap.finish()?;
        created.register_memory().at(Phase::Memory)?;
        for (number, (pid, _)) in self.order.iter().enumerate() {
            let puppet = world.puppet(*pid);
            self.plan.allow_huge_pages(number, puppet).of(Phase::Memory, host(*pid))?;
        }
        Ok(self.segments)
    }
}

/// Who has memory of whom, as a plan goes.
pub(super) struct Lineage {
    /// Of whose memory each process has a copy at first.
    makers: BTreeMap<NsPid, NsPid>,
    /// Who has each address space first, and when that is.
    firsts: BTreeMap<NsPid, (NsPid, usize)>,
    /// For whom helpers are forked.
    helped: BTreeMap<NsPid, NsPid>,
}

impl Lineage {
    /// That of the processes forked by `steps`.
    pub(super) fn of(checkpoint: &Checkpoint, steps: &[Step]) -> Self {
        let helpers: BTreeSet<i32> = steps
            .iter()
            .filter_map(|step| match *step {
                Step::Adopt { helper, .. } => Some(helper),
                _ => None,
            })
            .collect();
        // Stand-ins and zombies have none.
        let spaces: BTreeMap<NsPid, NsPid> =
            checkpoint.living().map(|(process, body)| (process.node.pid, body.space)).collect();
        let mut lineage =
            Self { makers: BTreeMap::new(), firsts: BTreeMap::new(), helped: BTreeMap::new() };
        let Self { makers, firsts, helped } = &mut lineage;
        let mut born = |pid: NsPid| {
            if let Some(&space) = spaces.get(&pid) {
                let at = firsts.len();
                firsts.entry(space).or_insert((pid, at));
            }
        };
        born(checkpoint.processes[0].node.pid);
        for step in steps {
            let Step::Fork { maker, child, .. } = *step else { continue };
            let (Some(mut by), Some(pid)) = (NsPid::from_raw(maker), NsPid::from_raw(child)) else {
                continue;
            };
            if helpers.contains(&maker) {
                helped.insert(by, pid);
                // It has the memory of its own maker.
                by = makers[&by];
            }
            makers.insert(pid, by);
            born(pid);
        }
        lineage
    }

    /// Whether it is the same, at whatever time.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let firsts = |lineage: &Self| -> Vec<(NsPid, NsPid)> {
            lineage.firsts.iter().map(|(&space, &(first, _))| (space, first)).collect()
        };
        let Self { makers, helped, .. } = self;
        (makers, helped) == (&other.makers, &other.helped) && firsts(self) == firsts(other)
    }
}

/// Has a process fetch what it maps from dormouse.
struct Opener<'o, 'c> {
    link: u64,
    cx: &'o mut CreateCx<'c>,
    space: &'o Space,
    files: &'o mut BTreeMap<(FileRef, Access), OwnedFd>,
    objects: &'o BTreeMap<ShmemId, OwnedFd>,
}

impl Opener<'_, '_> {
    fn file(&mut self, file: FileRef, access: Access) -> Result<BorrowedFd<'_>, Cause> {
        let open: &OwnedFd = match self.files.entry((file, access)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                place.insert(self.cx.open_for_mapping(file, access.open_flags())?)
            }
        };
        Ok(open.as_fd())
    }

    /// Opens what has to be mapped when it is sealed, as long as it can be had.
    fn keep_sealed(&mut self) -> Result<(), Cause> {
        for (file, access) in sealed(self.space) {
            self.file(file, access)?;
        }
        Ok(())
    }
}

/// What a process has to map when it is sealed.
fn sealed(space: &Space) -> impl Iterator<Item = (FileRef, Access)> {
    let vmas = space.memory.mm.vmas.iter().filter(|vma| vma.is_write_sealed());
    vmas.filter_map(|vma| match MapSource::of(&vma.backing) {
        Some(MapSource::File(file, access)) => Some((space.mapped[&file], access)),
        _ => None,
    })
}

impl MapFiles for Opener<'_, '_> {
    type Error = Cause;

    fn open_exe(&mut self, batch: &mut Batch) -> Result<FdNum, Cause> {
        let link = self.link;
        let exe = self.file(self.space.mapped[&self.space.memory.mm.exe], Access::ReadOnly)?;
        let slot = fetch(link, batch, exe);
        // Nothing is open yet but the link, whose number is above all that will be. What is fetched
        // has the one above that, if the link has the lowest of all.
        let number = u32::try_from(link + 2).expect("descriptor numbers are small");
        let args = [Arg::from(&slot), number.into(), libc::O_CLOEXEC.into()];
        batch.call(libc::SYS_dup3, args);
        batch.call(libc::SYS_close, [(&slot).into()]);
        Ok(FdNum::from_raw(number))
    }

    fn open(&mut self, batch: &mut Batch, source: MapSource) -> Result<Arg, Cause> {
        let link = self.link;
        let slot = match source {
            MapSource::Object(object) => fetch(link, batch, self.objects[&object].as_fd()),
            MapSource::File(file, access) => {
                let file = self.file(self.space.mapped[&file], access)?;
                fetch(link, batch, file)
            }
        };
        Ok(Arg::from(&slot))
    }
}

/// Has a process fetch what it maps when files are sealed.
struct Sealed<'o> {
    link: u64,
    space: &'o Space,
    files: &'o BTreeMap<(FileRef, Access), OwnedFd>,
}

impl MapFiles for Sealed<'_> {
    type Error = Cause;

    fn open_exe(&mut self, _: &mut Batch) -> Result<FdNum, Cause> {
        unreachable!("executables are never late")
    }

    fn open(&mut self, batch: &mut Batch, source: MapSource) -> Result<Arg, Cause> {
        let MapSource::File(file, access) = source else {
            unreachable!("only files are sealed");
        };
        let file = &self.files[&(self.space.mapped[&file], access)];
        Ok(Arg::from(&fetch(self.link, batch, file.as_fd())))
    }
}
