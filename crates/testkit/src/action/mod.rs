//! What is done to a subject between its `ready` and its `go`.

mod faults;
mod session;

use std::fmt;
use std::path::Path;

pub use session::{Session, logs};

use crate::binaries::{Binaries, Missing};
use crate::checkpointer::Checkpointer;
use crate::failure::Failure;
use crate::subject::Subject;

/// One of the things that are done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Action {
    /// Nothing: the scenario must pass undisturbed.
    None,
    /// Dump, see that all is gone, restore, compare.
    DumpRestore,
    /// Dump with `-R`: the target goes on.
    LeaveRunning,
    /// Dump and restore, twice; the second time with what an odd caller hands down.
    Twice,
    /// Dumps killed at moments spread over their length: the target goes on each time.
    KilledDump,
    /// Restores killed at moments spread over their length: nothing stays.
    KilledRestore,
    /// Dumps that cannot succeed (full and read-only filesystems): the target goes on.
    FailedDump,
    /// A restore which finds a pid taken: refused, naming the holder, with nothing started.
    PidTaken,
    /// A dump that must be refused with the reason.
    Refused,
    /// Dump with one, restore with the other.
    Interop(Side, Side),
}

/// A corner of the interop square.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    /// Dormouse.
    Dormouse,
    /// CRIU.
    Criu,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dormouse => "dormouse",
            Self::Criu => "criu",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::DumpRestore => f.write_str("dump_restore"),
            Self::LeaveRunning => f.write_str("leave_running"),
            Self::Twice => f.write_str("twice"),
            Self::KilledDump => f.write_str("killed_dump"),
            Self::KilledRestore => f.write_str("killed_restore"),
            Self::FailedDump => f.write_str("failed_dump"),
            Self::PidTaken => f.write_str("pid_taken"),
            Self::Refused => f.write_str("refused"),
            Self::Interop(dump, restore) => write!(f, "interop::{dump}_to_{restore}"),
        }
    }
}

impl Side {
    /// Its binary.
    ///
    /// # Errors
    /// It is not there.
    pub fn of(self, binaries: &Binaries) -> Result<&Checkpointer, &Missing> {
        match self {
            Self::Dormouse => binaries.dormouse.as_ref(),
            Self::Criu => binaries.criu.as_ref(),
        }
    }
}

/// The checkpointers an action dumps and restores with.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// Dumps.
    pub dump: &'a Checkpointer,
    /// Restores.
    pub restore: &'a Checkpointer,
}

impl Action {
    /// The interop square.
    pub const SQUARE: [Self; 4] = [
        Self::Interop(Side::Dormouse, Side::Dormouse),
        Self::Interop(Side::Dormouse, Side::Criu),
        Self::Interop(Side::Criu, Side::Dormouse),
        Self::Interop(Side::Criu, Side::Criu),
    ];

    /// CRIU alone, which shows what it can and cannot do.
    pub const CRIU_ALONE: Self = Self::Interop(Side::Criu, Side::Criu);

    /// Images of one, restored by the other.
    pub const EXCHANGE: [Self; 2] =
        [Self::Interop(Side::Dormouse, Side::Criu), Self::Interop(Side::Criu, Side::Dormouse)];

    /// The checkpointers it needs; `None` if one is not there. [`Action::None`] needs none.
    #[must_use]
    pub fn pair(self, binaries: &Binaries) -> Option<Pair<'_>> {
        match self {
            Self::Interop(dump, restore) => {
                Some(Pair { dump: dump.of(binaries).ok()?, restore: restore.of(binaries).ok()? })
            }
            _ => binaries.under_test.as_ref().ok().map(|c| Pair { dump: c, restore: c }),
        }
    }

    /// Starts the subject, does the action, and judges.
    ///
    /// # Errors
    /// Whatever is not as it must be.
    pub fn run(self, subject: &Subject, binaries: &Binaries, dir: &Path) -> Result<(), Failure> {
        let mut session = Session::start(subject, &binaries.scenario, dir)?;
        let Some(pair) = self.pair(binaries) else { return session.judge() };
        match self {
            Self::None => {}
            Self::DumpRestore | Self::Interop(..) => session.cycle(pair)?,
            Self::LeaveRunning => session.dump_and_leave(pair)?,
            Self::Twice => {
                session.cycle(pair)?;
                let odd = pair.dump.called_oddly(&binaries.scenario);
                session.cycle(Pair { dump: &odd, restore: &odd })?;
            }
            Self::KilledDump => faults::killed_dump(&mut session, pair)?,
            Self::KilledRestore => faults::killed_restore(&mut session, pair)?,
            Self::FailedDump => faults::failed_dump(&mut session, pair)?,
            Self::PidTaken => faults::pid_taken(&mut session, pair)?,
            Self::Refused => faults::refused(&session, pair)?,
        }
        session.judge()
    }
}
