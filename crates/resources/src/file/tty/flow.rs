//! Whether output to an end of a pseudo terminal is stopped.
//!
//! No system call tells by whom, so that is read from the kernel (`struct tty_struct`, `flow`), if
//! `poll(2)` leaves it open that it is at all.

use std::os::fd::{AsFd, BorrowedFd};

use dormouse_image::ImageName;
use dormouse_kernel::terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::create::open_slave;
use super::queue::Queue;
use super::{FileKind, Terminal};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// Whether what is written to an end goes anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flow {
    /// It does.
    #[default]
    Runs,
    /// The stop character was typed (^S).
    Stopped,
    /// Somebody has asked for that (`TCOOFF`), and no character lets it go on.
    Held,
}

impl Flow {
    /// What the kernel's two flags say.
    pub(super) const fn of(stopped: bool, held: bool) -> Self {
        match (stopped, held) {
            (false, _) => Self::Runs,
            (true, false) => Self::Stopped,
            (true, true) => Self::Held,
        }
    }

    /// As images have it.
    pub(super) const fn encode(self) -> Option<u32> {
        match self {
            Self::Runs => None,
            Self::Stopped => Some(1),
            Self::Held => Some(2),
        }
    }

    fn decode(raw: Option<u32>) -> Option<Self> {
        match raw {
            None => Some(Self::Runs),
            Some(1) => Some(Self::Stopped),
            Some(2) => Some(Self::Held),
            Some(_) => None,
        }
    }
}

/// Output of both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flows {
    pub(super) slave: Flow,
    pub(super) master: Flow,
    /// There was no room to show all that was typed. No restore can bring that about.
    pub(super) echoes: bool,
}

impl Flows {
    /// Judges what the image has of the master with this number.
    pub(super) fn decode(id: u32, slave: Option<u32>, master: Option<u32>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::TtyInfo, Terminal::NAME, id, reason);
        let no_way = || wrong("its output is stopped in no way there is");
        let slave = Flow::decode(slave).ok_or_else(no_way)?;
        // What a slave prints stops no master.
        let master = Flow::decode(master).filter(|&flow| flow != Flow::Stopped);
        Ok(Self { slave, master: master.ok_or_else(no_way)?, echoes: false })
    }

    /// Whether a restore can bring it about, with this in the queue of the slave: the line
    /// discipline takes no stop character when it is full.
    pub(super) fn fits(self, typed: &Queue) -> bool {
        self.master != Flow::Stopped && (self.slave != Flow::Stopped || !typed.is_full())
    }

    /// Holds both ends that are to be.
    pub(super) fn hold(self, master: BorrowedFd<'_>, slave: Option<BorrowedFd<'_>>) -> Result<()> {
        let hold = |end: BorrowedFd<'_>| {
            terminal::hold_output(end).map_err(Error::kernel("TCXONC", Terminal::NAME))
        };
        match slave {
            Some(slave) if self.slave == Flow::Held => hold(slave)?,
            None if self.slave == Flow::Held => {
                hold(open_slave(master, OFlags::RDWR)?.as_fd())?;
            }
            _ => {}
        }
        if self.master == Flow::Held { hold(master) } else { Ok(()) }
    }
}

/// Whether what is written to an end goes somewhere now. If not, it is stopped or full.
pub(super) fn runs(file: BorrowedFd<'_>) -> Result<bool> {
    is_told(file, PollFlags::OUT)
}

/// Whether a master in packet mode has not been told yet of what has happened to its slave.
pub(super) fn has_news(master: BorrowedFd<'_>) -> Result<bool> {
    is_told(master, PollFlags::PRI)
}

fn is_told(file: BorrowedFd<'_>, what: PollFlags) -> Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(file, what)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
        .map_err(Error::kernel("poll", Terminal::NAME))?;
    Ok(fds[0].revents().contains(what))
}
