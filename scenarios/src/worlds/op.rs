//! What can happen in a world, as values and as lines of text.

use std::fmt;

/// Files of a world that are no epolls.
pub const PLAIN: usize = 16;

/// All files of a world: plain ones, then epolls.
pub const FILES: usize = PLAIN + 4;

/// Numbers that files can be opened under, beside the one each has anyway.
pub const NUMBERS: usize = 6;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Makes `number` stand for `file`, whatever it was before.
    Open,
    /// Closes `number`.
    Close,
    /// Closes the number that `file` has in the actor's table anyway.
    Lose,
    /// `EPOLL_CTL_ADD` of `number` to the epoll `file`.
    Add,
    /// `EPOLL_CTL_MOD`.
    Modify,
    /// `EPOLL_CTL_DEL`.
    Delete,
    /// `epoll_wait` of the epoll `file`, for at most `data` events.
    Wait,
    /// Writes eight bytes to `file`.
    Write,
    /// Reads eight bytes from it.
    Read,
    /// Sends a descriptor of `file` into the world's mail.
    Send,
    /// Takes the next out of it, and makes `number` stand for that.
    Receive,
}

impl Verb {
    const ALL: [Self; 11] = [
        Self::Open,
        Self::Close,
        Self::Lose,
        Self::Add,
        Self::Modify,
        Self::Delete,
        Self::Wait,
        Self::Write,
        Self::Read,
        Self::Send,
        Self::Receive,
    ];
}

/// One operation, with what not every verb looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// What is done.
    pub verb: Verb,
    /// By whom: the root, the child or the thread.
    pub actor: usize,
    /// To which file, below [`FILES`].
    pub file: usize,
    /// By which number, below [`NUMBERS`].
    pub number: usize,
    /// An item's mask.
    pub events: u32,
    /// An item's data, or how many events are taken.
    pub data: u64,
}

/// All that happens in a world.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// Before the checkpoint.
    pub before: Vec<Op>,
    /// The last thing before it: files are lost.
    pub closes: Vec<Op>,
    /// After it.
    pub after: Vec<Op>,
}

impl History {
    /// The operation with this number.
    pub(super) fn op(&self, index: usize) -> Option<&Op> {
        self.before.iter().chain(&self.closes).chain(&self.after).nth(index)
    }

    /// Reads what [`fmt::Display`] writes; nothing if that is something else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts =
            text.split("--\n").map(|part| part.lines().map(Op::read).collect::<Option<_>>());
        let history =
            Self { before: parts.next()??, closes: parts.next()??, after: parts.next()?? };
        Some(history)
    }
}

impl Op {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ').map(|word| word.parse::<u64>().ok());
        let mut next = || words.next().flatten();
        Some(Self {
            verb: *Verb::ALL.get(usize::try_from(next()?).ok()?)?,
            actor: usize::try_from(next()?).ok()?,
            file: usize::try_from(next()?).ok()?,
            number: usize::try_from(next()?).ok()?,
            events: u32::try_from(next()?).ok()?,
            data: next()?,
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, actor, file, number, events, data } = self;
        writeln!(f, "{} {actor} {file} {number} {events} {data}", *verb as usize)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |f: &mut fmt::Formatter<'_>, ops: &[Op]| ops.iter().try_for_each(|op| op.fmt(f));
        all(f, &self.before)?;
        f.write_str("--\n")?;
        all(f, &self.closes)?;
        f.write_str("--\n")?;
        all(f, &self.after)
    }
}
