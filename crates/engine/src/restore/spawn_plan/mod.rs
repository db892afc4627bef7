//! In which order, and by whom, the processes of a tree are forked.
//!
//! A process gets its session from the process that forks it, or makes one of
//! its own. So whoever forks it must be in that session then; and its parent
//! must be whoever forks it, or that one's parent (`CLONE_PARENT`), or else an
//! ancestor of it that adopts the process, when a *helper* that was forked
//! between them ends. Which ancestor adopts is up to us: it is made a subreaper
//! for a moment. Where the leader of a session is dead, a *stand-in* with its
//! pid makes the session and dies once it has served. Process groups whose
//! leader is dead get a stand-in likewise.
//!
//! [`lines`] finds out which session each process is to be born into, and in
//! what order, [`direct`] so for most trees; [`makers`] by whom, with as few helpers as it takes; [`groups`]
//! comes last. Any tree that the kernel can come to is come to.
//!
//! Processes that share their memory get it from whoever forks them: their
//! parent, or the first process that has it.
//!
//! Everything here is a function of the numbers in the images; nothing
//! touches the system.

mod direct;
mod groups;
mod lines;
mod makers;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use lines::Tree;

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
    /// A helper ends, its parent reaps it, and its children become those of
    /// the adopter.
    Adopt {
        /// The helper.
        helper: i32,
        /// Its parent.
        parent: i32,
        /// That, or an ancestor of it.
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
    /// So many processes need numbers for a while that there are not enough.
    #[error("no number is free for a helper that forks pid {pid}")]
    Numbers {
        /// The process.
        pid: i32,
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
/// first and every parent before its children; siblings are forked in the order that they have there,
/// but for those that were born into different sessions or adopted. `shares` tells whether a child
/// inherits memory of its parent; those that do not, nor have an elder sibling that does, come first among those
/// that could be forked at the same time. `spare` gives numbers that nobody has, for
/// helpers.
pub(crate) fn plan(
    nodes: &[Node],
    outside: Outside,
    shares: impl Fn(i32) -> bool,
    mut spare: impl Iterator<Item = i32>,
) -> Result<Vec<Step>, Impossible> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let tree = Tree::new(nodes, outside);
    let lines = lines::find(&tree, &shares)?;
    let mut steps = Vec::new();
    let stand_ins = makers::add(&tree, &lines, &mut spare, &mut steps)?;
    groups::add(nodes, outside, stand_ins, spare, &mut steps)?;
    Ok(steps)
}
