//! By whom each process is forked.
//!
//! Whoever stands before a process in its [line](super::lines), and must be
//! above it, is: its parent and, above a leader, the parents of those in lines
//! that come of it. For all others that is as it comes, so most processes are
//! forked by their parents.

use std::collections::{BTreeMap, BTreeSet};

use super::lines::{Element, OUTSIDE, Session, Tree};
use super::{Impossible, Step};

/// Adds forks, sessions and adoptions. Gives the stand-ins with their parents.
pub(super) fn add(
    tree: &Tree,
    lines: &[Vec<Element>],
    spare: impl Iterator<Item = i32>,
    steps: &mut Vec<Step>,
) -> Result<Vec<(i32, i32)>, Impossible> {
    let mut makers = Makers {
        tree,
        lines,
        born: born(tree, lines),
        above: vec![None; tree.pids.len()],
        homes: tree.parents.clone(),
        having: BTreeMap::from([(tree.spaces[0], vec![0])]),
        spare,
        steps,
        adoptions: Vec::new(),
        stand_ins: Vec::new(),
    };
    let mut needs = makers.needs();
    let mut next = vec![OUTSIDE];
    while let Some(session) = next.pop() {
        if let Some(leader) = tree.leaders[session] {
            makers.steps.push(Step::SetSid(tree.pids[leader]));
        }
        makers.arrange(session, &mut needs);
        for &element in &lines[session] {
            if element != 0 {
                makers.fork(session, element, &needs[element])?;
            }
        }
        next.extend(lines[session].iter().rev().filter_map(|&element| tree.led_by(element)));
    }
    let Makers { mut adoptions, stand_ins, .. } = makers;
    // Who is to adopt is still above all that was forked later.
    adoptions.reverse();
    let adopter = |step: &Step| match *step {
        Step::Adopt { adopter, .. } => Some(adopter),
        _ => None,
    };
    // One adopter can have them in the order in which they were forked.
    for of_one in adoptions.chunk_by(|one, next| adopter(one) == adopter(next)) {
        steps.extend(of_one.iter().rev());
    }
    Ok(stand_ins)
}

/// The session that each is born into, and its place in the line.
fn born(tree: &Tree, lines: &[Vec<Element>]) -> Vec<(Session, usize)> {
    let mut born = vec![(OUTSIDE, 0); tree.pids.len()];
    for (session, line) in lines.iter().enumerate() {
        for (place, &element) in line.iter().enumerate() {
            born[element] = (session, place);
        }
    }
    born
}

struct Makers<'a, S> {
    tree: &'a Tree,
    lines: &'a [Vec<Element>],
    born: Vec<(Session, usize)>,
    /// Who is above each in its line, or leads the session, when it is forked.
    above: Vec<Option<Element>>,
    /// Whose child each will be; for the dead, for as long as they stand in.
    homes: Vec<Option<Element>>,
    /// Who has which memory so far.
    having: BTreeMap<Element, Vec<Element>>,
    spare: S,
    steps: &'a mut Vec<Step>,
    adoptions: Vec<Step>,
    stand_ins: Vec<(i32, i32)>,
}

impl<S: Iterator<Item = i32>> Makers<'_, S> {
    /// Whether an element is in a session while that one's line is made.
    fn is_in(&self, element: Element, session: Session) -> bool {
        self.born[element].0 == session || self.tree.leaders[session] == Some(element)
    }

    /// For each, who must be above it of those in its session.
    fn needs(&self) -> Vec<Vec<Element>> {
        let mut order = vec![OUTSIDE];
        for number in 0.. {
            let Some(&session) = order.get(number) else { break };
            let led = |&element: &Element| self.tree.led_by(element);
            order.extend(self.lines[session].iter().filter_map(led));
        }
        let mut needs = vec![Vec::new(); self.tree.pids.len()];
        // What those need in the lines of a session that is above.
        let mut outer: Vec<BTreeSet<Element>> = vec![BTreeSet::new(); self.lines.len()];
        for &session in order.iter().rev() {
            let mut further = BTreeSet::new();
            for &element in &self.lines[session] {
                let led = self.tree.led_by(element);
                let inner = led.map(|led| std::mem::take(&mut outer[led])).unwrap_or_default();
                for needed in inner.into_iter().chain(self.tree.parents[element]) {
                    if self.is_in(needed, session) {
                        needs[element].push(needed);
                    } else {
                        further.insert(needed);
                    }
                }
            }
            outer[session] = further;
        }
        needs
    }

    /// Decides who is above whom in a line. Two that must both be above a third
    /// must be one above the other.
    fn arrange(&mut self, session: Session, needs: &mut [Vec<Element>]) {
        let leader = self.tree.leaders[session];
        let place = |makers: &Self, element| match leader {
            Some(leader) if leader == element => 0,
            _ => makers.born[element].1 + 1,
        };
        for &element in &self.lines[session] {
            needs[element].sort_unstable_by_key(|&needed| place(self, needed));
            needs[element].dedup();
        }
        // Those that are forked each by the one before.
        let mut chain: BTreeSet<(usize, Element)> = BTreeSet::new();
        loop {
            let mut more = Vec::new();
            for &element in &self.lines[session] {
                self.above[element] = needs[element].last().copied();
                let at = (place(self, element), element);
                if chain.contains(&at) {
                    self.above[element] =
                        chain.range(..at).next_back().map(|&(_, before)| before).or(leader);
                }
                if let [needed @ .., last] = needs[element].as_slice()
                    && !needed.iter().all(|&needed| self.is_above(needed, *last, session))
                {
                    more.extend(&needs[element]);
                }
            }
            if more.is_empty() {
                break;
            }
            while let Some(element) = more.pop() {
                if chain.insert((place(self, element), element)) && Some(element) != leader {
                    more.extend(&needs[element]);
                }
            }
        }
        let pairs = chain.iter().zip(chain.iter().skip(1));
        for (&(_, before), &(_, element)) in pairs {
            needs[element].push(before);
        }
    }

    /// Whether `upper` is `lower`, or above it in a session.
    fn is_above(&self, upper: Element, lower: Element, session: Session) -> bool {
        let line = std::iter::successors(Some(lower), |&element| {
            self.above[element].filter(|_| self.born[element].0 == session)
        });
        line.into_iter().any(|element| element == upper)
    }

    fn fork(
        &mut self,
        session: Session,
        element: Element,
        needs: &[Element],
    ) -> Result<(), Impossible> {
        let tree = self.tree;
        let above = self.above[element].or_else(|| (session == OUTSIDE).then_some(0));
        let maker = above.or(tree.leaders[session]).unwrap_or(0);
        let maker = self.with_memory(session, element, maker, needs)?;
        let (pid, maker_pid) = (tree.pids[element], tree.pids[maker]);
        let Some(parent) = tree.parents[element] else {
            self.steps.push(Step::Fork { maker: maker_pid, child: pid, sibling: false });
            self.homes[element] = Some(maker);
            self.stand_ins.push((pid, maker_pid));
            return Ok(());
        };
        let as_sibling = self.homes[maker] == Some(parent) && !needs.contains(&maker);
        self.above[element] = Some(maker);
        if maker == parent || as_sibling {
            let sibling = maker != parent;
            self.steps.push(Step::Fork { maker: maker_pid, child: pid, sibling });
            if sibling {
                self.above[element] = self.above[maker].filter(|_| self.born[maker].0 == session);
            }
            return Ok(());
        }
        let helper = self.spare.next().ok_or(Impossible::Numbers { pid })?;
        self.steps.push(Step::Fork { maker: maker_pid, child: helper, sibling: false });
        self.steps.push(Step::Fork { maker: helper, child: pid, sibling: false });
        let adopter = tree.pids[parent];
        self.adoptions.push(Step::Adopt { helper, parent: maker_pid, adopter });
        Ok(())
    }

    /// The maker, or if others have the memory of the new one and it has not,
    /// one of those.
    fn with_memory(
        &mut self,
        session: Session,
        element: Element,
        maker: Element,
        needs: &[Element],
    ) -> Result<Element, Impossible> {
        let tree = self.tree;
        let space = tree.spaces[element];
        self.having.entry(space).or_default().push(element);
        let having = &self.having[&space];
        let others = &having[..having.len() - 1];
        if others.is_empty() || tree.spaces[maker] == space {
            return Ok(maker);
        }
        let can = |other: &Element| {
            let is_above = |&needed: &Element| self.is_above(needed, *other, session);
            self.is_in(*other, session) && needs.iter().all(is_above)
        };
        let impossible = Impossible::Memory { pid: tree.pids[element], with: tree.pids[others[0]] };
        others.iter().copied().find(can).ok_or(impossible)
    }
}
