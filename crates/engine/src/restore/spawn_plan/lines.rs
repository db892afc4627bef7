//! Which session each process is born into, and in what order.
//!
//! All that are born into one session can be forked in a *line*, each below
//! the one before, for as long as none of them has made a session of its own;
//! when the line is complete, its leaders do, and the lines of their sessions
//! begin. Adoption moves a process up only, to any ancestor. So a tree can be
//! come to if, and only if, there are lines in which the parent of each process
//! stands before it: in the same line, or as the leader of that, or before that
//! leader in the line it was born in, and so on.
//!
//! Where a process of the line's own session can come next, it may: that takes
//! nothing from the others. A leader may come next if the processes of its
//! session and those of the line have nothing more to do with each other, that
//! is if no chain of parents, children and fellows in sessions leads from one
//! to the other through processes that have no place yet; and if what hangs
//! together with its session finds places in lines that begin with it. Then
//! all the rest still finds its places, if it ever did.
//!
//! That takes a search for each leader, and is asked of those trees alone whose processes
//! cannot all be forked by their [parents](direct).

use std::collections::BTreeMap;

use super::{Impossible, Node, Outside, direct};

/// A process of the tree or, beyond those, a dead leader.
pub(super) type Element = usize;
/// A session; the first is the one that dormouse is in.
pub(super) type Session = usize;

/// The session that the root is born into.
pub(super) const OUTSIDE: Session = 0;

/// The level of what has no place yet.
const NOWHERE: usize = 0;

/// How often a leader may be tried in vain, in processes moved.
const PATIENCE: usize = 10_000_000;

/// The numbers of a tree, made to be walked.
#[derive(Debug)]
pub(super) struct Tree {
    /// The pid of each element.
    pub(super) pids: Vec<i32>,
    /// Whose child each is to be; the root is nobody's, nor are the dead.
    pub(super) parents: Vec<Option<Element>>,
    /// The first that has the memory of each.
    pub(super) spaces: Vec<Element>,
    /// The session of each.
    pub(super) sessions: Vec<Session>,
    /// The leader of each session, but for the outer one.
    pub(super) leaders: Vec<Option<Element>>,
    /// The others of each session.
    members: Vec<Vec<Element>>,
    pub(super) children: Vec<Vec<Element>>,
    sids: Vec<i32>,
    living: usize,
}

impl Tree {
    pub(super) fn new(nodes: &[Node], outside: Outside) -> Self {
        let mut pids: Vec<i32> = nodes.iter().map(|node| node.pid).collect();
        let numbers: BTreeMap<i32, Element> =
            pids.iter().enumerate().map(|(element, &pid)| (pid, element)).collect();
        let mut parents: Vec<Option<Element>> =
            nodes.iter().map(|node| numbers.get(&node.parent?).copied()).collect();
        let space = |(own, node): (Element, &Node)| numbers.get(&node.space).map_or(own, |&is| is);
        let mut spaces: Vec<Element> = nodes.iter().enumerate().map(space).collect();

        let mut known = BTreeMap::from([(outside.sid, OUTSIDE)]);
        let (mut sids, mut leaders) = (vec![outside.sid], vec![None]);
        let mut sessions = Vec::new();
        for node in nodes {
            let session = *known.entry(node.sid).or_insert_with(|| {
                sids.push(node.sid);
                leaders.push(None);
                sids.len() - 1
            });
            sessions.push(session);
        }
        for session in OUTSIDE + 1..sids.len() {
            let leader = numbers.get(&sids[session]).copied().unwrap_or_else(|| {
                pids.push(sids[session]);
                sessions.push(session);
                parents.push(None);
                spaces.push(spaces.len());
                pids.len() - 1
            });
            leaders[session] = Some(leader);
        }
        let mut members = vec![Vec::new(); sids.len()];
        let mut children = vec![Vec::new(); pids.len()];
        for element in 0..pids.len() {
            if leaders[sessions[element]] != Some(element) {
                members[sessions[element]].push(element);
            }
            if let Some(parent) = parents[element] {
                children[parent].push(element);
            }
        }
        let living = nodes.len();
        Self { pids, parents, spaces, sessions, leaders, members, children, sids, living }
    }

    /// Whether it is a dead leader.
    pub(super) fn is_dead(&self, element: Element) -> bool {
        element >= self.living
    }

    /// The session that an element leads.
    pub(super) fn led_by(&self, element: Element) -> Option<Session> {
        let session = self.sessions[element];
        (self.leaders[session] == Some(element)).then_some(session)
    }
}

/// Finds, for each session, who is born into it, in order: siblings in theirs, wherever that can
/// be. `shares` tells who is best forked late.
pub(super) fn find(
    tree: &Tree,
    shares: &impl Fn(i32) -> bool,
) -> Result<Vec<Vec<Element>>, Impossible> {
    let count = tree.pids.len();
    let late = late(tree, shares);
    let mut all: Vec<Element> = (0..count).collect();
    // Whoever could be forked at once, the dead as late as possible.
    all.sort_by_key(|element| (*element != 0, tree.is_dead(*element), late[*element]));
    let mut ranks = vec![0; count];
    for (rank, &element) in all.iter().enumerate() {
        ranks[element] = rank;
    }
    if let Some(lines) = direct::find(tree, &ranks) {
        return Ok(lines);
    }
    let mut finder = Finder {
        tree,
        levels: vec![NOWHERE; count],
        ranks,
        seen: vec![0; count],
        seen_sessions: vec![0; tree.sids.len()],
        bound: vec![0; count],
        lines: vec![Vec::new(); tree.sids.len()],
        search: 0,
        wasted: 0,
    };
    finder.place(OUTSIDE, all).map_err(|element| Impossible::Session {
        pid: tree.pids[element],
        sid: tree.sids[tree.sessions[element]],
    })?;
    Ok(finder.lines)
}

/// Who is best forked late, and their younger siblings, so that these stay behind them.
fn late(tree: &Tree, shares: &impl Fn(i32) -> bool) -> Vec<bool> {
    let mut late = vec![false; tree.pids.len()];
    for children in &tree.children {
        let mut behind = false;
        for &child in children {
            behind |= shares(tree.pids[child]);
            late[child] = behind;
        }
    }
    late
}

struct Finder<'t> {
    tree: &'t Tree,
    /// Which part each has its place by, counted from the outermost.
    levels: Vec<usize>,
    /// The order in which elements are tried.
    ranks: Vec<usize>,
    /// The last search that came across each element, and each session.
    seen: Vec<usize>,
    seen_sessions: Vec<usize>,
    /// The last search in which each element was found not to be free.
    bound: Vec<usize>,
    lines: Vec<Vec<Element>>,
    search: usize,
    wasted: usize,
}

/// Elements that are to be in the line of one session, and in those that come
/// of it.
struct Part {
    session: Session,
    /// The leader of that.
    opener: Option<Element>,
    /// All of them; and others, if lent by the part before this one.
    elements: Vec<Element>,
    lent: bool,
    size: usize,
    /// How many have no place yet.
    open: usize,
    /// Who is looked at next, and whether anybody found a place in this round.
    next: usize,
    progress: bool,
}

impl Part {
    fn new(session: Session, elements: Vec<Element>, opener: Option<Element>) -> Self {
        let size = elements.len();
        let (lent, progress) = (false, false);
        Self { session, opener, elements, lent, size, open: size, next: 0, progress }
    }

    fn advance(&mut self, count: usize) {
        self.open -= count;
        self.progress = true;
    }

    fn take_back(&mut self, other: Self) {
        if other.lent {
            self.elements = other.elements;
        }
    }
}

impl Finder<'_> {
    /// Finds places for all of `elements` in the line of a session and in
    /// those that come of it, or says who has none.
    fn place(&mut self, session: Session, elements: Vec<Element>) -> Result<(), Element> {
        let mut parts = vec![Part::new(session, elements, None)];
        while let Some(part) = parts.last_mut() {
            if part.open == 0 {
                self.close(&mut parts);
            } else if let Some(&element) = part.elements.get(part.next) {
                part.next += 1;
                if self.levels[element] == NOWHERE && self.is_ready(element) {
                    self.place_next(element, &mut parts);
                }
            } else if std::mem::take(&mut part.progress) {
                part.next = 0;
            } else {
                self.give_up(&mut parts)?;
            }
        }
        Ok(())
    }

    /// Whether those have places who must be before it.
    fn is_ready(&self, element: Element) -> bool {
        // Everything is below the root.
        let root = (element != 0).then_some(0);
        let mut before = [self.tree.parents[element], root].into_iter().flatten();
        before.all(|before| self.levels[before] != NOWHERE)
    }

    /// Puts one that is ready at the end of the line, if it may be there. If it
    /// leads a session, all that has to do with that is to have its place after
    /// this.
    fn place_next(&mut self, element: Element, parts: &mut Vec<Part>) {
        let level = parts.len();
        let Some(part) = parts.last_mut() else { return };
        let Some(led) = self.tree.led_by(element) else {
            if self.tree.sessions[element] == part.session {
                self.levels[element] = level;
                self.lines[part.session].push(element);
                part.advance(1);
            }
            return;
        };
        if self.wasted > PATIENCE || self.waits_for_others(led) {
            return;
        }
        self.levels[element] = level;
        let Some(own) = self.own_part(part.session, led, element) else {
            self.levels[element] = NOWHERE;
            return;
        };
        let mut own = Part::new(led, own, Some(element));
        if own.size + 1 == part.open {
            // A deep tree is not copied for each of its levels.
            std::mem::swap(&mut own.elements, &mut part.elements);
            own.lent = true;
        }
        parts.push(own);
    }

    /// All that has to do with a leader has its place: it keeps its own.
    fn close(&mut self, parts: &mut Vec<Part>) {
        let Some(done) = parts.pop() else { return };
        if let (Some(leader), Some(part)) = (done.opener, parts.last_mut()) {
            self.lines[part.session].push(leader);
            part.advance(done.size + 1);
            part.take_back(done);
        }
    }

    /// Something that has to do with a leader has no place after it: it is put
    /// off. Without a leader that is an error.
    fn give_up(&mut self, parts: &mut Vec<Part>) -> Result<(), Element> {
        let level = parts.len();
        let Some(failed) = parts.pop() else { return Ok(()) };
        let Some((leader, part)) = failed.opener.zip(parts.last_mut()) else {
            let unplaced = |&&element: &&Element| self.levels[element] == NOWHERE;
            return failed.elements.iter().find(unplaced).map_or(Ok(()), |&element| Err(element));
        };
        for element in failed.elements.iter().copied().chain([leader]) {
            if self.levels[element] >= level || element == leader {
                self.levels[element] = NOWHERE;
                if let Some(led) = self.tree.led_by(element) {
                    self.lines[led].clear();
                }
            }
        }
        self.wasted += failed.size + 1;
        part.take_back(failed);
        Ok(())
    }

    /// Whether the parent of one of the session must get its place before the
    /// leader, as it can be in no line that comes of the session.
    fn waits_for_others(&self, session: Session) -> bool {
        self.tree.members[session].iter().any(|&member| {
            self.tree.parents[member].is_some_and(|parent| {
                self.levels[parent] == NOWHERE
                    && self.tree.led_by(parent).is_none()
                    && self.tree.sessions[parent] != session
            })
        })
    }

    /// Who is to have a place in a line that comes of `led`: all that hangs
    /// together with its members, and with the children of its leader as far
    /// as it is free. `None` if that has to do with the line of `session`.
    fn own_part(
        &mut self,
        session: Session,
        led: Session,
        leader: Element,
    ) -> Option<Vec<Element>> {
        let tree = self.tree;
        let mut own = Vec::new();
        self.search += 1;
        if !self.reach(session, &tree.members[led], &mut own) {
            return None;
        }
        for &child in &tree.children[leader] {
            if self.seen[child] == self.search {
                continue;
            }
            let len = own.len();
            if !self.reach(session, &[child], &mut own) {
                for element in own.drain(len..) {
                    self.bound[element] = self.search;
                }
            }
        }
        own.sort_unstable_by_key(|&element| self.ranks[element]);
        Some(own)
    }

    /// Adds to `found` all that hang together with `from` and have no place;
    /// says whether none of them is a member of `session`, or hangs together
    /// with one.
    fn reach(&mut self, session: Session, from: &[Element], found: &mut Vec<Element>) -> bool {
        let tree = self.tree;
        let mut next = found.len();
        let search = self.search;
        let Self { levels, seen, seen_sessions, bound, .. } = self;
        let mut free = true;
        let mut meet = |element: Element, found: &mut Vec<Element>| {
            let is_member = tree.sessions[element] == session && tree.led_by(element).is_none();
            let placed = levels[element] != NOWHERE;
            free &= placed || !(is_member || bound[element] == search);
            if !placed && std::mem::replace(&mut seen[element], search) != search {
                found.push(element);
            }
            free
        };
        if !from.iter().all(|&element| meet(element, found)) {
            return false;
        }
        while let Some(&element) = found.get(next) {
            next += 1;
            let own = tree.sessions[element];
            let mut family = tree.children[element].iter().copied().chain(tree.parents[element]);
            if !family.all(|near| meet(near, found)) {
                return false;
            }
            if seen_sessions[own] != search {
                let mut fellows = tree.members[own].iter().copied().chain(tree.leaders[own]);
                if !fellows.all(|near| meet(near, found)) {
                    return false;
                }
                seen_sessions[own] = search;
            }
        }
        true
    }
}
