//! Walking one epoll: its tree of items, its ready list, and for each item how
//! many of its file's were there before it.
//!
//! Who changes the tree or an item holds the epoll's lock meanwhile. So the tree
//! is walked twice: it was as both times at the moment in between when nobody held
//! the lock.
//!
//! An epoll can have a million items, so what is kept of each while it is
//! walked is little, and where one is by its address is looked up in a sorted
//! list.

use std::collections::{BTreeMap, HashMap};

use super::layout::Layout;
use super::memory::{Address, KernelMemory, ReadError, u64_at};
use super::{FileKey, Inspection, Listed};
use crate::event::{Events, FdNumber};
use crate::interest::{Interest, Item};

/// `EP_UNACTIVE_PTR`: nobody is taking events out at this moment.
const INACTIVE: u64 = u64::MAX;
/// Bits of a mutex's owner that are flags, and no address (`MUTEX_FLAGS`,
/// `kernel/locking/mutex.h`).
const OWNER_FLAGS: u64 = 7;
/// The bit of a node's parent that is its colour, and one that is none
/// (`__rb_parent`, `include/linux/rbtree_augmented.h`).
const PARENT_FLAGS: u64 = 3;
/// More items than memory can hold: a reading that goes on past this is torn.
const MOST_ITEMS: usize = 1 << 28;
/// A red-black tree of so many is not deeper than this.
const MOST_LEVELS: usize = 64;
/// Items read in one go.
const AT_ONCE: usize = 1 << 12;

/// One `struct epitem`.
#[derive(PartialEq, Eq)]
struct Node {
    address: Address,
    /// `fllink.next`: the item of the same file that was added before.
    older: Address,
    /// `pwqlist`: how it hangs on a wait queue.
    hook: Address,
    file: FileKey,
    data: u64,
    fd: FdNumber,
    events: Events,
}

/// One reading of an epoll.
pub(super) struct Reading {
    /// As they were come by.
    nodes: Vec<Node>,
    /// Indices into `nodes`.
    pending: Vec<usize>,
    seniority: Vec<u32>,
    files: BTreeMap<FileKey, Listed>,
}

/// Reads the epoll behind `file`; `None` if it changed meanwhile.
pub(super) fn read(
    memory: &mut KernelMemory,
    layout: &Layout,
    file: Address,
) -> Result<Option<Reading>, ReadError> {
    let epoll = memory.word(layout.files.private_data_at(file))?;
    let overflow = memory.word(epoll + layout.epoll_overflow as u64)?;
    let (mut nodes, mut linked) = (Vec::new(), Linked::new());
    let collect = |node: Node, next| {
        // Itself while it is not in the list.
        if next != node.address + layout.item_ready as u64 {
            linked.insert(node.address, next);
        }
        nodes.push(node);
        nodes.len() <= MOST_ITEMS
    };
    if !tree(memory, layout, epoll, collect)? {
        return Ok(None);
    }
    let Some(index) = Index::new(&nodes) else { return Ok(None) };
    let Some(pending) = ready(memory, layout, epoll, (linked, &index))? else { return Ok(None) };
    let Some(seniority) = seniority(memory, layout, &nodes, &index)? else { return Ok(None) };
    drop(index);
    let files = layout.listed.list(memory, nodes.iter().map(|node| node.file))?;
    let owner = memory.word(epoll + layout.epoll_owner as u64)? & !OWNER_FLAGS;
    let mut before = nodes.iter();
    let is_same = tree(memory, layout, epoll, |node, _| before.next() == Some(&node))?;
    let is_whole = is_same && before.next().is_none() && owner == 0 && overflow == INACTIVE;
    Ok(is_whole.then_some(Reading { nodes, pending, seniority, files }))
}

impl Reading {
    pub(super) fn into_inspection(self) -> Inspection {
        let hooks = self.nodes.iter().map(|node| node.hook).collect();
        // Each is collected in the place of its node.
        let items = self.nodes.into_iter().map(|node| Item {
            file: node.file,
            fd: node.fd,
            events: node.events,
            data: node.data,
            seniority: 0,
            queue: None,
        });
        let mut items: Vec<_> = items.collect();
        for (item, seniority) in items.iter_mut().zip(self.seniority) {
            item.seniority = seniority;
        }
        let interest = Interest { items, pending: self.pending };
        Inspection { interest, files: self.files, hooks }
    }
}

/// Which item is where.
struct Index(Vec<(Address, u32)>);

impl Index {
    /// `None` if one was come by twice.
    fn new(nodes: &[Node]) -> Option<Self> {
        let mut index: Vec<_> = nodes.iter().map(|node| node.address).zip(0..).collect();
        index.sort_unstable();
        index.is_sorted_by(|(one, _), (next, _)| one < next).then_some(Self(index))
    }

    fn find(&self, address: Address) -> Option<usize> {
        let at = self.0.binary_search_by_key(&address, |&(address, _)| address).ok()?;
        Some(self.0[at].1 as usize)
    }
}

/// By the address of an item in the ready list, `rdllink.next`.
type Linked = HashMap<Address, Address>;

/// Gives all items to `each`, with `rdllink.next`, level by level from the root, and
/// says whether they were a tree and it agreed to every one.
fn tree(
    memory: &mut KernelMemory,
    layout: &Layout,
    epoll: Address,
    mut each: impl FnMut(Node, Address) -> bool,
) -> Result<bool, ReadError> {
    // A cached root starts with the plain root, which is one pointer.
    let root = memory.word(epoll + layout.epoll_root as u64)?;
    // Nodes and their parents.
    let mut level = vec![(root, 0)];
    level.retain(|&(node, _)| node != 0);
    for _ in 0..MOST_LEVELS {
        let mut below = Vec::new();
        for some in level.chunks(AT_ONCE) {
            let address = |&(node, _): &(Address, _)| node.wrapping_sub(layout.item_node as u64);
            let addresses: Vec<_> = some.iter().map(address).collect();
            let bytes = memory.read(&addresses, layout.item_size)?;
            let items = bytes.chunks_exact(layout.item_size);
            for ((&(node, parent), address), bytes) in some.iter().zip(addresses).zip(items) {
                let member = |member: usize| u64_at(bytes, layout.item_node + member);
                let fits = u64_at(bytes, layout.item_epoll) == epoll
                    && member(layout.node_parent) & !PARENT_FLAGS == parent;
                let next = u64_at(bytes, layout.item_ready);
                if !fits || !each(Node::parse(layout, address, bytes), next) {
                    return Ok(false);
                }
                let children = [layout.node_left, layout.node_right].map(member);
                below.extend(children.into_iter().filter(|&child| child != 0).map(|it| (it, node)));
            }
        }
        level = below;
        if level.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The ready list as indices.
fn ready(
    memory: &mut KernelMemory,
    layout: &Layout,
    epoll: Address,
    (linked, index): (Linked, &Index),
) -> Result<Option<Vec<usize>>, ReadError> {
    let head = epoll + layout.epoll_ready as u64;
    let ends = memory.read(&[head], 16)?;
    let (first, last) = (u64_at(&ends, 0), u64_at(&ends, 8));
    let mut pending = Vec::with_capacity(linked.len());
    let (mut at, mut before) = (first, head);
    while at != head {
        let address = at.wrapping_sub(layout.item_ready as u64);
        let Some((&next, index)) = linked.get(&address).zip(index.find(address)) else {
            return Ok(None);
        };
        if pending.len() == linked.len() {
            return Ok(None);
        }
        pending.push(index);
        before = at;
        at = next;
    }
    // Every linked item was met, the last is the last, and the list is still
    // the one that was read before.
    let whole = pending.len() == linked.len() && before == last;
    let again = memory.read(&[head], 16)?;
    Ok((whole && again == ends).then_some(pending))
}

/// An item in the list of a file.
#[derive(Clone, Copy)]
enum Link {
    Own(usize),
    /// Of another epoll.
    Foreign(Address),
    End,
}

/// For each item, the number of older items of its file. A file lists its
/// items last added first (`attach_epitem`), across all epolls.
fn seniority(
    memory: &mut KernelMemory,
    layout: &Layout,
    nodes: &[Node],
    index: &Index,
) -> Result<Option<Vec<u32>>, ReadError> {
    let link = |at: Address| match at {
        0 => Link::End,
        _ => index
            .find(at.wrapping_sub(layout.item_of_file as u64))
            .map_or(Link::Foreign(at), Link::Own),
    };
    let foreign = |at: Address| match link(at) {
        Link::Foreign(at) => Some(at),
        Link::Own(_) | Link::End => None,
    };
    // Items of other epolls on the same files, one generation at a time.
    let mut others: HashMap<Address, Address> = HashMap::new();
    let mut new: Vec<Address> = nodes.iter().filter_map(|node| foreign(node.older)).collect();
    while !new.is_empty() {
        if others.len() >= MOST_ITEMS {
            return Ok(None);
        }
        new.sort_unstable();
        new.dedup();
        let older = memory.words(&new)?;
        others.extend(new.into_iter().zip(older.iter().copied()));
        let older = older.into_iter().filter_map(foreign);
        new = older.filter(|at| !others.contains_key(at)).collect();
    }
    const UNKNOWN: u32 = u32::MAX;
    let mut ranks = vec![UNKNOWN; nodes.len()];
    let mut of_others: HashMap<Address, u32> = HashMap::new();
    let mut chain = Vec::new();
    for node in 0..nodes.len() {
        let mut at = Link::Own(node);
        // That of the oldest in the chain.
        let first = loop {
            let (known, next) = match at {
                Link::End => break 0,
                Link::Own(node) => {
                    (Some(ranks[node]).filter(|&rank| rank != UNKNOWN), nodes[node].older)
                }
                Link::Foreign(at) => (of_others.get(&at).copied(), others[&at]),
            };
            if let Some(rank) = known {
                break rank + 1;
            }
            if chain.len() > nodes.len() + others.len() {
                return Ok(None);
            }
            chain.push(at);
            at = link(next);
        };
        for (at, rank) in chain.drain(..).rev().zip(first..) {
            match at {
                Link::Own(node) => ranks[node] = rank,
                Link::Foreign(at) => drop(of_others.insert(at, rank)),
                Link::End => {}
            }
        }
    }
    Ok(Some(ranks))
}

impl Node {
    fn parse(layout: &Layout, address: Address, bytes: &[u8]) -> Self {
        let half = |offset: usize| {
            let word = bytes[offset..].first_chunk().expect("an item was read whole");
            u32::from_ne_bytes(*word)
        };
        Self {
            address,
            older: u64_at(bytes, layout.item_of_file),
            hook: u64_at(bytes, layout.item_hook),
            file: FileKey(u64_at(bytes, layout.item_file)),
            fd: FdNumber::from_raw(half(layout.item_fd)),
            events: Events::from_bits_retain(half(layout.item_event)),
            // `struct epoll_event` is packed on x86-64 only.
            data: u64_at(bytes, layout.item_event + EVENT_DATA),
        }
    }
}

/// Where `data` lies in `struct epoll_event` (`EPOLL_PACKED`,
/// `include/uapi/linux/eventpoll.h`).
const EVENT_DATA: usize = std::mem::offset_of!(libc::epoll_event, u64);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{Events, FdNumber, FileKey, Index, Node};

    fn node(address: u64) -> Node {
        let (fd, events) = (FdNumber::from_raw(0), Events::empty());
        Node { address, older: 0, hook: 0, file: FileKey(0), data: 0, fd, events }
    }

    #[test]
    fn items_are_found_by_their_addresses() {
        let index = Index::new(&[node(30), node(10), node(20)]).unwrap();
        assert_eq!([10, 20, 30, 40].map(|at| index.find(at)), [Some(1), Some(2), Some(0), None]);
    }

    #[test]
    fn what_was_met_twice_is_refused() {
        assert!(Index::new(&[node(30), node(10), node(30)]).is_none());
    }
}
