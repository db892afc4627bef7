//! Process groups, once all processes are in their sessions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Impossible, Node, Outside, Step};

/// Adds the steps: founders first, then the others join, then stand-ins go.
/// Those of sessions are given, with their parents. The group of dormouse
/// itself is inherited by whoever is to stay in it.
pub(super) fn add(
    nodes: &[Node],
    outside: Outside,
    mut stand_ins: Vec<(i32, i32)>,
    mut spare: impl Iterator<Item = i32>,
    steps: &mut Vec<Step>,
) -> Result<(), Impossible> {
    let known: BTreeMap<i32, &Node> = nodes.iter().map(|node| (node.pid, node)).collect();
    // Each group with its session.
    let mut founded: BTreeMap<i32, i32> = stand_ins.iter().map(|&(sid, _)| (sid, sid)).collect();
    for node in nodes.iter().filter(|node| node.pgid == node.pid) {
        founded.insert(node.pgid, node.sid);
        if node.sid != node.pid {
            steps.push(Step::SetPgid { pid: node.pid, pgid: node.pid });
        }
    }
    let stays = |node: &Node| node.pgid == outside.pgid && node.sid == outside.sid;
    let joining = || nodes.iter().filter(|node| node.pgid != node.pid);
    let mut gone = BTreeSet::new();
    for node in joining().filter(|node| !stays(node)) {
        if founded.contains_key(&node.pgid) {
            continue;
        }
        let mut sid = node.sid;
        if let Some(founder) = known.get(&node.pgid) {
            sid = founder.sid;
            gone.insert(node.pgid);
        } else {
            steps.push(Step::Fork { maker: node.pid, child: node.pgid, sibling: false });
            stand_ins.push((node.pgid, node.pid));
        }
        founded.insert(node.pgid, sid);
        if sid != node.pgid {
            steps.push(Step::SetPgid { pid: node.pgid, pgid: node.pgid });
        }
    }
    founded.insert(outside.pgid, outside.sid);
    let check = |node: &Node| {
        let Node { pid, sid, pgid, .. } = *node;
        if founded[&pgid] == sid { Ok(()) } else { Err(Impossible::Group { pid, sid, pgid }) }
    };
    let mut go_on = Founders { groups: BTreeMap::new(), free: Vec::new() };
    for &pid in &gone {
        check(known[&pid])?;
        go_on.groups.insert(pid, known[&pid].pgid);
    }
    for node in joining().filter(|node| !stays(node) && !gone.contains(&node.pid)) {
        check(node)?;
        steps.push(Step::SetPgid { pid: node.pid, pgid: node.pgid });
        go_on.joined(node.pgid);
    }
    go_on.leave(steps);
    while let Some((&pid, _)) = go_on.groups.first_key_value() {
        // They have each other's groups: one leaves somebody in its own.
        let helper = spare.next().ok_or(Impossible::Numbers { pid })?;
        steps.push(Step::Fork { maker: pid, child: helper, sibling: false });
        steps.push(Step::SetPgid { pid: helper, pgid: pid });
        stand_ins.push((helper, pid));
        go_on.joined(pid);
        go_on.leave(steps);
    }
    steps.extend(stand_ins.into_iter().map(|(pid, parent)| Step::Dismiss { pid, parent }));
    Ok(())
}

/// Founders of groups who are to go on to others, with those. None may before
/// there is somebody else in its group.
struct Founders {
    groups: BTreeMap<i32, i32>,
    free: Vec<(i32, i32)>,
}

impl Founders {
    /// Somebody is in a group.
    fn joined(&mut self, group: i32) {
        self.free.extend(self.groups.remove_entry(&group));
    }

    /// Those who may go on do.
    fn leave(&mut self, steps: &mut Vec<Step>) {
        while let Some((pid, pgid)) = self.free.pop() {
            steps.push(Step::SetPgid { pid, pgid });
            self.joined(pgid);
        }
    }
}
