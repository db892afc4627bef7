//! Takes out of a world what no checkpoint keeps: see `epoll_interest::Rebuild`. That is the place
//! of some items that are pending on nothing, and the order of several exclusive ones on one file.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use epoll_interest::{Events, FileKey, Inspector, Interest, Item};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::file::{World, home};
use super::op::{FILES, Op, PLAIN, Verb};
use super::world::play;

/// Looks at every epoll that has such an item, until none has.
pub(super) fn settle(world: World) {
    // Where it cannot be read, it cannot be dumped either.
    let Ok(mut inspector) = Inspector::new() else { return };
    while let Some(epoll) = not_kept(&mut inspector, world) {
        let (actor, number, events) = (0, 0, 0);
        let look = Op { verb: Verb::Wait, actor, file: PLAIN + epoll, number, events, data: 64 };
        play(world, &look);
    }
}

fn file(world: World, file: usize) -> BorrowedFd<'static> {
    // SAFETY: the root closes its files only after this.
    unsafe { BorrowedFd::borrow_raw(home(world, file)) }
}

fn read(inspector: &mut Inspector, world: World) -> Vec<Interest<usize>> {
    let fds: Vec<_> = (0..FILES).map(|number| file(world, number)).collect();
    let keys = inspector.file_keys(&fds).expect("the files of the world");
    let known: BTreeMap<FileKey, usize> = keys.into_iter().zip(0..).collect();
    let interest = |epoll: &BorrowedFd<'_>| {
        let found = inspector.get_events(*epoll).expect("an epoll of the world").interest;
        found.try_map(|item| known.get(&item.file).copied().ok_or(())).expect("a file of the world")
    };
    fds[PLAIN..].iter().map(interest).collect()
}

fn not_kept(inspector: &mut Inspector, world: World) -> Option<usize> {
    let all = read(inspector, world);
    let kept = |(epoll, it): &(usize, &Interest<usize>)| {
        let items = it.pending.iter().map(|&item| &it.items[item]);
        items
            .into_iter()
            .any(|item| is_nothing(&all, world, *epoll, item) || is_torn(&all, *epoll, item))
    };
    all.iter().enumerate().find(kept).map(|(epoll, _)| epoll)
}

fn is_watched(all: &[Interest<usize>], epoll: usize) -> bool {
    all.iter().flat_map(|it| &it.items).any(|item| item.file == PLAIN + epoll)
}

/// Pending on nothing, where nothing can make it so again.
fn is_nothing(all: &[Interest<usize>], world: World, epoll: usize, item: &Item<usize>) -> bool {
    let target = file(world, item.file);
    let conditions = PollFlags::from_bits_retain(0x7fff);
    let mut asked = [PollFd::from_borrowed_fd(target, conditions)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).expect("poll");
    let told = u32::from(asked[0].revents().bits());
    let exclusive = item.events.contains(Events::EXCLUSIVE);
    item.events.bits() & told == 0 && (told == 0 || exclusive || is_watched(all, epoll))
}

/// One of several exclusive edges on a file whose epolls cannot be built in any order.
fn is_torn(all: &[Interest<usize>], epoll: usize, item: &Item<usize>) -> bool {
    let items = all.iter().enumerate();
    let items = items.flat_map(|(other, it)| it.items.iter().map(move |item| (other, item)));
    let mut rivals: Vec<_> = items
        .filter(|(_, it)| it.file == item.file && !std::ptr::eq(*it, item))
        .filter(|(_, it)| it.events.contains(Events::EXCLUSIVE))
        .map(|(other, _)| other)
        .collect();
    let tied = |&it: &usize| it == epoll || is_watched(all, it) || is_watched(all, epoll);
    let (tied, count) = (rivals.iter().any(tied), rivals.len());
    rivals.dedup();
    item.events.contains(Events::EXCLUSIVE | Events::ET) && (tied || rivals.len() < count)
}
