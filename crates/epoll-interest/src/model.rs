//! The kernel's rules for epolls, as a value, and plans held against it.
//!
//! Truth from: `fs/eventpoll.c`, as told in `docs/epoll-kernel.md`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use proptest::prelude::*;

use crate::event::{Events, FdNumber};
use crate::graph::{FileIndex, Graph, Wanted};
use crate::interest::{Interest, Item};
use crate::plan::{Plan, Step};

/// Files 0..PLAIN are plain, then come the epolls, each watching only those
/// before it.
const PLAIN: usize = 5;
const EPOLLS: usize = 3;
/// Plain files with one wait queue.
const SHARED: [FileIndex; 2] = [2, 3];

/// Which wait queue a file's items hang on.
fn queue_of(file: FileIndex) -> usize {
    if SHARED.contains(&file) { SHARED[0] } else { file }
}

struct Kernel {
    /// What each plain file reports.
    conditions: Vec<Events>,
    epolls: Vec<Epoll>,
    /// For each wait queue its items, first added first.
    queues: Vec<Vec<(usize, usize)>>,
}

#[derive(Default)]
struct Epoll {
    items: BTreeMap<usize, (FileIndex, Events)>,
    ready: Vec<usize>,
}

impl Kernel {
    fn new(conditions: Vec<Events>) -> Self {
        let epolls = (0..EPOLLS).map(|_| Epoll::default()).collect();
        Self { conditions, epolls, queues: vec![Vec::new(); PLAIN + EPOLLS] }
    }

    fn conditions(&self, file: FileIndex) -> Events {
        let Some(epoll) = file.checked_sub(PLAIN) else { return self.conditions[file] };
        let reports = |item: &usize| !self.reported(epoll, *item).is_empty();
        match self.epolls[epoll].ready.iter().any(reports) {
            true => Events::IN | Events::RDNORM,
            false => Events::empty(),
        }
    }

    fn reported(&self, epoll: usize, item: usize) -> Events {
        let (file, events) = self.epolls[epoll].items[&item];
        self.conditions(file) & events
    }

    fn add(&mut self, epoll: usize, item: usize, file: FileIndex, events: Events) {
        let events = events | Events::ERR | Events::HUP;
        assert!(self.epolls[epoll].items.insert(item, (file, events)).is_none(), "EEXIST");
        self.queues[queue_of(file)].push((epoll, item));
        self.look(epoll, item);
    }

    fn modify(&mut self, epoll: usize, item: usize, events: Events) {
        assert!(!events.contains(Events::EXCLUSIVE), "EINVAL");
        let (_, old) = self.epolls[epoll].items.get_mut(&item).unwrap();
        assert!(!old.contains(Events::EXCLUSIVE), "EINVAL");
        *old = events | Events::ERR | Events::HUP;
        self.look(epoll, item);
    }

    fn look(&mut self, epoll: usize, item: usize) {
        if !self.reported(epoll, item).is_empty() {
            self.link(epoll, item);
        }
    }

    /// Into the ready list, and whoever watches the epoll is told.
    fn link(&mut self, epoll: usize, item: usize) {
        if self.epolls[epoll].ready.contains(&item) {
            return;
        }
        self.epolls[epoll].ready.push(item);
        for (outer, item) in self.queues[PLAIN + epoll].clone().into_iter().rev() {
            let (_, events) = self.epolls[outer].items[&item];
            if events.contains(Events::IN) {
                self.link(outer, item);
            }
        }
    }

    /// The file becomes ready, and tells its items.
    fn rouse(&mut self, file: FileIndex) {
        let of_file = self.queues[queue_of(file)].iter().copied();
        let of_file = of_file.filter(|(epoll, item)| self.epolls[*epoll].items[item].0 == file);
        let (last, mut first): (Vec<_>, Vec<_>) = of_file.partition(|(epoll, item)| {
            self.epolls[*epoll].items[item].1.contains(Events::EXCLUSIVE)
        });
        first.reverse();
        for (epoll, item) in first.into_iter().chain(last) {
            self.look(epoll, item);
        }
    }

    fn wait(&mut self, epoll: usize, most: usize) {
        let mut left = std::mem::take(&mut self.epolls[epoll].ready).into_iter();
        let (mut again, mut count) = (Vec::new(), 0);
        while count < most
            && let Some(item) = left.next()
        {
            if self.reported(epoll, item).is_empty() {
                continue;
            }
            count += 1;
            let (_, events) = self.epolls[epoll].items.get_mut(&item).unwrap();
            if events.contains(Events::ONESHOT) {
                *events &= Events::PRIVATE;
            } else if !events.contains(Events::ET) {
                again.push(item);
            }
        }
        self.epolls[epoll].ready = left.chain(again).collect();
    }

    fn run(&mut self, graph: &Graph, files: &[FileIndex], steps: &[Step]) {
        let place = |epoll: usize| files[graph.epolls[epoll].file] - PLAIN;
        for &step in steps {
            match step {
                Step::Add { epoll, item, events } => {
                    let (epoll, item) = (epoll as usize, item as usize);
                    let file = files[graph.epolls[epoll].items[item].file];
                    self.add(place(epoll), item, file, events);
                }
                Step::Modify { epoll, item, events } => {
                    self.modify(place(epoll as usize), item as usize, events);
                }
                Step::Drain { epoll } => self.wait(place(epoll), usize::MAX),
                Step::Rotate { epoll, count } => self.wait(place(epoll as usize), count as usize),
            }
        }
    }
}

/// What chance decides for an item; what can be of it is made of that.
type Draw = (usize, u32, Events, Events, bool, u32);

fn draws() -> impl Strategy<Value = Vec<Vec<Draw>>> {
    let masks = prop::sample::select(vec![Events::IN, Events::OUT, Events::IN | Events::OUT]);
    let ways = prop::sample::select(vec![
        Events::empty(),
        Events::ET,
        Events::ONESHOT,
        Events::ONESHOT | Events::ET,
        Events::EXCLUSIVE,
        Events::EXCLUSIVE | Events::ET,
    ]);
    let draw = (0..PLAIN + EPOLLS, 0..4_u32, masks, ways, any::<bool>(), any::<u32>());
    prop::collection::vec(prop::collection::vec(draw, 0..8), EPOLLS)
}

/// Epolls in states that a kernel can be in, given what the files report.
fn wanted(conditions: &[Events], draws: Vec<Vec<Draw>>) -> Vec<Wanted<FileIndex>> {
    let mut reports = conditions.to_vec();
    let mut all = Vec::new();
    for (epoll, draws) in draws.into_iter().enumerate() {
        let mut items: Vec<Item<FileIndex>> = Vec::new();
        let mut pending = Vec::new();
        for (file, fd, mask, way, flag, chance) in draws {
            let fd = FdNumber::from_raw(fd);
            let taken = items.iter().any(|item| (item.file, item.fd) == (file, fd));
            let way = if file < PLAIN { way } else { way - Events::EXCLUSIVE };
            if file >= PLAIN + epoll || taken {
                continue;
            }
            let fired = flag && way.contains(Events::ONESHOT);
            let armed = mask | Events::ERR | Events::HUP | way;
            let events = if fired { way } else { armed };
            let ready = events.intersects(reports[file]);
            // An edge is pending or consumed as chance has it, everything else
            // if and only if it is ready.
            let edge = way.contains(Events::ET) && !way.contains(Events::ONESHOT);
            if ready && !(edge && flag) {
                pending.insert(chance as usize % (pending.len() + 1), items.len());
            }
            let queue = SHARED.contains(&file).then_some(NonZeroU32::MAX);
            items.push(Item { file, fd, events, data: 0, seniority: chance, queue });
        }
        let report = match pending.is_empty() {
            true => Events::empty(),
            false => Events::IN | Events::RDNORM,
        };
        reports.push(report);
        all.push(Wanted { epoll: PLAIN + epoll, interest: Interest { items, pending } });
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn a_plan_gives_every_item_its_state(
        bits in prop::collection::vec(
            prop::sample::select(vec![
                Events::empty(), Events::IN, Events::OUT, Events::IN | Events::OUT,
            ]),
            PLAIN,
        ),
        draws in draws(),
        rousing in Just((0..PLAIN).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let wanted = wanted(&bits, draws);
        let (graph, files) = Graph::new(wanted.clone()).unwrap();
        let plan = Plan::new(&graph);

        // While the early ones are added, all files report something: those
        // that do not are made to.
        let mut kernel = Kernel::new(bits.iter().map(|&it| it | Events::OUT).collect());
        let nudge = usize::MAX;
        for epoll in 0..EPOLLS {
            kernel.add(epoll, nudge, 0, Events::OUT);
        }
        kernel.run(&graph, &files, &plan.prepare(&graph, |_| true, |_| true));
        for epoll in &mut kernel.epolls {
            epoll.items.remove(&nudge);
            epoll.ready.retain(|&item| item != nudge);
        }
        kernel.queues[0].retain(|&(_, item)| item != nudge);
        // Then they get what they are to have, one by one.
        kernel.conditions = bits;
        for file in rousing {
            kernel.rouse(file);
        }

        let (steps, fronts) = plan.begin(&graph, |file| kernel.conditions(files[file]));
        kernel.run(&graph, &files, &steps);
        for &epoll in &graph.order {
            let steps = plan.finish(&graph, epoll, &fronts, |file| kernel.conditions(files[file]));
            let adds = steps.iter().filter(|step| !matches!(step, Step::Modify { .. })).count();
            prop_assert!(adds <= graph.epolls[epoll].items.len() + 2, "{:?}", steps);
            kernel.run(&graph, &files, &steps);
        }

        let mut queues = vec![Vec::new(); PLAIN + EPOLLS];
        for (epoll, Wanted { epoll: _, interest }) in wanted.iter().enumerate() {
            prop_assert_eq!(&kernel.epolls[epoll].ready, &interest.pending, "epoll {}", epoll);
            for (index, item) in interest.items.iter().enumerate() {
                let got = kernel.epolls[epoll].items[&index];
                prop_assert_eq!(got, (item.file, item.events));
                let exclusive = item.events.contains(Events::EXCLUSIVE);
                queues[queue_of(item.file)].push((exclusive, item.seniority, epoll, index));
            }
        }
        for (at, mut queue) in queues.into_iter().enumerate() {
            queue.sort_unstable();
            let apart = |exclusive: bool, items: &[(usize, usize)]| -> Vec<_> {
                let of = |&&(epoll, item): &&(usize, usize)| {
                    let events = wanted[epoll].interest.items[item].events;
                    events.contains(Events::EXCLUSIVE) == exclusive
                };
                items.iter().filter(of).copied().collect()
            };
            let order: Vec<_> = queue.iter().map(|&(_, _, epoll, item)| (epoll, item)).collect();
            // The order of pending edges on exclusive items is not always kept, see `Rebuild`.
            let fixed = order.iter().any(|&(epoll, item)| {
                let Interest { items, pending } = &wanted[epoll].interest;
                items[item].events.contains(Events::EXCLUSIVE | Events::ET)
                    && pending.contains(&item)
            });
            for exclusive in [false, true] {
                if exclusive && fixed {
                    continue;
                }
                prop_assert_eq!(
                    apart(exclusive, &kernel.queues[at]), apart(exclusive, &order), "queue {}", at
                );
            }
        }
    }
}
