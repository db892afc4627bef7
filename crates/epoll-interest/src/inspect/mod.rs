//! The first service: every item of an epoll with its state, read without a
//! trace.
//!
//! No system call tells which items of an epoll are pending or which file an
//! item of an anonymous inode watches, except by consuming events or by adding
//! items. So this reads the kernel's own structures, where they say exactly
//! that: twice, and nobody may be at it in between, so that what was read while
//! something changed is never handed out. That no structure is misunderstood is
//! seen by an epoll of our own, which is held against `/proc/self/fdinfo`.

mod bpf;
mod btf;
mod direct_map;
mod layout;
mod listed;
mod memory;
mod numbers;
mod open_files;
mod own;
mod processors;
mod queues;
mod signals;
mod symbols;
mod tasks;
mod type_information;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use thiserror::Error;

pub use btf::{Bits, Btf, BtfError, Struct};
pub use direct_map::{DirectMap, FindError};
pub use listed::Listed;
pub use memory::{Address, KernelMemory, OpenError, ReadError};
pub use numbers::Numbers;
pub use open_files::OpenFiles;
pub(crate) use queues::Place;
pub use queues::SharedQueues;
pub use signals::SignalsKey;
pub use symbols::symbols;
pub use tasks::{Table, Tasks};
pub use type_information::TypeInformation;

use crate::event::FdNumber;
use crate::fdinfo;
use crate::interest::Interest;
use layout::Layout;
use own::Own;

/// How often a reading that something else disturbed is tried before giving
/// up. An epoll whose tasks are stopped is disturbed by wake-ups only.
const ATTEMPTS: usize = 64;

/// The identity of an open file description: equal for two descriptors exactly
/// if they share offset and flags, in whatever processes they are. Good as
/// long as the description is open anywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(Address);

impl FileKey {
    /// That of the `struct file` at an address, as [`KernelMemory`] finds it.
    #[must_use]
    pub const fn of_file(at: Address) -> Self {
        Self(at)
    }
}

impl fmt::Debug for FileKey {
    // A kernel address does not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(..)")
    }
}

/// What [`Inspector::get_events`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// The items and their state.
    pub interest: Interest<FileKey>,
    /// What fdinfo would say of each file.
    pub files: BTreeMap<FileKey, Listed>,
    /// How each item hangs on a wait queue.
    hooks: Vec<Address>,
}

/// Why an [`Inspector`] cannot work on this system.
#[derive(Debug, Error)]
pub enum SetUpError {
    /// Kernel memory cannot be read.
    #[error(transparent)]
    Memory(#[from] OpenError),
    /// No epoll of our own, to learn from and to hold against its fdinfo.
    #[error("cannot try it with an epoll of our own")]
    Epoll(#[source] io::Error),
    /// What was read of an epoll of our own is not what its fdinfo says.
    #[error("the kernel's structures are not where its type information puts them")]
    Layout,
}

/// Why an epoll could not be read.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The descriptor is something else.
    #[error("descriptor {0} is no epoll")]
    NotEpoll(FdNumber),
    /// Its fdinfo is not in the form the kernel is known to write.
    #[error("cannot parse the fdinfo of descriptor {0}")]
    Parse(FdNumber, #[source] fdinfo::ParseError),
    /// The reading program cannot be run any more.
    #[error("cannot read kernel memory")]
    Read(#[source] io::Error),
    /// The epoll never stood still long enough for two equal readings.
    #[error("the epoll at descriptor {0} never stood still")]
    Restless(FdNumber),
    /// So it is with a wait queue.
    #[error("a wait queue that files share never stood still")]
    RestlessQueue,
}

/// Reads interest lists. Setting one up costs some tens of milliseconds; after
/// that, reading costs some hundreds of nanoseconds an item.
///
/// It changes nothing: no event is consumed, no item touched, no waiter woken, no
/// lock taken.
pub struct Inspector {
    memory: KernelMemory,
    layout: Layout,
    /// `eventpoll_fops`: what makes a file an epoll.
    epoll_operations: Address,
}

impl Inspector {
    /// Learns the kernel's layout and loads the reading program.
    ///
    /// # Errors
    /// [`SetUpError`] says what the system lacks.
    pub fn new() -> Result<Self, SetUpError> {
        let (memory, layout) = KernelMemory::open(Layout::new)?;
        let mut inspector = Self { memory, layout, epoll_operations: 0 };
        let own = Own::new().map_err(SetUpError::Epoll)?;
        let found = inspector.learn(own.epoll.as_fd()).map_err(|error| match error {
            InspectError::Read(source) => OpenError::Program(source).into(),
            _ => SetUpError::Layout,
        })?;
        match own.agrees(&found).map_err(SetUpError::Epoll)? {
            true => Ok(inspector),
            false => Err(SetUpError::Layout),
        }
    }

    fn learn(&mut self, epoll: BorrowedFd<'_>) -> Result<Inspection, InspectError> {
        let [FileKey(file)] = self.file_keys(&[epoll])?[..] else {
            return Err(InspectError::Restless(number(epoll)));
        };
        self.epoll_operations =
            self.retry(epoll, |this| this.memory.word(file + this.layout.file_operations as u64))?;
        self.get_events(epoll)
    }

    /// Which open file descriptions the descriptors stand for, one key each.
    ///
    /// # Errors
    /// [`InspectError`]; of the descriptors given, all are open, so it is only
    /// this process' own table that can be restless.
    pub fn file_keys(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<FileKey>, InspectError> {
        let Some(&first) = fds.first() else { return Ok(Vec::new()) };
        let files = self.retry(first, |this| this.layout.files.of(&mut this.memory, fds))?;
        Ok(files.into_iter().map(FileKey).collect())
    }

    /// Every item of an epoll, with the open file description it watches and
    /// its state, and what its fdinfo would say. [`Interest::try_map`] puts the caller's identities in the
    /// place of the keys; a key that none of the caller's descriptors has, by
    /// [`file_keys`](Self::file_keys), is a file that only others hold.
    ///
    /// # Errors
    /// [`InspectError`]. On any of them the epoll is as it was.
    pub fn get_events(&mut self, epoll: BorrowedFd<'_>) -> Result<Inspection, InspectError> {
        let [FileKey(file)] = self.file_keys(&[epoll])?[..] else {
            return Err(InspectError::Restless(number(epoll)));
        };
        let layout = self.layout;
        let operations =
            self.retry(epoll, |this| this.memory.word(file + layout.file_operations as u64))?;
        if operations != self.epoll_operations {
            return Err(InspectError::NotEpoll(number(epoll)));
        }
        for _ in 0..ATTEMPTS {
            match walk::read(&mut self.memory, &layout, file) {
                Ok(Some(reading)) => return Ok(reading.into_inspection()),
                Ok(None) | Err(ReadError::Fault) => {}
                Err(ReadError::Run(source)) => return Err(InspectError::Read(source)),
            }
        }
        Err(InspectError::Restless(number(epoll)))
    }

    /// Whose signals those items wait for which have these indices, and watch
    /// signalfds: those of the process that added each, whoever has the epoll;
    /// nobody's if that process is gone. [`signals_of`](Self::signals_of) tells
    /// which process that is.
    ///
    /// # Errors
    /// [`InspectError`], also if an item has gone since it was found.
    pub fn signals_awaited(
        &mut self,
        epoll: BorrowedFd<'_>,
        found: &Inspection,
        items: &[usize],
    ) -> Result<Vec<Option<SignalsKey>>, InspectError> {
        let hooks: Vec<_> = items.iter().map(|&item| found.hooks[item]).collect();
        self.retry(epoll, |this| this.layout.signals.awaited(&mut this.memory, &hooks))
    }

    /// The wait queues that items on different files hang on, as two open files
    /// of one FIFO have one, in some epolls together.
    ///
    /// # Errors
    /// [`InspectError`], also if an item has gone since it was found.
    pub fn shared_queues(&mut self, found: &[&Inspection]) -> Result<SharedQueues, InspectError> {
        for _ in 0..ATTEMPTS {
            match self.layout.queues.shared(&mut self.memory, found) {
                Ok(Some(shared)) => return Ok(shared),
                Ok(None) | Err(ReadError::Fault) => {}
                Err(ReadError::Run(source)) => return Err(InspectError::Read(source)),
            }
        }
        Err(InspectError::RestlessQueue)
    }

    /// The signals of the process behind a pidfd.
    ///
    /// # Errors
    /// [`InspectError`], also if the process has been reaped.
    pub fn signals_of(&mut self, pidfd: BorrowedFd<'_>) -> Result<SignalsKey, InspectError> {
        let [FileKey(file)] = self.file_keys(&[pidfd])?[..] else {
            return Err(InspectError::Restless(number(pidfd)));
        };
        self.retry(pidfd, |this| this.layout.signals.of(&mut this.memory, file))
    }

    fn retry<T>(
        &mut self,
        fd: BorrowedFd<'_>,
        mut attempt: impl FnMut(&mut Self) -> Result<T, ReadError>,
    ) -> Result<T, InspectError> {
        for _ in 0..ATTEMPTS {
            match attempt(self) {
                Ok(value) => return Ok(value),
                Err(ReadError::Fault) => {}
                Err(ReadError::Run(source)) => return Err(InspectError::Read(source)),
            }
        }
        Err(InspectError::Restless(number(fd)))
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}

fn number(fd: BorrowedFd<'_>) -> FdNumber {
    FdNumber::from_raw(fd.as_raw_fd().unsigned_abs())
}
