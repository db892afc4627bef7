//! Walking one epoll: its tree of items, its ready list, and for each item how
//! many of its file's were there before it.
//!
//! An epoll can have a million items, so what is kept of each while it is
//! walked is little, and where one is by its address is looked up in a sorted
//! list.

use std::collections::HashMap;

use super::FileKey;
use super::layout::Layout;
use super::memory::{Address, KernelMemory, ReadError, u64_at};
use crate::event::{Events, FdNumber};
use crate::fdinfo::Entry;
use crate::interest::{Interest, Item};

/// `EP_UNACTIVE_PTR`: nobody is taking events out at this moment.
const INACTIVE: u64 = u64::MAX;
/// More items than memory can hold: a reading that goes on past this is torn.
const MOST_ITEMS: usize = 1 << 28;
/// A red-black tree of so many is not deeper than this.
const MOST_LEVELS: usize = 64;
/// Items read in one go.
const AT_ONCE: usize = 1 << 12;

/// One `struct epitem`.
struct Node {
    address: Address,
    /// `fllink.next`: the item of the same file that was added before.
    older: Address,
    file: FileKey,
    data: u64,
    fd: FdNumber,
    events: Events,
}

/// One reading of an epoll.
pub(super) struct Reading {
    /// In the order of the tree.
    nodes: Vec<Node>,
    /// Indices into `nodes`.
    pending: Vec<usize>,
    seniority: Vec<u32>,
}

/// Reads the epoll behind `file`; `None` if it changed meanwhile.
pub(super) fn read(
    memory: &mut KernelMemory,
    layout: &Layout,
    file: Address,
) -> Result<Option<Reading>, ReadError> {
    let epoll = memory.word(layout.files.private_data_at(file))?;
    let overflow = memory.word(epoll + layout.epoll_overflow as u64)?;
    let Some((nodes, linked)) = tree(memory, layout, epoll)? else { return Ok(None) };
    let index = Index::new(&nodes);
    let Some(pending) = ready(memory, layout, epoll, (linked, &index))? else { return Ok(None) };
    let Some(seniority) = seniority(memory, layout, &nodes, &index)? else { return Ok(None) };
    Ok((overflow == INACTIVE).then_some(Reading { nodes, pending, seniority }))
}

impl Reading {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The file of the item with this index, if fdinfo lists the item so.
    pub(super) fn agrees(&self, index: usize, entry: &Entry) -> Option<FileKey> {
        let node = self.nodes.get(index)?;
        let same = (node.fd, node.events, node.data) == (entry.fd, entry.events, entry.data);
        same.then_some(node.file)
    }

    /// Where each item is.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    pub(super) fn into_interest(self) -> Interest<FileKey> {
        // Each is collected in the place of its node.
        let items = self.nodes.into_iter().map(|node| Item {
            file: node.file,
            fd: node.fd,
            events: node.events,
            data: node.data,
            seniority: 0,
        });
        let mut items: Vec<_> = items.collect();
        for (item, seniority) in items.iter_mut().zip(self.seniority) {
            item.seniority = seniority;
        }
        Interest { items, pending: self.pending }
    }
}

/// Which item is where.
struct Index(Vec<(Address, u32)>);

impl Index {
    fn new(nodes: &[Node]) -> Self {
        let mut index: Vec<_> = nodes.iter().map(|node| node.address).zip(0..).collect();
        index.sort_unstable();
        Self(index)
    }

    fn find(&self, address: Address) -> Option<usize> {
        let at = self.0.binary_search_by_key(&address, |&(address, _)| address).ok()?;
        Some(self.0[at].1 as usize)
    }
}

/// By the address of an item in the ready list, `rdllink.next`.
type Linked = HashMap<Address, Address>;

/// All items, read level by level from the root, in the tree's order, which is
/// by file and number (`ep_cmp_ffd`).
fn tree(
    memory: &mut KernelMemory,
    layout: &Layout,
    epoll: Address,
) -> Result<Option<(Vec<Node>, Linked)>, ReadError> {
    // A cached root starts with the plain root, which is one pointer.
    let root = memory.word(epoll + layout.epoll_root as u64)?;
    let (mut nodes, mut linked) = (Vec::new(), Linked::new());
    let mut level = vec![root];
    level.retain(|&node| node != 0);
    for _ in 0..MOST_LEVELS {
        let mut below = Vec::new();
        for some in level.chunks(AT_ONCE) {
            let addresses: Vec<_> =
                some.iter().map(|node| node.wrapping_sub(layout.item_node as u64)).collect();
            let bytes = memory.read(&addresses, layout.item_size)?;
            let items = bytes.chunks_exact(layout.item_size);
            for (address, bytes) in addresses.into_iter().zip(items) {
                if u64_at(bytes, layout.item_epoll) != epoll || nodes.len() >= MOST_ITEMS {
                    return Ok(None);
                }
                let children = [layout.node_left, layout.node_right];
                let children = children.map(|child| u64_at(bytes, layout.item_node + child));
                below.extend(children.into_iter().filter(|&child| child != 0));
                let next = u64_at(bytes, layout.item_ready);
                // Itself while it is not in the list.
                if next != address + layout.item_ready as u64 {
                    linked.insert(address, next);
                }
                nodes.push(Node::parse(layout, address, bytes));
            }
        }
        level = below;
        if level.is_empty() {
            break;
        }
    }
    Ok((level.is_empty() && in_order(&mut nodes)).then_some((nodes, linked)))
}

/// Sorts the items as the tree has them, in which each is once.
fn in_order(nodes: &mut [Node]) -> bool {
    let key = |node: &Node| (node.file, node.fd);
    nodes.sort_unstable_by_key(key);
    nodes.is_sorted_by(|one, next| key(one) < key(next))
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
    use super::{Events, FdNumber, FileKey, Node, in_order};

    fn node(file: u64, fd: u32) -> Node {
        let (fd, events) = (FdNumber::from_raw(fd), Events::empty());
        Node { address: 0, older: 0, file: FileKey(file), data: 0, fd, events }
    }

    #[test]
    fn items_come_in_the_order_of_the_tree() {
        let mut nodes = [node(20, 1), node(10, 7), node(20, 0), node(10, 9)];
        assert!(in_order(&mut nodes));
        let keys = nodes.each_ref().map(|node| (node.file.0, node.fd.as_raw()));
        assert_eq!(keys, [(10, 7), (10, 9), (20, 0), (20, 1)]);
    }

    #[test]
    fn what_was_met_twice_is_refused() {
        assert!(!in_order(&mut [node(1, 2), node(2, 1), node(1, 2)]));
    }
}
