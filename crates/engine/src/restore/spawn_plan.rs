//! In which order, and by whom, the processes of a tree are forked.
//!
//! A process gets its session from the process that forks it, or makes one
//! of its own. So a child that belongs to the session its parent was in
//! before the parent made its own must be forked before that; and a child
//! whose session its parent was never in must be forked by somebody who is,
//! with `CLONE_PARENT`. Where nobody is left, because the leader is dead, a
//! *stand-in* with the leader's pid makes the session and dies once it has
//! served. Process groups whose leader is dead get a stand-in likewise.
//!
//! A process whose parents have died may have been adopted by a subreaper that
//! was never in its session. It is made as it came about: the leader, below
//! the adopter, forks a *helper*, that forks the process, and dies.
//!
//! Processes that share their memory get it from whoever forks them: their
//! parent or, with `CLONE_PARENT`, the first of their siblings that has it.
//!
//! Everything here is a function of the numbers in the images; nothing
//! touches the system.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What decides the order: the numbers of `pstree.img`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// The process.
    pub(crate) pid: i32,
    /// Its parent; `None` for the root alone.
    pub(crate) parent: Option<i32>,
    /// Its process group.
    pub(crate) pgid: i32,
    /// Its session.
    pub(crate) sid: i32,
    /// The first process that has its memory: itself, unless that is shared.
    pub(crate) space: i32,
}

/// One step. Steps name processes by pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `maker` forks `child`, which becomes its own child, or with `sibling`
    /// its parent's.
    Fork {
        /// Who calls `clone3`.
        maker: i32,
        /// The new process.
        child: i32,
        /// Whether `CLONE_PARENT` is set.
        sibling: bool,
    },
    /// The process makes a session, and a group, of its own.
    SetSid(i32),
    /// The process joins a group, or with its own pid founds it.
    SetPgid {
        /// The process.
        pid: i32,
        /// The group.
        pgid: i32,
    },
    /// A helper ends, its parent reaps it, and its child becomes one of the
    /// adopter's.
    Adopt {
        /// The helper.
        helper: i32,
        /// Its parent.
        parent: i32,
        /// An ancestor of that.
        adopter: i32,
    },
    /// A stand-in ends and its parent reaps it.
    Dismiss {
        /// The stand-in.
        pid: i32,
        /// Its parent.
        parent: i32,
    },
}

/// Why there is no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Impossible {
    /// Nobody can give the process its session.
    #[error(
        "pid {pid} belongs to session {sid}, which no process it could be forked by is ever in"
    )]
    Session {
        /// The process.
        pid: i32,
        /// Its session.
        sid: i32,
    },
    /// Nobody who has its memory can fork the process.
    #[error("pid {pid} shares its memory with pid {with}, which cannot fork it")]
    Memory {
        /// The process.
        pid: i32,
        /// The first process that has its memory.
        with: i32,
    },
    /// The group is not in the process's session.
    #[error("pid {pid} of session {sid} is in process group {pgid} of another session")]
    Group {
        /// The process.
        pid: i32,
        /// Its session.
        sid: i32,
        /// Its group.
        pgid: i32,
    },
}

/// The root's place: it is forked by dormouse itself, into dormouse's own
/// session and group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outside {
    /// The session dormouse is in.
    pub(crate) sid: i32,
    /// The group dormouse is in.
    pub(crate) pgid: i32,
}

/// The steps after the fork of the root, in order. `nodes` has the root
/// first and every parent before its children. `shares` tells whether a child
/// inherits memory of its parent; those that do not come first among those
/// that could be forked at the same time. `spare` gives numbers that nobody has, for
/// helpers.
pub(crate) fn plan(
    nodes: &[Node],
    outside: Outside,
    shares: impl Fn(i32) -> bool,
    spare: impl Iterator<Item = i32>,
) -> Result<Vec<Step>, Impossible> {
    let mut planner = Planner::new(nodes, outside);
    let Some(root) = nodes.first() else { return Ok(Vec::new()) };
    planner.raise(root.pid, outside.sid, &shares)?;
    planner.adopt(&shares, spare)?;
    planner.groups(nodes, outside)?;
    planner.dismiss();
    Ok(planner.steps)
}

struct Planner {
    outside: Outside,
    nodes: BTreeMap<i32, Node>,
    children: BTreeMap<i32, Vec<i32>>,
    births: BTreeMap<i32, Option<i32>>,
    steps: Vec<Step>,
    /// Who is forked by these steps.
    made: BTreeSet<i32>,
    /// Stand-ins and their parents, in the order of their making.
    stand_ins: Vec<(i32, i32)>,
    /// Stand-ins and the session they are in.
    stand_in_sessions: BTreeMap<i32, i32>,
    /// For each process, its place and that of the last one below it, if all
    /// are listed depth first.
    spans: BTreeMap<i32, (usize, usize)>,
    /// For each session without a leader, the parent of its stand-in.
    homes: BTreeMap<i32, i32>,
    /// Processes that are adopted by their parents, with their sessions.
    adopted: VecDeque<(i32, i32)>,
}

impl Planner {
    fn new(nodes: &[Node], outside: Outside) -> Self {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for node in nodes {
            if let Some(parent) = node.parent {
                children.entry(parent).or_default().push(node.pid);
            }
        }
        let mut planner = Self {
            outside,
            nodes: nodes.iter().map(|node| (node.pid, *node)).collect(),
            children,
            births: BTreeMap::new(),
            steps: Vec::new(),
            made: nodes.first().map(|root| root.pid).into_iter().collect(),
            stand_ins: Vec::new(),
            stand_in_sessions: BTreeMap::new(),
            spans: BTreeMap::new(),
            homes: BTreeMap::new(),
            adopted: VecDeque::new(),
        };
        planner.find_spans(nodes);
        planner.find_births(nodes);
        planner.find_homes(nodes);
        planner
    }

    fn find_spans(&mut self, nodes: &[Node]) {
        let mut sizes: BTreeMap<i32, usize> = BTreeMap::new();
        for node in nodes.iter().rev() {
            let size = *sizes.entry(node.pid).or_insert(1);
            if let Some(parent) = node.parent {
                *sizes.entry(parent).or_insert(1) += size;
            }
        }
        // Where the next child of each process begins.
        let mut next: BTreeMap<i32, usize> = BTreeMap::new();
        for node in nodes {
            let size = sizes[&node.pid];
            let start = match node.parent.and_then(|parent| next.get_mut(&parent)) {
                Some(next) => std::mem::replace(next, *next + size),
                None => 0,
            };
            next.insert(node.pid, start + 1);
            self.spans.insert(node.pid, (start, start + size - 1));
        }
    }

    /// Whether a process is an ancestor of another, or the same.
    fn is_above(&self, ancestor: i32, pid: i32) -> bool {
        match (self.spans.get(&ancestor), self.spans.get(&pid)) {
            (Some((start, end)), Some((at, _))) => (start..=end).contains(&at),
            _ => false,
        }
    }

    /// The stand-in of a session is where all those who have adopted members
    /// of it are above.
    fn find_homes(&mut self, nodes: &[Node]) {
        for node in nodes {
            let (Some(sid), Some(parent)) = (self.births[&node.pid], node.parent) else { continue };
            if self.has_members(sid) || self.nodes[&parent].sid == sid {
                continue;
            }
            let home = self.homes.get(&sid).copied().unwrap_or(parent);
            let deeper = if self.is_above(home, parent) { parent } else { home };
            self.homes.insert(sid, deeper);
        }
    }

    /// The session a process must be born into, if that is fixed: its own
    /// unless it leads it; else one that a child of it is to inherit.
    fn birth_session(&self, pid: i32) -> Option<i32> {
        self.births[&pid]
    }

    /// Works out all birth sessions, children before their parents.
    fn find_births(&mut self, nodes: &[Node]) {
        for node in nodes.iter().rev() {
            let birth = if node.sid == node.pid {
                let children = self.children.get(&node.pid).map_or(&[][..], Vec::as_slice);
                children
                    .iter()
                    .filter(|&&child| !self.leader_serves(node.pid, child))
                    .filter_map(|child| self.births[child])
                    .find(|&sid| {
                        sid != node.pid && self.has_members(sid) && !self.is_above(node.pid, sid)
                    })
            } else {
                Some(node.sid)
            };
            self.births.insert(node.pid, birth);
        }
    }

    /// Whether a session has a leader that can be inherited from: one of the
    /// tree, or the one dormouse is in.
    fn has_members(&self, sid: i32) -> bool {
        sid == self.outside.sid || self.nodes.contains_key(&sid)
    }

    /// Whether a sibling that leads the session can fork `child`.
    fn leader_serves(&self, parent: i32, child: i32) -> bool {
        let Some(sid) = self.birth_session(child) else { return false };
        self.nodes.get(&sid).is_some_and(|leader| leader.parent == Some(parent))
    }

    /// Everything below `pid`, which exists and is in session `born`.
    fn raise(
        &mut self,
        pid: i32,
        born: i32,
        shares: &impl Fn(i32) -> bool,
    ) -> Result<(), Impossible> {
        let node = self.nodes[&pid];
        let leads = node.sid == pid;
        if !leads && node.sid != born {
            return Err(Impossible::Session { pid, sid: node.sid });
        }
        let mut children = self.children.get(&pid).cloned().unwrap_or_default();
        children.sort_by_key(|&child| shares(child));
        let (mut before, mut after, mut by_leader, mut by_stand_in, mut by_sharer) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for child in children {
            match self.birth_session(child) {
                birth if self.sharer_serves(pid, child) => by_sharer.push((child, birth)),
                None => after.push((child, node.sid)),
                Some(sid) if sid == node.sid => after.push((child, sid)),
                Some(sid) if leads && sid == born => before.push((child, sid)),
                Some(sid) if self.leader_serves(pid, child) => by_leader.push((child, sid)),
                Some(sid) if self.homes.get(&sid) == Some(&pid) => by_stand_in.push((child, sid)),
                Some(sid) => self.adopted.push_back((child, sid)),
            }
        }
        for (child, sid) in before {
            self.fork(pid, child, false)?;
            self.raise(child, sid, shares)?;
        }
        if leads {
            self.steps.push(Step::SetSid(pid));
        }
        for (child, sid) in after {
            self.fork(pid, child, false)?;
            self.raise(child, sid, shares)?;
        }
        for (child, sid) in by_leader {
            self.fork(sid, child, true)?;
            self.raise(child, sid, shares)?;
        }
        for (child, sid) in by_stand_in {
            if !self.stand_in_sessions.contains_key(&sid) {
                self.fork(pid, sid, false)?;
                self.steps.push(Step::SetSid(sid));
                self.stand_ins.push((sid, pid));
                self.stand_in_sessions.insert(sid, sid);
            }
            self.fork(sid, child, true)?;
            self.raise(child, sid, shares)?;
        }
        for (child, birth) in by_sharer {
            let sharer = self.nodes[&self.nodes[&child].space];
            if birth.is_some_and(|sid| sid != sharer.sid) {
                return Err(Impossible::Memory { pid: child, with: sharer.pid });
            }
            self.fork(sharer.pid, child, true)?;
            self.raise(child, sharer.sid, shares)?;
        }
        Ok(())
    }

    /// Makes those who are adopted, when all others exist.
    fn adopt(
        &mut self,
        shares: &impl Fn(i32) -> bool,
        mut spare: impl Iterator<Item = i32>,
    ) -> Result<(), Impossible> {
        // How many in a row had to wait for the leader of their session.
        let mut waited = 0;
        while let Some((child, sid)) = self.adopted.pop_front() {
            if !self.made.contains(&sid) && waited < self.adopted.len() {
                self.adopted.push_back((child, sid));
                waited += 1;
                continue;
            }
            waited = 0;
            let impossible = Impossible::Session { pid: child, sid };
            let adopter = self.nodes[&child].parent.ok_or(impossible)?;
            // The leader lives, or has a stand-in.
            let below = if self.nodes.contains_key(&sid) {
                self.nodes[&sid].sid == sid && self.is_above(adopter, sid) && adopter != sid
            } else {
                self.stand_in_sessions.contains_key(&sid)
                    && self.homes.get(&sid).is_some_and(|&home| self.is_above(adopter, home))
            };
            if !below || !self.made.contains(&sid) {
                return Err(impossible);
            }
            let helper = spare.next().ok_or(impossible)?;
            self.fork(sid, helper, false)?;
            self.fork(helper, child, false)?;
            self.steps.push(Step::Adopt { helper, parent: sid, adopter });
            self.raise(child, sid, shares)?;
        }
        Ok(())
    }

    /// Whether `child` has its memory from a sibling, and not from `parent`.
    fn sharer_serves(&self, parent: i32, child: i32) -> bool {
        let space = self.nodes[&child].space;
        let sibling = || self.nodes.get(&space).is_some_and(|node| node.parent == Some(parent));
        space != child && space != self.nodes[&parent].space && sibling()
    }

    fn fork(&mut self, maker: i32, child: i32, sibling: bool) -> Result<(), Impossible> {
        if let Some(&Node { space, .. }) = self.nodes.get(&child)
            && space != child
            && self.nodes.get(&maker).is_none_or(|maker| maker.space != space)
        {
            return Err(Impossible::Memory { pid: child, with: space });
        }
        self.made.insert(child);
        self.steps.push(Step::Fork { maker, child, sibling });
        Ok(())
    }

    /// Process groups: founders first, then the others join. The group of
    /// dormouse itself is inherited by whoever is to stay in it.
    fn groups(&mut self, nodes: &[Node], outside: Outside) -> Result<(), Impossible> {
        let mut founded: BTreeMap<i32, i32> = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.pgid == node.pid) {
            founded.insert(node.pgid, node.sid);
            if node.sid != node.pid {
                self.steps.push(Step::SetPgid { pid: node.pid, pgid: node.pid });
            }
        }
        founded.extend(&self.stand_in_sessions);
        let mut orphaned = BTreeSet::new();
        for node in nodes.iter().filter(|node| node.pgid != node.pid) {
            if node.pgid == outside.pgid && node.sid == outside.sid {
                continue;
            }
            if !founded.contains_key(&node.pgid) && orphaned.insert(node.pgid) {
                self.fork(node.pid, node.pgid, false)?;
                self.steps.push(Step::SetPgid { pid: node.pgid, pgid: node.pgid });
                self.stand_ins.push((node.pgid, node.pid));
                founded.insert(node.pgid, node.sid);
            }
            if founded[&node.pgid] != node.sid {
                let Node { pid, sid, pgid, .. } = *node;
                return Err(Impossible::Group { pid, sid, pgid });
            }
            self.steps.push(Step::SetPgid { pid: node.pid, pgid: node.pgid });
        }
        Ok(())
    }

    fn dismiss(&mut self) {
        for (pid, parent) in std::mem::take(&mut self.stand_ins) {
            self.steps.push(Step::Dismiss { pid, parent });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTSIDE: Outside = Outside { sid: 1, pgid: 1 };

    fn node(pid: i32, parent: i32, pgid: i32, sid: i32) -> Node {
        Node { pid, parent: (parent != 0).then_some(parent), pgid, sid, space: pid }
    }

    /// Runs the steps as the kernel would and gives what came of them.
    fn run(nodes: &[Node], steps: &[Step]) -> BTreeMap<i32, Node> {
        let root = nodes[0].pid;
        let spaces: BTreeMap<i32, i32> = nodes.iter().map(|node| (node.pid, node.space)).collect();
        let mut world = BTreeMap::new();
        world.insert(root, Node { pid: root, parent: None, pgid: 1, sid: 1, space: root });
        for step in steps {
            match *step {
                Step::Fork { maker, child, sibling } => {
                    let maker = world[&maker];
                    let parent = if sibling { maker.parent } else { Some(maker.pid) };
                    let space = spaces.get(&child).copied().unwrap_or(child);
                    assert!(space == child || space == maker.space, "no such memory");
                    let born = Node { pid: child, parent, space, ..maker };
                    assert!(world.insert(child, born).is_none(), "pid {child} twice");
                }
                Step::SetSid(pid) => {
                    assert!(world.values().all(|node| node.pgid != pid), "EPERM");
                    let node = world.get_mut(&pid).unwrap();
                    (node.sid, node.pgid) = (pid, pid);
                }
                Step::SetPgid { pid, pgid } => {
                    let sid = world[&pid].sid;
                    assert!(sid != pid, "EPERM: a session leader");
                    assert!(
                        pid == pgid
                            || world.values().any(|node| node.pgid == pgid && node.sid == sid),
                        "EPERM: no such group in the session"
                    );
                    world.get_mut(&pid).unwrap().pgid = pgid;
                }
                Step::Adopt { helper, parent, adopter } => {
                    let gone = world.remove(&helper).unwrap();
                    assert_eq!(gone.parent, Some(parent));
                    let mut above = parent;
                    while above != adopter {
                        above = world[&above].parent.expect("the adopter is an ancestor");
                    }
                    for node in world.values_mut().filter(|node| node.parent == Some(helper)) {
                        node.parent = Some(adopter);
                    }
                }
                Step::Dismiss { pid, parent } => {
                    let gone = world.remove(&pid).unwrap();
                    assert_eq!(gone.parent, Some(parent));
                    assert!(world.values().all(|node| node.parent != Some(pid)));
                }
            }
        }
        world
    }

    fn plan_of(nodes: &[Node]) -> Result<Vec<Step>, Impossible> {
        plan(nodes, OUTSIDE, |_| false, 1000..)
    }

    fn check(nodes: &[Node]) -> Vec<Step> {
        let steps = plan_of(nodes).unwrap();
        let expected = nodes.iter().map(|node| (node.pid, *node)).collect();
        assert_eq!(run(nodes, &steps), expected, "{steps:?}");
        steps
    }

    #[test]
    fn a_lone_leader() {
        assert_eq!(check(&[node(10, 0, 10, 10)]), [Step::SetSid(10)]);
    }

    #[test]
    fn a_root_in_the_session_of_dormouse() {
        check(&[node(10, 0, 10, 1), node(11, 10, 10, 1), node(12, 10, 12, 12)]);
        check(&[node(10, 0, 1, 1), node(11, 10, 1, 1)]);
        check(&[
            node(10, 0, 10, 1),
            node(11, 10, 11, 11),
            node(12, 11, 12, 12),
            node(13, 12, 10, 1),
        ]);
    }

    #[test]
    fn sessions_below_sessions() {
        check(&[
            node(10, 0, 10, 10),
            node(11, 10, 11, 11),
            node(12, 11, 11, 11),
            node(13, 11, 13, 13),
            node(14, 10, 10, 10),
        ]);
    }

    #[test]
    fn a_child_in_the_session_its_parent_has_left() {
        check(&[
            node(10, 0, 10, 10),
            node(11, 10, 11, 11),
            node(12, 11, 10, 10),
            node(13, 12, 13, 10),
        ]);
        // Two levels of leaders above the one that stayed behind.
        check(&[
            node(10, 0, 10, 10),
            node(11, 10, 11, 11),
            node(12, 11, 12, 12),
            node(13, 12, 10, 10),
        ]);
    }

    #[test]
    fn an_orphan_adopted_beside_its_leader() {
        check(&[node(10, 0, 10, 10), node(11, 10, 11, 11), node(12, 10, 11, 11)]);
    }

    #[test]
    fn orphans_of_a_dead_leader() {
        check(&[
            node(10, 0, 10, 10),
            node(12, 10, 20, 20),
            node(13, 10, 13, 20),
            node(14, 10, 14, 14),
        ]);
    }

    #[test]
    fn those_who_are_adopted_far_above_their_session() {
        // 14 and what it has forked since are of the session of 12; so is 16,
        // which has become a leader itself; 15 has another adopter.
        check(&[
            node(10, 0, 10, 10),
            node(11, 10, 11, 11),
            node(14, 10, 14, 12),
            node(12, 11, 12, 12),
            node(15, 11, 12, 12),
            node(17, 14, 17, 12),
            node(16, 14, 16, 16),
        ]);
        // The leader is gone.
        check(&[
            node(10, 0, 10, 10),
            node(11, 10, 11, 11),
            node(14, 10, 20, 20),
            node(15, 11, 20, 20),
            node(16, 15, 16, 20),
        ]);
        // The adopter has been in the session of its parent, and leads another.
        check(&[
            node(10, 0, 10, 10),
            node(11, 10, 11, 11),
            node(12, 11, 12, 12),
            node(13, 11, 13, 12),
            node(14, 11, 14, 10),
        ]);
    }

    #[test]
    fn groups_without_a_leader() {
        check(&[node(10, 0, 10, 10), node(12, 10, 30, 10), node(13, 12, 30, 10)]);
    }

    #[test]
    fn processes_with_one_memory() {
        let with = |space, node| Node { space, ..node };
        // A child, and a child of that.
        check(&[
            node(10, 0, 10, 10),
            with(10, node(11, 10, 11, 11)),
            with(10, node(12, 11, 11, 11)),
        ]);
        // Siblings, whose parent has something else.
        check(&[
            node(10, 0, 10, 10),
            node(11, 10, 10, 10),
            with(11, node(12, 10, 12, 12)),
            with(11, node(13, 10, 10, 10)),
        ]);
        let nodes = [node(10, 0, 10, 10), node(11, 10, 10, 10), with(12, node(13, 11, 10, 10))];
        let nodes = [nodes[0], nodes[1], node(12, 10, 10, 10), nodes[2]];
        let refused = Impossible::Memory { pid: 13, with: 12 };
        assert_eq!(plan_of(&nodes), Err(refused));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let nodes = [node(10, 0, 10, 10), node(11, 10, 11, 99), node(12, 11, 12, 98)];
        assert_eq!(plan_of(&nodes).map(|steps| run(&nodes, &steps)).map(|_| ()), Ok(()));
        let nodes = [node(10, 0, 10, 10), node(11, 10, 10, 11)];
        assert!(plan_of(&nodes).is_err());
        // In two sessions that are elsewhere in the tree: their parent may
        // have been in one of them.
        let nodes = [
            node(10, 0, 10, 10),
            node(11, 10, 11, 11),
            node(12, 10, 12, 12),
            node(15, 10, 15, 15),
            node(13, 11, 13, 12),
            node(14, 11, 14, 15),
        ];
        assert_eq!(plan_of(&nodes), Err(Impossible::Session { pid: 14, sid: 15 }));
    }
}
