//! Processes that do as they are told, one deed after the other, until each has the parent, session
//! and group that a scenario is about.

use crate::context::{until, until_forever};
use crate::sys::Area;
use crate::tree::session_leader_gone::place;
use crate::{Context, sys};

/// What an actor does. Actors are known by numbers; the root's is 0.
#[derive(Clone, Copy)]
pub(super) enum Deed {
    /// It forks this one.
    Fork(u8),
    /// It forks this one, which shares its fd table and directories.
    ForkSharing(u8),
    SetSid,
    /// It founds a group.
    Found,
    /// It joins the group that this one is in.
    Join(u8),
    Subreaper(bool),
    End,
    /// It asks for the status of this one, which has ended.
    Reap(u8),
    /// It stays until it is time, finds itself where it was, and waits for its children.
    Stay,
}

impl Deed {
    fn to_word(self) -> u64 {
        let (kind, number) = match self {
            Self::Fork(number) => (1, number),
            Self::ForkSharing(number) => (2, number),
            Self::SetSid => (3, 0),
            Self::Found => (4, 0),
            Self::Join(number) => (5, number),
            Self::Subreaper(is) => (6, is.into()),
            Self::End => (7, 0),
            Self::Reap(number) => (8, number),
            Self::Stay => (9, 0),
        };
        kind << 8 | u64::from(number)
    }

    fn from_word(word: u64) -> Self {
        let number = (word & 0xff) as u8;
        match word >> 8 {
            1 => Self::Fork(number),
            2 => Self::ForkSharing(number),
            3 => Self::SetSid,
            4 => Self::Found,
            5 => Self::Join(number),
            6 => Self::Subreaper(number != 0),
            7 => Self::End,
            8 => Self::Reap(number),
            _ => Self::Stay,
        }
    }
}

/// Shared by all: for each actor what it is told, its pid, and whether it has found itself where
/// it was.
#[derive(Clone, Copy)]
struct Board(Area);

impl Board {
    const ACTORS: usize = 64;

    fn word(actor: u8, column: usize) -> usize {
        assert!(usize::from(actor) < Self::ACTORS);
        (usize::from(actor) * 3 + column) * 8
    }

    fn told(self, actor: u8) -> u64 {
        self.0.read(Self::word(actor, 0))
    }

    fn tell(self, actor: u8, word: u64) {
        self.0.write(Self::word(actor, 0), word);
    }

    fn pid(self, actor: u8) -> i32 {
        self.0.read(Self::word(actor, 1)) as i32
    }

    fn set_pid(self, actor: u8, pid: i32) {
        self.0.write(Self::word(actor, 1), pid as u64);
    }

    fn checked(self, actor: u8) -> bool {
        self.0.read(Self::word(actor, 2)) != 0
    }

    fn set_checked(self, actor: u8) {
        self.0.write(Self::word(actor, 2), 1);
    }

    fn actors() -> impl Iterator<Item = u8> {
        (0..Self::ACTORS).map(|actor| actor as u8)
    }
}

/// Plays deeds, which leave nobody a zombie, and has everybody stay.
pub(super) fn play(cx: &Context, deeds: &[(u8, Deed)]) {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let board = Board(Area::map(4096, access, libc::MAP_SHARED, None));
    board.set_pid(0, sys::own_pid());
    let direct = |actor: u8, deed: Deed| {
        if actor == 0 {
            perform(cx, board, 0, deed);
        } else {
            board.tell(actor, deed.to_word());
            until("a deed to be done", || board.told(actor) == 0);
        }
    };
    for &(actor, deed) in deeds {
        direct(actor, deed);
    }
    for actor in Board::actors().skip(1).filter(|&actor| board.pid(actor) != 0) {
        board.tell(actor, Deed::Stay.to_word());
        cx.await_arrival(board.pid(actor));
    }
    let before = place();
    cx.ready_and_wait();
    part(board, 0, before);
}

/// The life of an actor other than the root.
fn act(cx: &Context, board: Board, actor: u8) {
    loop {
        until_forever(|| board.told(actor) != 0);
        let deed = Deed::from_word(board.told(actor));
        perform(cx, board, actor, deed);
        match deed {
            Deed::End => {
                board.set_pid(actor, 0);
                board.tell(actor, 0);
                return;
            }
            Deed::Stay => {
                let before = place();
                cx.arrive(sys::own_pid());
                until_forever(|| cx.gone());
                part(board, actor, before);
                return;
            }
            _ => board.tell(actor, 0),
        }
    }
}

fn perform(cx: &Context, board: Board, actor: u8, deed: Deed) {
    let sharing = libc::CLONE_FILES | libc::CLONE_FS;
    match deed {
        Deed::Fork(child) => fork(cx, board, child, 0),
        Deed::ForkSharing(child) => fork(cx, board, child, sharing),
        Deed::SetSid => drop(rustix::process::setsid().expect("setsid")),
        Deed::Found => rustix::process::setpgid(None, None).expect("setpgid"),
        Deed::Join(other) => {
            let pid = |raw| rustix::process::Pid::from_raw(raw);
            let group = rustix::process::getpgid(pid(board.pid(other))).expect("getpgid");
            rustix::process::setpgid(None, Some(group)).expect("setpgid");
        }
        // SAFETY: plain numbers.
        Deed::Subreaper(is) => drop(unsafe {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(is), 0, 0, 0)
        }),
        Deed::Reap(child) => {
            // Its number on the board went when it ended.
            let ended = sys::wait_status(-1);
            check_eq!(ended, Ok(0), "status of actor {child}, asked for by {actor}");
        }
        Deed::End | Deed::Stay => {}
    }
}

fn fork(cx: &Context, board: Board, child: u8, flags: i32) {
    board.set_pid(child, cx.fork_sharing(flags, |cx| act(cx, board, child)));
}

/// Who ends is gone from above its children: so all look where they are first.
fn part(board: Board, actor: u8, before: (i32, i32, i32)) {
    check_eq!(place(), before, "parent, session and group of actor {actor}");
    board.set_checked(actor);
    let all = || Board::actors().all(|actor| board.pid(actor) == 0 || board.checked(actor));
    until("everybody to have looked", all);
    loop {
        match sys::wait_status(-1) {
            Err(libc::ECHILD) => return,
            status => check_eq!(status, Ok(0), "status of a child of actor {actor}"),
        }
    }
}
