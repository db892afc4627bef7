//! The kernel's rules of parents, sessions and process groups.

use std::collections::BTreeMap;

use super::Node;

/// What everything ends up with that nobody adopts.
const INIT: i32 = 1;

#[derive(Clone, Copy, Debug)]
struct Process {
    parent: i32,
    sid: i32,
    pgid: i32,
    space: i32,
    /// `signal_struct.is_child_subreaper`
    is_subreaper: bool,
    /// `signal_struct.has_child_subreaper`
    has_subreaper: bool,
    ended: bool,
    /// Its place among the children of its parent (`task_struct.sibling`).
    place: usize,
}

/// All processes.
#[derive(Debug)]
pub(super) struct Kernel {
    root: i32,
    processes: BTreeMap<i32, Process>,
    places: usize,
}

impl Kernel {
    /// Init, and a child of it.
    pub(super) fn new(root: i32) -> Self {
        let init = Process {
            parent: 0,
            sid: INIT,
            pgid: INIT,
            space: INIT,
            is_subreaper: false,
            has_subreaper: false,
            ended: false,
            place: 0,
        };
        let child = Process { parent: INIT, space: root, ..init };
        Self { root, processes: BTreeMap::from([(INIT, init), (root, child)]), places: 0 }
    }

    /// Behind all children that anybody has.
    fn last_place(&mut self) -> usize {
        self.places += 1;
        self.places
    }

    /// Everything below the root, parents first.
    pub(super) fn tree(&self) -> Vec<Node> {
        let mut pids = vec![self.root];
        for number in 0.. {
            let Some(&pid) = pids.get(number) else { break };
            pids.extend(self.children(pid));
        }
        let mut spaces = BTreeMap::new();
        let node = |&pid: &i32| {
            let Process { parent, sid, pgid, space, ended, .. } = self.processes[&pid];
            let first = *spaces.entry(space).or_insert(pid);
            let space = if ended { pid } else { first };
            Node { pid, parent: (pid != self.root).then_some(parent), pgid, sid, space }
        };
        pids.iter().map(node).collect()
    }

    /// All below the root that have not ended.
    pub(super) fn living(&self) -> Vec<i32> {
        let nodes = self.tree().into_iter();
        nodes.map(|node| node.pid).filter(|pid| !self.processes[pid].ended).collect()
    }

    pub(super) fn parent(&self, pid: i32) -> i32 {
        self.processes[&pid].parent
    }

    /// All above it, up to the root.
    pub(super) fn above(&self, pid: i32) -> Vec<i32> {
        let up = |&pid: &i32| (pid != self.root).then(|| self.parent(pid));
        std::iter::successors(Some(pid), up).skip(1).collect()
    }

    pub(super) fn group(&self, pid: i32) -> i32 {
        self.processes[&pid].pgid
    }

    pub(super) fn space(&self, pid: i32) -> i32 {
        self.processes[&pid].space
    }

    /// In the kernel's order.
    pub(super) fn children(&self, pid: i32) -> Vec<i32> {
        let all = self.processes.iter().filter(|(_, process)| process.parent == pid);
        let mut all: Vec<i32> = all.map(|(&child, _)| child).collect();
        all.sort_by_key(|child| self.processes[child].place);
        all
    }

    /// `clone(2)`, perhaps with `CLONE_PARENT` and `CLONE_VM`.
    pub(super) fn fork(&mut self, maker: i32, child: i32, sibling: bool, shared: bool) {
        let (by, place) = (self.processes[&maker], self.last_place());
        assert!(!by.ended, "{maker} has ended");
        let new = Process {
            parent: if sibling { by.parent } else { maker },
            space: if shared { by.space } else { child },
            is_subreaper: false,
            has_subreaper: by.has_subreaper || by.is_subreaper,
            place,
            ..by
        };
        let in_use = |process: &Process| process.sid == child || process.pgid == child;
        assert!(!self.processes.values().any(in_use), "{child} is in use");
        assert!(self.processes.insert(child, new).is_none(), "{child} is there");
    }

    /// `setsid(2)`
    pub(super) fn setsid(&mut self, pid: i32) -> bool {
        let is_group = self.processes.values().any(|process| process.pgid == pid);
        if let Some(process) = self.processes.get_mut(&pid).filter(|_| !is_group) {
            (process.sid, process.pgid) = (pid, pid);
        }
        !is_group
    }

    /// `setpgid(2)`, called by the process itself.
    pub(super) fn setpgid(&mut self, pid: i32, pgid: i32) -> bool {
        let sid = self.processes[&pid].sid;
        let has_group = |process: &Process| process.pgid == pgid && process.sid == sid;
        let allowed = sid != pid && (pid == pgid || self.processes.values().any(has_group));
        if let Some(process) = self.processes.get_mut(&pid).filter(|_| allowed) {
            process.pgid = pgid;
        }
        allowed
    }

    /// `PR_SET_CHILD_SUBREAPER`
    pub(super) fn set_subreaper(&mut self, pid: i32, is: bool) {
        self.processes.get_mut(&pid).expect("it is there").is_subreaper = is;
        if is {
            // As far down as nobody has it.
            let mut below = self.children(pid);
            while let Some(pid) = below.pop() {
                let process = self.processes.get_mut(&pid).expect("it is there");
                if !std::mem::replace(&mut process.has_subreaper, true) {
                    below.extend(self.children(pid));
                }
            }
        }
    }

    /// `exit(2)`: a zombie is left, and others have its children.
    pub(super) fn exit(&mut self, pid: i32) {
        let reaper = self.reaper(pid);
        // `forget_original_parent`
        for child in self.children(pid) {
            let place = self.last_place();
            let child = self.processes.get_mut(&child).expect("it is there");
            (child.parent, child.place) = (reaper, place);
        }
        self.processes.get_mut(&pid).expect("it is there").ended = true;
    }

    /// `find_new_reaper`
    fn reaper(&self, pid: i32) -> i32 {
        let ended = self.processes[&pid];
        let above =
            std::iter::successors(Some(ended.parent), |above| Some(self.processes[above].parent));
        let mut adopts = above.take_while(|&above| ended.has_subreaper && above != INIT);
        let is_subreaper = |pid: &i32| {
            let process = self.processes[pid];
            process.is_subreaper && !process.ended
        };
        adopts.find(is_subreaper).unwrap_or(INIT)
    }

    /// `wait(2)` for one that has ended.
    pub(super) fn reap(&mut self, pid: i32) {
        let gone = self.processes.remove(&pid).expect("it is there");
        assert!(gone.ended);
    }
}
