//! Files, numbers and epolls of one process, driven by operations.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use epoll_interest::{Events, FileKey, Inspector, Interest, Item, Rebuild, Wanted};
use proptest::prelude::*;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
const EPOLLS: usize = 4;
pub(crate) const PLAIN: usize = 8;
const FILES: usize = PLAIN + EPOLLS;
const NUMBERS: u32 = 8;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Makes a number stand for a file, whatever it was before.
    Open {
        number: u32,
        file: usize,
    },
    Close {
        number: u32,
    },
    Add {
        epoll: usize,
        number: u32,
        events: u32,
        data: u64,
    },
    Modify {
        epoll: usize,
        number: u32,
        events: u32,
        data: u64,
    },
    Delete {
        epoll: usize,
        number: u32,
    },
    Wait {
        epoll: usize,
        most: usize,
    },
    Write {
        file: usize,
    },
    Read {
        file: usize,
    },
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let conditions = prop_oneof![
        4 => Just(Events::IN),
        2 => Just(Events::OUT),
        3 => Just(Events::IN | Events::OUT),
        1 => Just(Events::IN | Events::RDHUP | Events::PRI),
        1 => Just(Events::empty()),
    ];
    let ways = prop_oneof![
        3 => Just(Events::empty()),
        4 => Just(Events::ET),
        3 => Just(Events::ONESHOT),
        1 => Just(Events::ONESHOT | Events::ET),
        1 => Just(Events::EXCLUSIVE),
        1 => Just(Events::EXCLUSIVE | Events::ET),
    ];
    let events = (conditions, ways).prop_map(|(what, how)| (what | how).bits());
    let events = events.boxed();
    let (epoll, number, file) = (0..EPOLLS, 0..NUMBERS, 0..FILES);
    let item = (epoll.clone(), number.clone(), events, 0..5_u64);
    prop_oneof![
        4 => (number.clone(), file.clone()).prop_map(|(number, file)| Op::Open { number, file }),
        1 => number.clone().prop_map(|number| Op::Close { number }),
        8 => item.clone().prop_map(|(epoll, number, events, data)| {
            Op::Add { epoll, number, events, data }
        }),
        3 => item.prop_map(|(epoll, number, events, data)| {
            Op::Modify { epoll, number, events, data }
        }),
        1 => (epoll.clone(), number).prop_map(|(epoll, number)| Op::Delete { epoll, number }),
        6 => (epoll, 1..6_usize).prop_map(|(epoll, most)| Op::Wait { epoll, most }),
        4 => file.clone().prop_map(|file| Op::Write { file }),
        3 => file.prop_map(|file| Op::Read { file }),
    ]
}

/// What an operation gave, with numbers counted from the world's base.
#[derive(PartialEq, Debug)]
pub(crate) enum Outcome {
    Done(Result<(), Errno>),
    Reported(Vec<(u32, u64)>),
    Nothing,
}

pub(crate) struct World {
    base: u32,
    /// Plain files, then epolls.
    files: Vec<OwnedFd>,
    numbers: BTreeMap<u32, OwnedFd>,
}

/// Two interests of two worlds are equal if everything is that a program could
/// ever find out.
pub(crate) type Visible = (Vec<(usize, u32, Events, u64)>, Vec<usize>);

impl World {
    pub(crate) fn new(base: u32) -> Self {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let (reader2, writer2) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let socket_flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (left, right) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, socket_flags, None).unwrap();
        let event = || eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let mut files = vec![event(), event(), reader, writer, reader2, writer2, left, right];
        assert_eq!(files.len(), PLAIN);
        files.extend((0..EPOLLS).map(|_| new_epoll()));
        Self { base, files, numbers: BTreeMap::new() }
    }

    pub(crate) fn epoll(&self, epoll: usize) -> &OwnedFd {
        &self.files[PLAIN + epoll]
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Outcome {
        match *op {
            Op::Open { number, file } => {
                self.numbers.remove(&number);
                self.open(number, file);
                Outcome::Nothing
            }
            Op::Close { number } => {
                self.numbers.remove(&number);
                Outcome::Nothing
            }
            Op::Add { epoll, number, events, data } => {
                self.control(epoll, number, |epoll, target| {
                    epoll::add(epoll, target, epoll::EventData::new_u64(data), flags(events))
                })
            }
            Op::Modify { epoll, number, events, data } => {
                self.control(epoll, number, |epoll, target| {
                    epoll::modify(epoll, target, epoll::EventData::new_u64(data), flags(events))
                })
            }
            Op::Delete { epoll, number } => {
                self.control(epoll, number, |epoll, target| epoll::delete(epoll, target))
            }
            Op::Wait { epoll, most } => {
                let mut events = Vec::with_capacity(most);
                epoll::wait(self.epoll(epoll), spare_capacity(&mut events), Some(&NOW)).unwrap();
                let report = |event: &epoll::Event| {
                    let epoll::Event { flags, data, .. } = *event;
                    (flags.bits(), data.u64())
                };
                Outcome::Reported(events.iter().map(report).collect())
            }
            Op::Write { file } => {
                let result = write(&self.files[file], &1_u64.to_ne_bytes());
                Outcome::Done(result.map(drop))
            }
            Op::Read { file } => {
                let result = read(&self.files[file], &mut [0; 8]);
                Outcome::Done(result.map(drop))
            }
        }
    }

    fn open(&mut self, number: u32, file: usize) {
        let at = (self.base + number) as i32;
        let copy = fcntl_dupfd_cloexec(&self.files[file], at).unwrap();
        assert_eq!(copy.as_raw_fd(), at, "the number is free");
        self.numbers.insert(number, copy);
    }

    fn control(
        &self,
        epoll: usize,
        number: u32,
        change: impl FnOnce(BorrowedFd<'_>, BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> Outcome {
        let Some(target) = self.numbers.get(&number) else { return Outcome::Nothing };
        Outcome::Done(change(self.epoll(epoll).as_fd(), target.as_fd()))
    }

    fn read(&self, inspector: &mut Inspector) -> Vec<Interest<usize>> {
        let fds: Vec<_> = self.files.iter().map(|file| file.as_fd()).collect();
        let keys = inspector.file_keys(&fds).unwrap();
        let known: BTreeMap<FileKey, usize> = keys.into_iter().zip(0..).collect();
        let interest = |epoll: usize| {
            let found = inspector.get_events(self.epoll(epoll).as_fd()).unwrap();
            found.interest.try_map(|item| known.get(&item.file).copied().ok_or(())).unwrap()
        };
        (0..EPOLLS).map(interest).collect()
    }

    /// Everything visible of every epoll; and for every file the order of its
    /// items, as (epoll, number).
    pub(crate) fn interests(
        &self,
        inspector: &mut Inspector,
    ) -> (Vec<Visible>, Vec<Vec<(usize, u32)>>) {
        let mut of_file = vec![Vec::new(); FILES];
        let mut all = Vec::new();
        for (epoll, interest) in self.read(inspector).into_iter().enumerate() {
            let Interest { items, pending } = interest;
            let mut sorted: Vec<usize> = (0..items.len()).collect();
            sorted.sort_by_key(|&item| (items[item].file, items[item].fd));
            let place = |item: usize| sorted.iter().position(|&other| other == item).unwrap();
            let pending = pending.into_iter().map(place).collect();
            let number = |item: usize| items[item].fd.as_raw() - self.base;
            let visible = sorted.iter().map(|&item| {
                let it = &items[item];
                (it.file, number(item), it.events, it.data)
            });
            all.push((visible.collect(), pending));
            for (item, it) in items.iter().enumerate() {
                let exclusive = it.events.contains(Events::EXCLUSIVE);
                of_file[it.file].push((exclusive, it.seniority, epoll, number(item)));
            }
        }
        let order = of_file.into_iter().map(|mut items| {
            items.sort_unstable();
            items.into_iter().map(|(_, _, epoll, number)| (epoll, number)).collect()
        });
        (all, order.collect())
    }

    /// Epolls with a pending item of the kinds that are not kept: see `Rebuild`.
    pub(crate) fn not_kept(&self, inspector: &mut Inspector) -> Vec<usize> {
        let all = self.read(inspector);
        let watched = |epoll: usize| {
            all.iter().flat_map(|it| &it.items).any(|item| item.file == PLAIN + epoll)
        };
        let lost = |epoll: usize, item: &Item<usize>| {
            let all = PollFlags::from_bits_retain(0x7fff);
            let mut asked = [PollFd::new(&self.files[item.file], all)];
            poll(&mut asked, Some(&NOW)).unwrap();
            let told = u32::from(asked[0].revents().bits());
            let exclusive = item.events.contains(Events::EXCLUSIVE);
            item.events.bits() & told == 0 && (told == 0 || exclusive || watched(epoll))
        };
        // Another exclusive item on the same file, in an epoll whose place in
        // the order of building is not free.
        let torn = |epoll: usize, item: &Item<usize>| {
            let fixed = Events::EXCLUSIVE | Events::ET;
            let others = all
                .iter()
                .enumerate()
                .flat_map(|(other, it)| it.items.iter().map(move |item| (other, item)));
            let mut rivals: Vec<_> = others
                .filter(|(_, it)| it.file == item.file && !std::ptr::eq(*it, item))
                .filter(|(_, it)| it.events.contains(Events::EXCLUSIVE))
                .map(|(other, _)| other)
                .collect();
            let tied = rivals.iter().any(|&it| it == epoll || watched(it) || watched(epoll));
            let count = rivals.len();
            rivals.dedup();
            item.events.contains(fixed) && (tied || rivals.len() < count)
        };
        let epolls = all.iter().enumerate();
        epolls
            .filter(|(epoll, it)| {
                it.pending
                    .iter()
                    .any(|&item| lost(*epoll, &it.items[item]) || torn(*epoll, &it.items[item]))
            })
            .map(|(epoll, _)| epoll)
            .collect()
    }

    /// Reads all epolls, closes them, and builds new ones.
    pub(crate) fn rebuild(&mut self, inspector: &mut Inspector) {
        let interests = self.read(inspector);
        // Numbers that stand for an epoll are to stand for the new one.
        let fds: Vec<_> = self.numbers.values().map(|fd| fd.as_fd()).collect();
        let mut files: Vec<_> = self.files.iter().map(|fd| fd.as_fd()).collect();
        let (numbers, known) =
            (inspector.file_keys(&fds).unwrap(), inspector.file_keys(&files).unwrap());
        let reopen: Vec<(u32, usize)> = self
            .numbers
            .keys()
            .zip(numbers)
            .map(|(&number, key)| (number, known.iter().position(|&k| k == key).unwrap()))
            .filter(|&(_, file)| file >= PLAIN)
            .collect();
        files.clear();
        for &(number, _) in &reopen {
            self.numbers.remove(&number);
        }
        for epoll in &mut self.files[PLAIN..] {
            *epoll = new_epoll();
        }
        for (number, file) in reopen {
            self.open(number, file);
        }
        let wanted = interests.into_iter().enumerate();
        let wanted = wanted.map(|(epoll, interest)| Wanted { epoll: PLAIN + epoll, interest });
        let rebuild = Rebuild::new(wanted.collect()).unwrap();
        let fd = |file: &usize| self.files.get(*file).map(|fd| fd.as_fd());
        rebuild.prepare(fd).unwrap();
        rebuild.finish(fd).unwrap();
    }
}

fn new_epoll() -> OwnedFd {
    epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()
}

fn flags(events: u32) -> epoll::EventFlags {
    epoll::EventFlags::from_bits_retain(events)
}
