//! The lines of a tree in which each process can be forked by its parent.
//!
//! Most trees are such. A process is then born into the session that its parent is in, or
//! if that leads one, into the one which its parent was born into. Where that
//! is open, it is the session that the parent leads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::lines::{Element, OUTSIDE, Session, Tree};

/// For each session, who is born into it, in order; `None` if somebody cannot be forked by its
/// parent. Of those that could be forked at once, the one with the lowest of `ranks` comes first.
/// Each process is looked at a fixed number of times.
pub(super) fn find(tree: &Tree, ranks: &[usize]) -> Option<Vec<Vec<Element>>> {
    let count = tree.pids.len();
    let parent = |element: Element| tree.parents[element];
    let is_simple = |element: Element| {
        let space = tree.spaces[element];
        let of_parent = parent(element).is_some_and(|parent| tree.spaces[parent] == space);
        !tree.is_dead(element) && (space == element || of_parent)
    };
    if !(0..count)
        .all(|element| is_simple(element) && (parent(element).is_none() == (element == 0)))
    {
        return None;
    }
    let births = births(tree)?;
    let mut lines = vec![Vec::new(); tree.leaders.len()];
    let mut ready = BinaryHeap::from([Reverse((ranks[0], 0))]);
    while let Some(Reverse((_, element))) = ready.pop() {
        lines[births[element]].push(element);
        ready.extend(tree.children[element].iter().map(|&child| Reverse((ranks[child], child))));
    }
    Some(lines)
}

/// The session that each is born into.
fn births(tree: &Tree) -> Option<Vec<Session>> {
    let count = tree.pids.len();
    let ordinary =
        |element: Element| tree.led_by(element).is_none().then(|| tree.sessions[element]);
    // Where each must be born: leaders for the sake of their children.
    let mut must: Vec<Option<Session>> = (0..count).map(ordinary).collect();
    if must[0].is_some_and(|session| session != OUTSIDE) {
        return None;
    }
    must[0] = Some(OUTSIDE);
    // Every parent comes before its children.
    for element in (1..count).rev() {
        let (parent, Some(session)) = (tree.parents[element]?, must[element]) else { continue };
        if tree.led_by(parent) != Some(session) && *must[parent].get_or_insert(session) != session {
            return None;
        }
    }
    for element in 1..count {
        let parent = tree.parents[element]?;
        let natural = tree.led_by(parent).or(must[parent]);
        must[element] = must[element].or(natural);
    }
    must.into_iter().collect()
}
