//! What can happen in a world, as values and as lines of text.

use std::fmt;
use std::ops::Range;

/// Files of a world that are no epolls.
pub const PLAIN: usize = 24;

/// All files of a world: plain ones, then epolls.
pub const FILES: usize = PLAIN + 4;

/// Numbers that files can be opened under, beside the one each has anyway.
pub const NUMBERS: usize = 6;

/// Who does something: the root, a child, a thread of the root with a table of its own, a process that
/// shares the root's table, and a child of the child.
pub const ACTORS: usize = 5;

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
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// What is done.
    pub verb: Verb,
    /// By whom, below [`ACTORS`].
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

/// Kinds of worlds: a multiple of all that [`super::file`] divides one by.
pub const KINDS: usize = 3 * 5 * 16;

/// All that happens in a world.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct History {
    /// Which files it has that not all worlds have, below [`KINDS`].
    pub kind: usize,
    /// Before the checkpoint.
    pub before: Vec<Op>,
    /// The last thing before it: files are lost.
    pub closes: Vec<Op>,
    /// After it, and before all is looked at.
    pub after: Vec<Op>,
}

/// All that can be found out at the end: what every epoll has to report, by whoever still has it, and
/// again when every file has been written to.
fn finale() -> impl Iterator<Item = Op> {
    let every = |verb, files: Range<usize>| {
        files.flat_map(move |file| {
            (0..ACTORS).map(move |actor| Op { verb, actor, file, data: 64, ..Op::NOTHING })
        })
    };
    let look = every(Verb::Wait, PLAIN..FILES);
    let looks = look.clone().chain(every(Verb::Write, 0..PLAIN)).chain(look.clone());
    looks.chain(every(Verb::Read, 0..PLAIN)).chain(look)
}

impl History {
    /// The operation with this number.
    pub(super) fn op(&self, index: usize) -> Option<&Op> {
        self.before.iter().chain(&self.closes).chain(&self.after).nth(index)
    }

    /// With all that is done in the end.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.after.extend(finale());
        self
    }

    /// Reads what [`fmt::Display`] writes; nothing if that is something else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (kind, text) = text.split_at(text.find('\n')?);
        let ops =
            |part: &str| part.split_terminator('\n').skip(1).map(Op::read).collect::<Option<_>>();
        let mut parts = text.split("--").map(ops);
        let kind = kind.parse().ok()?;
        let (before, closes, after) = (parts.next()??, parts.next()??, parts.next()??);
        Some(Self { kind, before, closes, after })
    }
}

impl Op {
    /// Loses the first file, which no world is without.
    pub const NOTHING: Self =
        Self { verb: Verb::Lose, actor: 0, file: 0, number: 0, events: 0, data: 0 };

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

// As the program reads them, to be tried again.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.verb, self.to_string().trim_end())
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |f: &mut fmt::Formatter<'_>, ops: &[Op]| ops.iter().try_for_each(|op| op.fmt(f));
        writeln!(f, "{}", self.kind)?;
        all(f, &self.before)?;
        f.write_str("--\n")?;
        all(f, &self.closes)?;
        f.write_str("--\n")?;
        all(f, &self.after)
    }
}
