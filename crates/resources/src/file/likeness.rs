//! Which options of a socket are what they are in a new one: told by the
//! kernel's memory, which is read in one go for many sockets, where some tens of
//! calls would be made for each.
//!
//! Truth from: the members of `struct sock`, and of what begins with it,
//! that the kernel's `getsockopt` answers from. Where these are the same bytes
//! as in a new socket, its answer is the same. An option that has no place here,
//! or whose place this kernel does not have, is asked for; so is one that was set
//! in a socket of dormouse's own, and did not show in its place.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_kernel::Errno;
use dormouse_kernel::socket::SocketOption;
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, ReadError, Struct};

use super::option_names::{SO_PASSRIGHTS, SO_RCVPRIORITY};
use super::probe::Duplicate;
use super::socket_options::Options;

const SOCKET: i32 = libc::SOL_SOCKET;

/// A structure, a member of it or of one in it, and its bytes.
pub(crate) type Place = (&'static str, &'static str, usize);

/// Names of options of a level, and where the kernel keeps what it answers.
pub(crate) type Row = (i32, &'static [i32], &'static [Place]);

const FLAGS: Place = ("sock", "__sk_common.skc_flags", 8);
const TIMESTAMPING: [Place; 3] = [FLAGS, ("sock", "sk_tsflags", 4), ("sock", "sk_bind_phc", 4)];
const SCM: [Place; 1] = [("sock", "sk_scm_recv_flags", 1)];
const REUSE: [Place; 1] = [("sock", "__sk_common.skc_reuse", 1)];

/// Options of every socket.
const OF_SOCKETS: &[Row] = &[
    (
        SOCKET,
        &[
            libc::SO_DONTROUTE,
            libc::SO_BROADCAST,
            libc::SO_KEEPALIVE,
            libc::SO_OOBINLINE,
            libc::SO_DEBUG,
            libc::SO_TIMESTAMP,
            libc::SO_TIMESTAMPNS,
            libc::SO_TIMESTAMP_NEW,
            libc::SO_TIMESTAMPNS_NEW,
            libc::SO_RXQ_OVFL,
            libc::SO_WIFI_STATUS,
            libc::SO_NOFCS,
            libc::SO_SELECT_ERR_QUEUE,
            libc::SO_ZEROCOPY,
            libc::SO_RCVMARK,
            SO_RCVPRIORITY,
            libc::SO_LOCK_FILTER,
        ],
        &[FLAGS],
    ),
    (SOCKET, &[libc::SO_TIMESTAMPING, libc::SO_TIMESTAMPING_NEW], &TIMESTAMPING),
    (SOCKET, &[libc::SO_LINGER], &[FLAGS, ("sock", "sk_lingertime", 8)]),
    (SOCKET, &[libc::SO_REUSEADDR, libc::SO_REUSEPORT], &REUSE),
    (SOCKET, &[libc::SO_PASSCRED, libc::SO_PASSSEC, libc::SO_PASSPIDFD, SO_PASSRIGHTS], &SCM),
    (SOCKET, &[libc::SO_PRIORITY], &[("sock", "sk_priority", 4)]),
    (SOCKET, &[libc::SO_RCVLOWAT], &[("sock", "sk_rcvlowat", 4)]),
    (SOCKET, &[libc::SO_MARK], &[("sock", "sk_mark", 4)]),
    (SOCKET, &[libc::SO_NO_CHECK], &[("sock", "sk_no_check_tx", 1)]),
    (SOCKET, &[libc::SO_BUSY_POLL], &[("sock", "sk_ll_usec", 4)]),
    (SOCKET, &[libc::SO_PREFER_BUSY_POLL], &[("sock", "sk_prefer_busy_poll", 1)]),
    (SOCKET, &[libc::SO_BUSY_POLL_BUDGET], &[("sock", "sk_busy_poll_budget", 2)]),
    (SOCKET, &[libc::SO_BUF_LOCK], &[("sock", "sk_userlocks", 1)]),
    (SOCKET, &[libc::SO_SNDBUF], &[("sock", "sk_sndbuf", 4)]),
    (SOCKET, &[libc::SO_RCVBUF], &[("sock", "sk_rcvbuf", 4)]),
    (SOCKET, &[libc::SO_SNDTIMEO], &[("sock", "sk_sndtimeo", 8)]),
    (SOCKET, &[libc::SO_RCVTIMEO], &[("sock", "sk_rcvtimeo", 8)]),
    (SOCKET, &[libc::SO_BINDTODEVICE], &[("sock", "__sk_common.skc_bound_dev_if", 4)]),
    (SOCKET, &[libc::SO_GET_FILTER], &[("sock", "sk_filter", 8)]),
    (SOCKET, &[libc::SO_PEEK_OFF], &[("sock", "sk_peek_off", 4)]),
    (SOCKET, &[libc::SO_MAX_PACING_RATE], &[("sock", "sk_max_pacing_rate", 8)]),
    (
        SOCKET,
        &[libc::SO_TXTIME],
        &[FLAGS, ("sock", "sk_clockid", 1), ("sock", "sk_txtime_deadline_mode", 1)],
    ),
    (SOCKET, &[libc::SO_RESERVE_MEM], &[("sock", "sk_reserved_mem", 4)]),
    (SOCKET, &[libc::SO_TXREHASH], &[("sock", "sk_txrehash", 1)]),
];

/// Values of which options take one or the other: numbers, indices of interfaces,
/// structures, names.
const TRIALS: &[&[u8]] = &[
    &1_i32.to_ne_bytes(),
    &0_i32.to_ne_bytes(),
    &7_i32.to_ne_bytes(),
    &3000_i32.to_ne_bytes(),
    &100_000_i32.to_ne_bytes(),
    &1_i32.to_be_bytes(),
    &[1, 0, 0, 0, 1, 0, 0, 0],
    &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    b"lo",
    b"reno",
    b"cubic",
];

/// The longest that is read at once.
const PIECE: usize = 256;

/// Where this kernel keeps what it answers.
#[derive(Debug)]
pub(crate) struct Places {
    /// Bytes of the structure that sockets are.
    len: usize,
    /// Where that points to another, and the bytes of it.
    beside: Option<(usize, usize)>,
    /// Ranges of both, one behind the other, for some options together.
    rows: Vec<Vec<Range<usize>>>,
    /// The row of an option.
    of: BTreeMap<SocketOption, usize>,
}

/// The offset of a member of a structure, or of one that is in it.
fn offset(within: &Struct<'_>, path: &'static str) -> Result<usize, BtfError> {
    match path.split_once('.') {
        None => within.offset(path),
        Some((first, rest)) => {
            let (at, inner) = within.member(first)?;
            Ok(at + offset(&inner, rest)?)
        }
    }
}

impl Places {
    /// Of sockets that are a `structure`, with the options that all have and
    /// those of `rows`. `beside` is a member that points to another structure,
    /// and its name.
    pub(crate) fn new(
        btf: &Btf<'_>,
        structure: &'static str,
        rows_of_kind: &[Row],
        beside: Option<(Place, &'static str)>,
    ) -> Result<Self, BtfError> {
        let len = btf.structure(structure)?.size();
        let all = || OF_SOCKETS.iter().chain(rows_of_kind);
        let mut structures = BTreeMap::new();
        for &(name, ..) in all().flat_map(|(_, _, places)| *places) {
            if !structures.contains_key(name) {
                structures.insert(name, btf.structure(name)?);
            }
        }
        let other = beside.map(|(_, other)| other);
        let (mut rows, mut of) = (Vec::new(), BTreeMap::new());
        for &(level, names, places) in all() {
            let ranges = places.iter().map(|&(structure, member, bytes)| {
                let start = offset(&structures[structure], member)?;
                let start = if Some(structure) == other { len + start } else { start };
                Ok::<_, BtfError>(start..start + bytes)
            });
            // Another kernel has them elsewhere, or has no such option.
            let Ok(ranges) = ranges.collect::<Result<Vec<_>, _>>() else { continue };
            let options = names.iter().map(|&name| SocketOption::new(level, name));
            of.extend(options.map(|option| (option, rows.len())));
            rows.push(ranges);
        }
        let beside = beside.map(|((structure, member, _), other)| {
            let at = btf.structure(structure)?.offset(member)?;
            Ok::<_, BtfError>((at, btf.structure(other)?.size()))
        });
        Ok(Self { len, beside: beside.transpose()?, rows, of })
    }

    /// The bytes of some sockets; `with_beside` is whether they have what is
    /// beside.
    ///
    /// # Errors
    /// As [`KernelMemory::read`].
    pub(crate) fn read(
        &self,
        memory: &mut KernelMemory,
        socks: &[Address],
        with_beside: bool,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut parts = vec![(socks.to_vec(), self.len)];
        if let Some((at, len)) = self.beside.filter(|_| with_beside) {
            parts.push((memory.words_behind(socks, at)?, len));
        }
        let mut all = vec![Vec::with_capacity(self.len); socks.len()];
        for (starts, len) in parts {
            for from in (0..len).step_by(PIECE) {
                let piece = PIECE.min(len - from);
                let at: Vec<_> = starts.iter().map(|start| start + from as u64).collect();
                let bytes = memory.read(&at, piece)?;
                for (all, bytes) in all.iter_mut().zip(bytes.chunks_exact(piece)) {
                    all.extend(bytes);
                }
            }
        }
        Ok(all)
    }

    /// Which options are the same in two sockets, by their memory.
    pub(crate) fn compare(&self, one: &[u8], other: &[u8]) -> Alike {
        let same = |range: &Range<usize>| {
            let parts = one.get(range.clone()).zip(other.get(range.clone()));
            parts.is_some_and(|(one, other)| one == other)
        };
        Alike(self.rows.iter().map(|ranges| ranges.iter().all(same)).collect())
    }

    /// The options that both sockets have, and that are not the same in them, by
    /// their memory.
    pub(crate) fn differing(&self, one: &[u8], other: &[u8]) -> impl Iterator<Item = SocketOption> {
        let Alike(alike) = self.compare(one, other);
        let len = one.len().min(other.len());
        let differ =
            move |row: usize| !alike[row] && self.rows[row].iter().all(|range| range.end <= len);
        self.of.iter().filter(move |&(_, &row)| differ(row)).map(|(&option, _)| option)
    }
}

/// Which options are the same in two sockets, by the rows of [`Places`].
#[derive(Clone, Debug)]
pub(crate) struct Alike(Vec<bool>);

type Answer = Result<Vec<u8>, Errno>;

/// What became of an attempt to set an option.
enum Tried {
    /// It is another now.
    Changed,
    /// Such a socket has no other.
    Fixed,
    /// No value that was tried makes it another.
    Refused,
}

/// A new socket, and what it has answered so far.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) socket: OwnedFd,
    answers: RefCell<BTreeMap<(SocketOption, usize), Answer>>,
    /// Options that show in their places, or that such a socket does not have, once
    /// that was tried.
    believed: OnceCell<BTreeSet<SocketOption>>,
}

impl Model {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, answers: RefCell::default(), believed: OnceCell::new() }
    }

    /// Sets each option of a socket of its own, as `make` makes them and `read`
    /// reads them, to see whether that shows in its place: only then the place is
    /// believed. It is done once.
    ///
    /// # Errors
    /// What `read` says.
    pub(crate) fn try_options<E>(
        &self,
        places: &Places,
        make: impl Fn() -> Option<OwnedFd>,
        mut read: impl FnMut(&[BorrowedFd<'_>]) -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<(), E> {
        if self.believed.get().is_some() {
            return Ok(());
        }
        let (mut believed, mut changed) = (BTreeSet::new(), Vec::new());
        for &option in places.of.keys() {
            let Some(socket) = make() else { continue };
            match self.change(option, &socket) {
                Tried::Fixed => _ = believed.insert(option),
                Tried::Changed => changed.push((option, socket)),
                Tried::Refused => {}
            }
        }
        let new = read(&[self.socket.as_fd()])?.remove(0);
        let all = read(&changed.iter().map(|(_, socket)| socket.as_fd()).collect::<Vec<_>>())?;
        let options = changed.iter().map(|&(option, _)| option);
        let shown = options.zip(all).filter(|(option, bytes)| {
            let Alike(alike) = places.compare(bytes, &new);
            !alike[places.of[option]]
        });
        believed.extend(shown.map(|(option, _)| option));
        // Nobody else sets it.
        let _ = self.believed.set(believed);
        Ok(())
    }

    /// Sets an option to what it is not in this one.
    fn change(&self, option: SocketOption, socket: &OwnedFd) -> Tried {
        if option == SocketOption::of_socket(libc::SO_GET_FILTER) {
            const ALL: [[u8; 8]; 1] = [[6, 0, 0, 0, 0xff, 0xff, 0, 0]];
            let attach = SocketOption::of_socket(libc::SO_ATTACH_FILTER);
            return attach.set_filter(socket, &ALL).map_or(Tried::Refused, |()| Tried::Changed);
        }
        let (mut was, mut is) = ([0; 64], [0; 64]);
        let was = self.answer(option, &mut was).map(|len| &was[..len]);
        if was == Err(Errno::NOPROTOOPT) {
            return Tried::Fixed;
        }
        let mut tried = Tried::Refused;
        for value in TRIALS {
            match option.set_bytes(socket, value) {
                Err(Errno::NOPROTOOPT | Errno::OPNOTSUPP) => tried = Tried::Fixed,
                Ok(()) if option.get_into(socket, &mut is).map(|len| &is[..len]) != was => {
                    return Tried::Changed;
                }
                _ => {}
            }
        }
        tried
    }

    /// What an option of [`SOCKET`] is, that is a number.
    pub(crate) fn number(&self, name: i32) -> Option<i32> {
        let mut value = [0; 4];
        let len = self.answer(SocketOption::of_socket(name), &mut value).ok()?;
        (len == 4).then_some(i32::from_ne_bytes(value))
    }

    fn answer(&self, option: SocketOption, value: &mut [u8]) -> Result<usize, Errno> {
        let mut answers = self.answers.borrow_mut();
        let answer = answers.entry((option, value.len())).or_insert_with(|| {
            let mut value = vec![0; value.len()];
            let len = option.get_into(&self.socket, &mut value)?;
            value.truncate(len);
            Ok(value)
        });
        let answer = answer.as_ref().map_err(|&error| error)?;
        value[..answer.len()].copy_from_slice(answer);
        Ok(answer.len())
    }
}

/// A socket, for when it has to be asked.
pub(crate) trait Asked {
    /// A descriptor of this process.
    fn file(&self) -> Result<BorrowedFd<'_>, Errno>;
}

impl Asked for &Duplicate<'_> {
    fn file(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.get().map_err(|error| error.errno().unwrap_or(Errno::BADF))
    }
}

impl Asked for BorrowedFd<'_> {
    fn file(&self) -> Result<BorrowedFd<'_>, Errno> {
        Ok(*self)
    }
}

/// The options of a socket, asked for only where a new one's may be others.
pub(crate) struct Known<'a, A> {
    pub(crate) socket: A,
    pub(crate) model: &'a Model,
    /// If its memory was compared.
    pub(crate) alike: Option<(&'a Places, &'a Alike)>,
}

impl<A> Known<'_, A> {
    pub(crate) fn is_as_new(&self, option: SocketOption) -> bool {
        self.alike.is_some_and(|(places, Alike(alike))| {
            self.model.believed.get().is_some_and(|believed| believed.contains(&option))
                && places.of.get(&option).is_some_and(|&row| alike[row])
        })
    }
}

impl Options for &Model {
    fn get_into(&self, option: SocketOption, value: &mut [u8]) -> Result<usize, Errno> {
        self.answer(option, value)
    }

    fn filter(&self) -> Result<Vec<[u8; 8]>, Errno> {
        SocketOption::filter(&self.socket)
    }
}

impl<A: Asked> Options for &Known<'_, A> {
    fn get_into(&self, option: SocketOption, value: &mut [u8]) -> Result<usize, Errno> {
        match self.is_as_new(option) {
            true => self.model.answer(option, value),
            false => option.get_into(self.socket.file()?, value),
        }
    }

    fn filter(&self) -> Result<Vec<[u8; 8]>, Errno> {
        match self.is_as_new(SocketOption::of_socket(libc::SO_GET_FILTER)) {
            true => Ok(Vec::new()),
            false => SocketOption::filter(self.socket.file()?),
        }
    }
}

/// All options that have a place, with those of `rows`.
#[cfg(test)]
pub(crate) fn options(rows: &[Row]) -> impl Iterator<Item = SocketOption> {
    OF_SOCKETS
        .iter()
        .chain(rows)
        .flat_map(|(level, names, _)| names.iter().map(|&name| SocketOption::new(*level, name)))
}
