//! Plans carried out as the kernel would.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::model::Kernel;
use super::*;

const OUTSIDE: Outside = Outside { sid: 1, pgid: 1 };

fn node(pid: i32, parent: i32, pgid: i32, sid: i32) -> Node {
    Node { pid, parent: (parent != 0).then_some(parent), pgid, sid, space: pid }
}

/// Carries the steps out and gives what came of them, parents first and siblings in their order.
fn run(nodes: &[Node], steps: &[Step]) -> Vec<Node> {
    let mut kernel = Kernel::new(nodes[0].pid);
    let spaces: BTreeMap<i32, i32> = nodes.iter().map(|node| (node.pid, node.space)).collect();
    let helpers: BTreeSet<i32> = steps
        .iter()
        .filter_map(|step| match *step {
            Step::Adopt { helper, .. } => Some(helper),
            _ => None,
        })
        .collect();
    // How the kernel calls each memory.
    let mut kernels = BTreeMap::from([(nodes[0].space, nodes[0].pid)]);
    // Groups come when all are forked.
    let of_groups = |step: &&Step| matches!(step, Step::SetPgid { .. } | Step::Dismiss { .. });
    let (groups, spawn): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(of_groups);
    for step in spawn.into_iter().chain(groups) {
        match *step {
            Step::Fork { maker, child, sibling } => {
                let space = spaces.get(&child);
                let exists = space.and_then(|space| kernels.get(space));
                assert!(exists.is_none_or(|&is| is == kernel.space(maker)), "no such memory");
                let shared = exists.is_some() || helpers.contains(&child);
                kernel.fork(maker, child, sibling, shared);
                kernels.extend(space.map(|&space| (space, kernel.space(child))));
            }
            Step::SetSid(pid) => assert!(kernel.setsid(pid), "EPERM: a group of {pid}"),
            Step::SetPgid { pid, pgid } => assert!(kernel.setpgid(pid, pgid), "EPERM"),
            Step::Adopt { helper, parent, adopter } => {
                assert_eq!(kernel.parent(helper), parent);
                kernel.set_subreaper(adopter, true);
                kernel.exit(helper);
                kernel.reap(helper);
                kernel.set_subreaper(adopter, false);
            }
            Step::Dismiss { pid, parent } => {
                assert_eq!(kernel.parent(pid), parent);
                assert!(kernel.children(pid).is_empty());
                kernel.exit(pid);
                kernel.reap(pid);
            }
        }
    }
    kernel.tree()
}

/// Whether the children of each are in order, but for those it had before it made a session, which come
/// before the others. That is asked of trees in which all are forked by their parents.
fn are_in_order(nodes: &[Node], found: &[Node], steps: &[Step]) -> bool {
    let at = |wanted: Step| steps.iter().position(|step| *step == wanted);
    let place = |node: &Node| found.iter().position(|found| found.pid == node.pid);
    let siblings = |one: &Node, next: &Node| {
        let Some(parent) = one.parent.filter(|_| one.parent == next.parent) else { return true };
        let fork = |child| at(Step::Fork { maker: parent, child, sibling: false });
        let apart = at(Step::SetSid(parent))
            .is_some_and(|session| fork(next.pid) < Some(session) && Some(session) < fork(one.pid));
        place(one) < place(next) || apart
    };
    nodes
        .iter()
        .enumerate()
        .all(|(at, one)| nodes[at..].iter().skip(1).all(|next| siblings(one, next)))
}

fn plan_of(nodes: &[Node]) -> Result<Vec<Step>, Impossible> {
    plan(nodes, OUTSIDE, |_| false, 1000..)
}

fn check(nodes: &[Node]) -> Vec<Step> {
    let steps = plan_of(nodes).unwrap_or_else(|error| panic!("{error} of {nodes:?}"));
    let found = run(nodes, &steps);
    let by_pid = |nodes: &[Node]| -> BTreeMap<i32, Node> {
        nodes.iter().map(|node| (node.pid, *node)).collect()
    };
    assert_eq!(by_pid(&found), by_pid(nodes), "{steps:?}");
    let is_ordered = !is_direct(nodes) || are_in_order(nodes, &found, &steps);
    assert!(is_ordered, "{found:?} of {nodes:?}: {steps:?}");
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
    check(&[node(10, 0, 10, 1), node(11, 10, 11, 11), node(12, 11, 12, 12), node(13, 12, 10, 1)]);
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
    check(&[node(10, 0, 10, 10), node(11, 10, 11, 11), node(12, 11, 10, 10), node(13, 12, 13, 10)]);
    // Two levels of leaders above the one that stayed behind.
    check(&[node(10, 0, 10, 10), node(11, 10, 11, 11), node(12, 11, 12, 12), node(13, 12, 10, 10)]);
}

#[test]
fn an_orphan_adopted_beside_its_leader() {
    check(&[node(10, 0, 10, 10), node(11, 10, 11, 11), node(12, 10, 11, 11)]);
}

#[test]
fn orphans_of_a_dead_leader() {
    check(&[node(10, 0, 10, 10), node(12, 10, 20, 20), node(13, 10, 13, 20), node(14, 10, 14, 14)]);
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
    check(&[node(10, 0, 10, 10), with(10, node(11, 10, 11, 11)), with(10, node(12, 11, 11, 11))]);
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
    // In two sessions that are elsewhere in the tree.
    let nodes = [
        node(10, 0, 10, 10),
        node(11, 10, 11, 11),
        node(12, 10, 12, 12),
        node(15, 10, 15, 15),
        node(13, 11, 13, 12),
        node(14, 11, 14, 15),
    ];
    check(&nodes);
}

#[test]
fn members_apart_from_their_leaders() {
    // The leader has gone up, its member is below an adopter that has stayed.
    check(&[node(10, 0, 10, 10), node(11, 10, 11, 11), node(13, 10, 13, 13), node(15, 11, 13, 13)]);
    // Two adopters of one session, one of which was below the other.
    check(&[
        node(10, 0, 10, 10),
        node(11, 10, 10, 10),
        node(13, 10, 10, 10),
        node(18, 11, 14, 14),
        node(16, 13, 14, 14),
    ]);
    // Each leader has a child in the session of the other.
    check(&[
        node(10, 0, 10, 10),
        node(11, 10, 11, 11),
        node(12, 11, 12, 12),
        node(15, 11, 12, 12),
        node(13, 12, 11, 11),
    ]);
    // The line that dormouse is in comes down to 13, so 40 must be in it.
    check(&[
        node(10, 0, 10, 10),
        node(11, 10, 11, 11),
        node(37, 10, 12, 12),
        node(40, 10, 40, 40),
        node(12, 11, 12, 12),
        node(34, 11, 12, 12),
        node(41, 40, 12, 12),
        node(13, 12, 1, 1),
    ]);
    // Each leader would have to be above the other.
    let nodes = [
        node(10, 0, 10, 10),
        node(11, 10, 11, 11),
        node(12, 10, 12, 12),
        node(13, 11, 11, 11),
        node(14, 12, 12, 12),
        node(15, 13, 12, 12),
        node(16, 14, 11, 11),
    ];
    assert!(matches!(plan_of(&nodes), Err(Impossible::Session { .. })));
}

#[test]
fn groups_whose_founders_have_gone_on() {
    check(&[node(10, 0, 10, 10), node(13, 10, 10, 10), node(14, 10, 13, 10)]);
    // One of them is back in the group of dormouse.
    check(&[node(10, 0, 10, 1), node(13, 10, 1, 1), node(14, 10, 13, 1)]);
    check(&[node(10, 0, 10, 10), node(11, 10, 12, 10), node(12, 10, 11, 10)]);
}

/// Whether its processes can all be forked by their parents.
fn is_direct(nodes: &[Node]) -> bool {
    let tree = Tree::new(nodes, OUTSIDE);
    direct::find(&tree, &Vec::from_iter(0..tree.pids.len())).is_some()
}

/// Sessions below sessions, each with so many others; the last of those is a leader again.
fn nested(depth: i32, others: i32) -> Vec<Node> {
    let mut nodes = vec![node(10, 0, 10, 10)];
    for _ in 1..depth {
        let leader = nodes[nodes.len() - 1].pid;
        nodes.extend((1..=others).map(|other| node(leader + other, leader, leader, leader)));
        let next = leader + others + 1;
        nodes.push(node(next, leader, next, next));
    }
    nodes
}

#[test]
fn parents_fork_their_children_where_that_can_be() {
    for nodes in [nested(40, 0), nested(20, 1), nested(10, 3)] {
        assert!(is_direct(&nodes));
        let forks = check(&nodes).into_iter().filter(|step| matches!(step, Step::Fork { .. }));
        assert_eq!(forks.count(), nodes.len() - 1, "no helpers");
    }
    // What was forked before its parent had a session, and before that one's had.
    let chain = [node(10, 0, 10, 10), node(11, 10, 11, 11), node(12, 11, 12, 12)];
    let stayed = [chain.as_slice(), &[node(13, 12, 10, 10)]].concat();
    assert!(is_direct(&stayed));
    check(&stayed);
    // That of a leader which may be dead, or of one that is elsewhere.
    assert!(!is_direct(&[chain.as_slice(), &[node(13, 12, 20, 20)]].concat()));
    assert!(!is_direct(&[chain.as_slice(), &[node(13, 10, 12, 12)]].concat()));
}

#[test]
fn siblings_keep_their_order() {
    let pids = |nodes: &[Node]| nodes.iter().map(|node| node.pid).collect::<Vec<_>>();
    // Not that of their pids, nor that of who inherits memory.
    let nodes = [
        node(10, 0, 10, 10),
        node(14, 10, 10, 10),
        node(12, 10, 12, 12),
        node(13, 10, 10, 10),
        node(11, 14, 10, 10),
    ];
    for late in [10, 11, 12, 13, 14] {
        let steps = plan(&nodes, OUTSIDE, |pid| pid == late, 1000..).unwrap();
        assert_eq!(pids(&run(&nodes, &steps)), pids(&nodes), "{late} is late");
    }
    // Orphans of one session, adopted one after the other, behind a child.
    let nodes = [
        node(10, 0, 10, 10),
        node(14, 10, 10, 10),
        node(13, 10, 20, 20),
        node(12, 10, 20, 20),
        node(11, 10, 20, 20),
    ];
    let steps = plan_of(&nodes).unwrap();
    assert_eq!(pids(&run(&nodes, &steps)), pids(&nodes));
}

/// A search for each leader would look at hundreds of millions.
#[test]
fn deep_trees_are_planned_without_a_search() {
    for nodes in [nested(30_000, 0), nested(15_000, 1)] {
        assert!(is_direct(&nodes));
        assert!(plan_of(&nodes).is_ok());
    }
}

/// What a process does, and with whom.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Fork {
        sibling: bool,
        shared: bool,
    },
    SetSid,
    SetPgid,
    Subreaper(bool),
    /// It ends, and its parent asks for its status or not.
    Exit {
        reaped: bool,
    },
    /// It ends just when one above it is a subreaper.
    HandOver,
}

/// Histories: who does what with whom; numbers choose among those that are there.
fn histories(shared: bool) -> impl Strategy<Value = Vec<(Deed, u16, u16)>> {
    let shared = if shared { any::<bool>().boxed() } else { Just(false).boxed() };
    let fork = (prop::bool::weighted(0.2), shared)
        .prop_map(|(sibling, shared)| Deed::Fork { sibling, shared });
    let deed = prop_oneof![
        14 => fork,
        5 => Just(Deed::SetSid),
        3 => Just(Deed::SetPgid),
        3 => any::<bool>().prop_map(Deed::Subreaper),
        1 => prop::bool::weighted(0.9).prop_map(|reaped| Deed::Exit { reaped }),
        7 => Just(Deed::HandOver),
    ];
    prop::collection::vec((deed, any::<u16>(), any::<u16>()), 1..120)
}

/// Histories of deep trees that fall apart: first all fork and make sessions,
/// then many end, and somebody above adopts their children.
fn falls() -> impl Strategy<Value = Vec<(Deed, u16, u16)>> {
    let rise = prop_oneof![
        3 => Just(Deed::Fork { sibling: false, shared: false }),
        1 => Just(Deed::SetSid),
    ];
    let rise = prop::collection::vec((rise, any::<u16>(), any::<u16>()), 5..60);
    let fall = prop::collection::vec((Just(Deed::HandOver), any::<u16>(), any::<u16>()), 1..12);
    (rise, fall).prop_map(|(rise, fall)| [rise, fall].concat())
}

/// The tree that comes of a history which begins with process 10.
fn live(history: &[(Deed, u16, u16)]) -> Vec<Node> {
    let mut kernel = Kernel::new(10);
    for (next, &(deed, who, whom)) in (11..).zip(history) {
        let among = |all: &[i32], number: u16| all[usize::from(number) % all.len()];
        // Deep trees: most often the last one forks.
        let living = kernel.living();
        let last = living.iter().max().copied().unwrap_or(10);
        let forks = matches!(deed, Deed::Fork { .. }) && whom % 4 != 0;
        let who = if forks { last } else { among(&living, who) };
        match deed {
            Deed::Fork { sibling, shared } => {
                kernel.fork(who, next, sibling && who != 10, shared);
            }
            Deed::SetSid => drop(kernel.setsid(who)),
            Deed::SetPgid => {
                let group = if whom % 3 == 0 { who } else { kernel.group(among(&living, whom)) };
                kernel.setpgid(who, group);
            }
            Deed::Subreaper(is) => kernel.set_subreaper(who, is),
            Deed::Exit { reaped } => {
                if who != 10 {
                    kernel.exit(who);
                    if reaped {
                        kernel.reap(who);
                    }
                }
            }
            Deed::HandOver => {
                let above = kernel.above(who);
                if who != 10 {
                    let adopter = among(&above, whom);
                    kernel.set_subreaper(adopter, true);
                    kernel.exit(who);
                    kernel.reap(who);
                    kernel.set_subreaper(adopter, false);
                }
            }
        }
    }
    kernel.tree()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_can_be_is_made(history in histories(false)) {
        check(&live(&history));
    }

    #[test]
    fn whatever_is_left_is_made(history in falls()) {
        check(&live(&history));
    }

    #[test]
    fn with_shared_memory_it_is_made_or_refused(history in histories(true)) {
        let nodes = live(&history);
        match plan_of(&nodes) {
            Ok(_) => drop(check(&nodes)),
            Err(Impossible::Memory { .. }) => {}
            Err(error) => panic!("{error} of {nodes:?}"),
        }
    }
}
