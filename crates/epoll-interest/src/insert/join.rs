//! Making items pending in the middle of the ready list that others have added.
//!
//! An item that becomes pending goes to the end of the list. So each that is to
//! come after it has to go there again in its turn: what is first in the list is
//! reported, which sends a level-triggered item to the end, and all others out of
//! the list, and `MOD` puts these back.

use std::collections::HashMap;
use std::hash::Hash;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::places::{self, Places};
use super::{InsertError, Insertion, Rebuild, modify};
use crate::event::Events;
use crate::graph::Epoll;
use crate::table::{Change, PrivateTable, Report, Slot, with_private_table};

/// An item that was [taken out](crate::Interest::take_out), and added by somebody
/// else in a way that leaves it silent.
#[derive(Clone, Copy, Debug)]
pub struct LateItem<'fd> {
    /// The item, with the mask that it is to have.
    pub item: Insertion<'fd>,
    /// Its place among all that are pending.
    pub place: usize,
    /// A signal that is to wait for whoever changes it, so that its file, a signalfd,
    /// has something to report.
    pub signal: Option<i32>,
}

/// What goes to the end of the list next.
#[derive(Clone, Copy)]
struct Turn<'fd> {
    item: Insertion<'fd>,
    /// Of one that was silent.
    late: Option<Option<i32>>,
}

impl Turn<'_> {
    fn is_level(&self) -> bool {
        !self.item.events.intersects(Events::ET | Events::ONESHOT)
    }
}

impl<F: Clone + Eq + Hash> Rebuild<F> {
    /// Gives late items their masks, by `EPOLL_CTL_MOD`, when everything else is
    /// [finished](Self::finish), and has them pending in their places, given by epoll.
    ///
    /// In an epoll in which an edge is waited for on an [`EXCLUSIVE`](Events::EXCLUSIVE) item they come
    /// after all others: nothing puts such an item back. So they do in one that watches other epolls: whoever
    /// looks at it looks at those as well, and drops what waits there for another's signals.
    ///
    /// # Errors
    /// [`InsertError`]; the epolls are then good for nothing but being closed.
    pub fn join<'fd>(
        &self,
        late: &HashMap<F, Vec<LateItem<'fd>>>,
        fd: impl Fn(&F) -> Option<BorrowedFd<'fd>>,
    ) -> Result<(), InsertError> {
        let mut is_epoll = vec![false; self.graph.files];
        for epoll in &self.graph.epolls {
            is_epoll[epoll.file] = true;
        }
        for (index, epoll) in self.graph.epolls.iter().enumerate() {
            let name = &self.files[epoll.file];
            let Some(late) = late.get(name) else { continue };
            let of_epoll = fd(name).ok_or(InsertError::NoEpoll { epoll: index })?;
            let insertion = |item: usize| {
                let item = &epoll.items[item];
                let file = fd(&self.files[item.file]);
                let file = file.ok_or(InsertError::NoFile { epoll: index, fd: item.fd })?;
                Ok(Insertion { file, fd: item.fd, events: item.events, data: item.data })
            };
            let stay = epoll.items.iter().any(|item| is_epoll[item.file] || is_fixed(item.events));
            let turns = turns(epoll, late.clone(), stay, insertion)?;
            let Some(data) = take(index, of_epoll, &turns)? else { continue };
            // Something became pending just now, and was taken out in the place of another.
            let same = epoll.items.iter().enumerate().filter(|(_, item)| {
                item.data == data && !item.fired() && !item.events.contains(Events::EXCLUSIVE)
            });
            let again: Vec<_> = same.map(|(item, _)| insertion(item)).collect::<Result<_, _>>()?;
            modify(of_epoll, &again, None)?;
            for (item, signal) in turns.iter().filter_map(|turn| Some((turn.item, turn.late?))) {
                modify(of_epoll, &[item], signal)?;
            }
        }
        Ok(())
    }
}

/// Nothing puts such an item back that was reported.
fn is_fixed(events: Events) -> bool {
    events.contains(Events::EXCLUSIVE | Events::ET)
}

/// All that have to go to the end of the list, in their order; late ones only, if the others are to `stay`.
fn turns<'fd>(
    epoll: &Epoll,
    mut late: Vec<LateItem<'fd>>,
    stay: bool,
    insertion: impl Fn(usize) -> Result<Insertion<'fd>, InsertError>,
) -> Result<Vec<Turn<'fd>>, InsertError> {
    late.sort_by_key(|late| late.place);
    let stay = stay || late.first().is_none_or(|late| late.place >= epoll.pending.len());
    let mut turns = Vec::with_capacity(epoll.pending.len() + late.len());
    let mut late = late.into_iter().peekable();
    let of_late = |LateItem { item, signal, .. }: LateItem<'fd>| Turn { item, late: Some(signal) };
    for &item in epoll.pending.iter().filter(|_| !stay) {
        while let Some(next) = late.next_if(|late| late.place <= turns.len()) {
            turns.push(of_late(next));
        }
        turns.push(Turn { item: insertion(item)?, late: None });
    }
    turns.extend(late.map(of_late));
    // The kernel drops these from the list when it looks at them.
    turns.retain(|turn| !turn.item.events.fired());
    Ok(turns)
}

/// Sends them there. Gives the data of what was reported and was none of them, if that
/// happened: then no more is looked at.
fn take(
    index: usize,
    epoll: BorrowedFd<'_>,
    turns: &[Turn<'_>],
) -> Result<Option<u64>, InsertError> {
    let mut files = HashMap::from([(epoll.as_raw_fd(), 0)]);
    let (mut homes, mut uses) = (vec![Some(epoll.as_raw_fd())], vec![1]);
    let mut all = Vec::with_capacity(turns.len());
    for turn in turns {
        let home: Slot = turn.item.file.as_raw_fd();
        let file = *files.entry(home).or_insert(homes.len());
        if file == homes.len() {
            homes.push(Some(home));
            uses.push(0);
        }
        uses[file] += 1;
        let Insertion { file: _, fd, events, data } = turn.item;
        all.push((file, (fd, events, data), turn.late, turn.is_level()));
    }
    let work = |table: &mut PrivateTable| {
        let mut places = Places::new(table, homes, uses).map_err(InsertError::Poll)?;
        let slots: Vec<_> = all.iter().map(|&(file, ..)| places.home(file)).collect();
        let told = table.conditions(&slots).map_err(InsertError::Poll)?;
        let mut lost = None;
        for ((file, (fd, events, data), late, is_level), told) in all.into_iter().zip(told) {
            let home = places.home(0);
            match late {
                Some(Some(signal)) => table.await_signal(signal).map_err(InsertError::Thread)?,
                None if lost.is_none() && events.intersects(told) => {
                    let mut report = [Report { events: 0, u64: data }];
                    let wait = |source| InsertError::Wait { epoll: index, source };
                    table.wait(home, &mut report).map_err(wait)?;
                    let [Report { u64: reported, .. }] = report;
                    lost = (reported != data).then_some(reported);
                }
                _ => {}
            }
            if late.is_some() || !is_level {
                let place = |source| InsertError::Place { epoll: index, fd, source };
                let control = |source| InsertError::Control { epoll: index, fd, source };
                places.put(table, file, fd).map_err(place)?;
                let (home, number) = (places.home(0), places::slot(fd));
                table.control(home, Change::Modify, number, events, data).map_err(control)?;
            }
            places.done(file);
        }
        Ok(lost)
    };
    with_private_table(work).map_err(InsertError::Thread)?
}
