//! Walking one epoll: its tree of items, its ready list, and for each item how
//! many of its file's were there before it.

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

/// One `struct epitem`, read whole.
struct Node {
    address: Address,
    left: Address,
    right: Address,
    /// `rdllink.next`: itself while not in the ready list.
    next_ready: Address,
    /// `fllink.next`: the item of the same file that was added before.
    older: Address,
    /// `pwqlist`: how it hangs on its file.
    hook: Address,
    epoll: Address,
    file: FileKey,
    fd: FdNumber,
    events: Events,
    data: u64,
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
    let Some(nodes) = tree(memory, layout, epoll)? else { return Ok(None) };
    let Some(pending) = ready(memory, layout, epoll, &nodes)? else { return Ok(None) };
    let Some(seniority) = seniority(memory, layout, &nodes)? else { return Ok(None) };
    Ok((overflow == INACTIVE).then_some(Reading { nodes, pending, seniority }))
}

impl Reading {
    /// The fdinfo lists the same items in the same order.
    pub(super) fn agrees(&self, listed: &[Entry]) -> bool {
        let same = |(node, entry): (&Node, &Entry)| {
            (node.fd, node.events, node.data) == (entry.fd, entry.events, entry.data)
        };
        self.nodes.len() == listed.len() && self.nodes.iter().zip(listed).all(same)
    }

    /// How each item hangs on its file.
    pub(super) fn hooks(&self) -> Vec<Address> {
        self.nodes.iter().map(|node| node.hook).collect()
    }

    pub(super) fn into_interest(self) -> Interest<FileKey> {
        let items = self.nodes.into_iter().zip(self.seniority).map(|(node, seniority)| Item {
            file: node.file,
            fd: node.fd,
            events: node.events,
            data: node.data,
            seniority,
        });
        Interest { items: items.collect(), pending: self.pending }
    }
}

/// All items, level by level from the root, then put into the tree's order.
fn tree(
    memory: &mut KernelMemory,
    layout: &Layout,
    epoll: Address,
) -> Result<Option<Vec<Node>>, ReadError> {
    // A cached root starts with the plain root, which is one pointer.
    let root = memory.word(epoll + layout.epoll_root as u64)?;
    let mut nodes: Vec<Node> = Vec::new();
    let mut level = vec![root];
    level.retain(|&node| node != 0);
    while !level.is_empty() {
        let addresses: Vec<_> = level.iter().map(|node| node - layout.item_node as u64).collect();
        let bytes = memory.read(&addresses, layout.item_size)?;
        level.clear();
        for (address, bytes) in addresses.into_iter().zip(bytes.chunks_exact(layout.item_size)) {
            let node = Node::parse(layout, address, bytes);
            level.extend([node.left, node.right].into_iter().filter(|&child| child != 0));
            if node.epoll != epoll || nodes.len() >= MOST_ITEMS {
                return Ok(None);
            }
            nodes.push(node);
        }
    }
    Ok(in_order(nodes, root, layout.item_node as u64))
}

/// Sorts the nodes as the tree has them; `None` if they are no tree.
fn in_order(nodes: Vec<Node>, root: Address, node_offset: u64) -> Option<Vec<Node>> {
    let mut by_address: HashMap<Address, Node> =
        nodes.into_iter().map(|node| (node.address + node_offset, node)).collect();
    let mut sorted = Vec::with_capacity(by_address.len());
    let mut path = Vec::new();
    let mut at = root;
    loop {
        while at != 0 {
            // Each node is taken out once, so this ends however torn they are.
            let node = by_address.remove(&at)?;
            at = node.left;
            path.push(node);
        }
        let Some(node) = path.pop() else { break };
        at = node.right;
        sorted.push(node);
    }
    by_address.is_empty().then_some(sorted)
}

/// The ready list as indices into `nodes`.
fn ready(
    memory: &mut KernelMemory,
    layout: &Layout,
    epoll: Address,
    nodes: &[Node],
) -> Result<Option<Vec<usize>>, ReadError> {
    let head = epoll + layout.epoll_ready as u64;
    let ends = memory.read(&[head], 16)?;
    let (first, last) = (u64_at(&ends, 0), u64_at(&ends, 8));
    let link = |node: &Node| node.address + layout.item_ready as u64;
    let linked = |node: &Node| node.next_ready != link(node);
    let by_link: HashMap<Address, usize> = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| linked(node))
        .map(|(index, node)| (link(node), index))
        .collect();
    let mut pending = Vec::with_capacity(by_link.len());
    let (mut at, mut before) = (first, head);
    while at != head {
        let Some(&index) = by_link.get(&at) else { return Ok(None) };
        if pending.len() == by_link.len() {
            return Ok(None);
        }
        pending.push(index);
        before = at;
        at = nodes[index].next_ready;
    }
    // Every linked item was met, the last is the last, and the list is still
    // the one that was read before.
    let whole = pending.len() == by_link.len() && before == last;
    let again = memory.read(&[head], 16)?;
    Ok((whole && again == ends).then_some(pending))
}

/// For each item, the number of older items of its file. A file lists its
/// items last added first (`attach_epitem`), across all epolls.
fn seniority(
    memory: &mut KernelMemory,
    layout: &Layout,
    nodes: &[Node],
) -> Result<Option<Vec<u32>>, ReadError> {
    let offset = layout.item_of_file as u64;
    let mut older: HashMap<Address, Address> =
        nodes.iter().map(|node| (node.address + offset, node.older)).collect();
    // Items of other epolls on the same files, one generation at a time.
    let unknown =
        |older: &HashMap<Address, Address>, next: &Address| *next != 0 && !older.contains_key(next);
    let mut foreign: Vec<Address> =
        older.values().copied().filter(|next| unknown(&older, next)).collect();
    while !foreign.is_empty() {
        if older.len() >= MOST_ITEMS {
            return Ok(None);
        }
        foreign.sort_unstable();
        foreign.dedup();
        let bytes = memory.read(&foreign, 8)?;
        let next: Vec<_> = bytes.chunks_exact(8).map(|word| u64_at(word, 0)).collect();
        older.extend(foreign.into_iter().zip(next.iter().copied()));
        foreign = next.into_iter().filter(|next| unknown(&older, next)).collect();
    }
    let mut ranks: HashMap<Address, u32> = HashMap::with_capacity(older.len());
    let mut chain = Vec::new();
    let mut seniority = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut at = node.address + offset;
        while at != 0 && !ranks.contains_key(&at) {
            if chain.len() > older.len() {
                return Ok(None);
            }
            chain.push(at);
            at = older[&at];
        }
        let first = ranks.get(&at).map_or(0, |rank| rank + 1);
        ranks.extend(chain.drain(..).rev().zip(first..));
        seniority.push(ranks[&(node.address + offset)]);
    }
    Ok(Some(seniority))
}

impl Node {
    fn parse(layout: &Layout, address: Address, bytes: &[u8]) -> Self {
        let half = |offset: usize| {
            let word = bytes[offset..].first_chunk().expect("an item was read whole");
            u32::from_ne_bytes(*word)
        };
        Self {
            address,
            left: u64_at(bytes, layout.item_node + layout.node_left),
            right: u64_at(bytes, layout.item_node + layout.node_right),
            next_ready: u64_at(bytes, layout.item_ready),
            older: u64_at(bytes, layout.item_of_file),
            hook: u64_at(bytes, layout.item_hook),
            epoll: u64_at(bytes, layout.item_epoll),
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

    fn node(address: u64, left: u64, right: u64) -> Node {
        Node {
            address,
            left,
            right,
            next_ready: 0,
            older: 0,
            hook: 0,
            epoll: 0,
            file: FileKey(0),
            fd: FdNumber::from_raw(0),
            events: Events::empty(),
            data: 0,
        }
    }

    #[test]
    fn nodes_come_in_the_order_of_the_tree() {
        let nodes = vec![node(20, 10, 30), node(10, 0, 15), node(30, 0, 0), node(15, 0, 0)];
        let sorted = in_order(nodes, 20, 0).unwrap();
        assert_eq!(sorted.iter().map(|node| node.address).collect::<Vec<_>>(), [10, 15, 20, 30]);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        assert!(in_order(vec![node(1, 2, 0), node(2, 1, 0)], 1, 0).is_none());
        assert!(in_order(vec![node(1, 0, 0), node(2, 0, 0)], 1, 0).is_none());
        assert!(in_order(vec![node(1, 9, 0)], 1, 0).is_none());
    }
}
