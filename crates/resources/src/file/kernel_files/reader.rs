//! What reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::{FdNum, HostPid};
use epoll_interest::kernel_memory::{Address, Btf, KernelMemory, OpenError, ReadError, Table};
use rustix::fs::{OFlags, Stat, fstat};

use super::anonymous::ShortName;
use super::eventfd::Counter;
use super::found::{Inode, KernelFile, KernelFileId, More, Nameless};
use super::layout::{FileMembers, Layout, LockMembers};
use super::own::Own;
use crate::file::FsMagic;
use crate::file::likeness::Places;
use crate::{Error, Result};

/// Reads them.
pub struct KernelFiles {
    pub(super) memory: KernelMemory,
    pub(super) layout: Layout,
    pub(super) places: Rc<Places>,
    /// The file systems that sockets and pipes are in, and what one there is like.
    pub(super) sockets: (Address, Stat),
    pub(super) pipes: (Address, Stat),
    /// The file system of files that have no inode of their own.
    anonymous: Address,
    /// What makes a file an eventfd.
    eventfds: Address,
    shows: BTreeMap<Address, bool>,
    mounts: BTreeMap<Address, i32>,
    /// File systems, by where they are.
    file_systems: BTreeMap<Address, FsMagic>,
    /// The inode that files share which have none of their own.
    pub(super) shared: BTreeMap<Address, Stat>,
}

impl std::fmt::Debug for KernelFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelFiles").finish_non_exhaustive()
    }
}

/// An fd table: where the kernel has the open files that are in it.
#[derive(Debug)]
pub struct KernelTable(Table);

impl KernelTable {
    /// The numbers that are in use, lowest first.
    pub fn numbers(&self) -> impl Iterator<Item = FdNum> {
        let open = (0..).zip(&self.0.files).filter(|(_, file)| **file != 0);
        open.map(|(number, _)| FdNum::from_raw(number))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("as much is read as members are asked for")
}

pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array(bytes, at))
}

pub(super) fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array(bytes, at))
}

impl KernelFiles {
    /// Whether it is worth while for so many descriptors: to find out where things
    /// are takes as long as to ask for two hundred.
    #[must_use]
    pub fn pays_for(descriptors: usize) -> bool {
        // Programs of tests have few, and are to go both ways.
        descriptors >= 200 || cfg!(debug_assertions) && descriptors.is_multiple_of(2)
    }

    /// `None` if the system does not let its memory be read, or what it says is
    /// not what `/proc` says.
    #[must_use]
    pub fn open() -> Option<Self> {
        let own = Own::new().ok()?;
        let places = |btf: &Btf<'_>| Places::new(btf, "sock", &[], None);
        let opened = KernelMemory::open(|btf| Ok((Layout::new(btf)?, places(btf)?)));
        let (memory, (layout, places)) = match opened {
            Ok(opened) => opened,
            Err(OpenError::TypeInformation(_) | OpenError::Btf(_) | OpenError::Program(_)) => {
                return None;
            }
        };
        let stat = |file: &OwnedFd| fstat(file).ok();
        let (sockets, pipes) = ((0, stat(&own.socket)?), (0, stat(&own.pipe)?));
        let mut files = Self {
            memory,
            layout,
            places: Rc::new(places),
            sockets,
            pipes,
            anonymous: 0,
            eventfds: 0,
            shows: BTreeMap::new(),
            mounts: BTreeMap::new(),
            file_systems: BTreeMap::new(),
            shared: BTreeMap::new(),
        };
        files.learn(&own).ok()?;
        let table = files.any_table(&PidFd::open(HostPid::of_self()).ok()?).ok()?;
        own.agrees(&mut files, &table).then_some(files)
    }

    /// Finds the file systems of sockets, of pipes, and of files that have no inode,
    /// and what makes eventfds.
    fn learn(&mut self, own: &Own) -> Result<(), ReadError> {
        let Layout { files, file, inode, .. } = self.layout;
        let own = [&own.socket, &own.pipe, &own.counter].map(AsFd::as_fd);
        let found = files.of(&mut self.memory, &own)?;
        let inodes = self.memory.words_behind(&found, file.inode)?;
        let devices = self.memory.words_behind(&inodes, inode.device)?;
        (self.sockets.0, self.pipes.0) = (devices[0], devices[1]);
        self.file_systems.insert(devices[0], FsMagic::SOCKET);
        self.file_systems.insert(devices[1], FsMagic::PIPE);
        self.anonymous = devices[2];
        self.file_systems.insert(devices[2], FsMagic::ANON_INODE);
        self.eventfds = self.memory.word(found[2] + file.operations as u64)?;
        Ok(())
    }

    /// The fd table of the task behind `pidfd`. Those that use it are `users`, and
    /// stand still; there is none if it has other users as well, who may put
    /// another file in the place of one that was read.
    ///
    /// # Errors
    /// Nothing is where it should be.
    pub fn table(&mut self, pidfd: &PidFd, users: usize) -> Result<Option<KernelTable>, ReadError> {
        let table = self.any_table(pidfd)?;
        Ok((table.0.users as usize == users).then_some(table))
    }

    /// The fd table of a task, whoever uses it.
    pub(super) fn any_table(&mut self, pidfd: &PidFd) -> Result<KernelTable, ReadError> {
        let Self { memory, layout, .. } = self;
        let task = layout.tasks.of(memory, pidfd.as_fd())?;
        Ok(KernelTable(layout.tasks.table(memory, task)?))
    }

    /// The open files that have some numbers of a table, which are in use.
    ///
    /// # Errors
    /// Nothing is where it should be.
    pub fn files(
        &mut self,
        KernelTable(table): &KernelTable,
        numbers: &[FdNum],
    ) -> Result<Vec<KernelFile>, ReadError> {
        let Layout { file: of_file, inode: of_inode, .. } = self.layout;
        let number = |fd: &FdNum| fd.as_raw() as usize;
        let all: Vec<Address> = numbers.iter().map(|fd| table.files[number(fd)]).collect();
        let files = self.memory.read(&all, of_file.span)?;
        let files: Vec<&[u8]> = files.chunks_exact(of_file.span).collect();
        let at_inodes: Vec<_> = files.iter().map(|file| word(file, of_file.inode)).collect();
        let inodes = self.memory.read(&at_inodes, of_inode.span)?;
        let inodes: Vec<&[u8]> = inodes.chunks_exact(of_inode.span).collect();
        let locked = self.locked(&at_inodes)?;
        self.learn_mounts(&files)?;
        self.learn_kinds(&files)?;
        let of: Vec<_> = inodes.iter().map(|inode| self.nameless(inode)).collect();
        let mut sockets = self.sockets_of(&files, &of)?.into_iter();
        let mut names = self.names_of(&files, &inodes)?.into_iter();
        let mut counters = self.counters_of(&files)?.into_iter();
        let found = numbers.iter().enumerate().map(|(index, fd)| {
            let (file, inode, of) = (files[index], inodes[index], of[index]);
            let mut flags = OFlags::from_bits_retain(half(file, of_file.flags)) - OFlags::CLOEXEC;
            if table.closes_on_exec(number(fd)) {
                flags |= OFlags::CLOEXEC;
            }
            let is_path = flags.contains(OFlags::PATH);
            let socket = if of == Nameless::Socket { sockets.next() } else { None };
            let name = if self.is_anonymous(inode) { names.next().flatten() } else { None };
            let counter = if self.is_eventfd(file) { counters.next() } else { None };
            // What a socket's kind has to add, nobody asks for.
            let shows = of != Nameless::Socket && self.shows[&word(file, of_file.operations)];
            let more = match counter {
                Some(counter) => More::Eventfd(counter),
                None if shows => More::Unknown,
                None => More::Nothing,
            };
            KernelFile {
                id: KernelFileId(all[index]),
                flags,
                position: word(file, of_file.position).cast_signed(),
                mount_id: self.mounts[&word(file, of_file.mount)],
                more,
                may_be_locked: locked.contains(&at_inodes[index]),
                has_owner: word(file, of_file.owner) != 0,
                inode: Inode {
                    at: (at_inodes[index], word(inode, of_inode.device)),
                    of,
                    mode: u16::from_ne_bytes(array(inode, of_inode.mode)).into(),
                    user: half(inode, of_inode.user),
                    group: half(inode, of_inode.group),
                    number: word(inode, of_inode.number),
                },
                name,
                socket: socket.filter(|_| !is_path),
            }
        });
        Ok(found.collect())
    }

    /// What tells the file behind a descriptor of this process from others.
    ///
    /// # Errors
    /// Nothing is where it should be.
    pub fn own(&mut self, file: BorrowedFd<'_>) -> Result<KernelFileId> {
        let Self { memory, layout, .. } = self;
        let found = layout.files.of(memory, &[file]).map_err(Error::KernelFiles)?;
        Ok(KernelFileId(found[0]))
    }

    /// The file system that a file is on, if that is known.
    #[must_use]
    pub fn file_system(&self, file: &KernelFile) -> Option<FsMagic> {
        self.file_systems.get(&file.inode.at.1).copied()
    }

    /// Notes the file system that a file is on.
    pub fn note(&mut self, file: &KernelFile, file_system: FsMagic) {
        self.file_systems.insert(file.inode.at.1, file_system);
    }

    /// Where options of sockets are.
    pub(crate) fn places(&self) -> Rc<Places> {
        Rc::clone(&self.places)
    }

    fn nameless(&self, inode: &[u8]) -> Nameless {
        match word(inode, self.layout.inode.device) {
            device if device == self.sockets.0 => Nameless::Socket,
            device if device == self.pipes.0 => Nameless::Pipe,
            _ => Nameless::No,
        }
    }

    fn is_anonymous(&self, inode: &[u8]) -> bool {
        word(inode, self.layout.inode.device) == self.anonymous
    }

    fn is_eventfd(&self, file: &[u8]) -> bool {
        word(file, self.layout.file.operations) == self.eventfds
    }

    /// Of those files that have no inode of their own.
    fn names_of(
        &mut self,
        files: &[&[u8]],
        inodes: &[&[u8]],
    ) -> Result<Vec<Option<ShortName>>, ReadError> {
        let all = files.iter().zip(inodes).filter(|(_, inode)| self.is_anonymous(inode));
        let dentries = all.map(|(file, _)| word(file, self.layout.file.dentry));
        self.names(&dentries.collect::<Vec<_>>())
    }

    /// Of those files that are eventfds.
    fn counters_of(&mut self, files: &[&[u8]]) -> Result<Vec<Counter>, ReadError> {
        let all = files.iter().filter(|file| self.is_eventfd(file));
        let contexts = all.map(|file| word(file, self.layout.file.private));
        self.counters(&contexts.collect::<Vec<_>>())
    }

    /// Those of the inodes that have locks. What an inode is given with the first stays with it, and that
    /// of most files without a name is one for all.
    fn locked(&mut self, inodes: &[Address]) -> Result<BTreeSet<Address>, ReadError> {
        let LockMembers { context, lists } = self.layout.locks;
        let inodes: Vec<_> = inodes.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let contexts = self.memory.words_behind(&inodes, context)?;
        let (inodes, contexts): (Vec<_>, Vec<_>) =
            inodes.into_iter().zip(contexts).filter(|&(_, context)| context != 0).unzip();
        let mut locked = BTreeSet::new();
        for list in lists {
            let first = self.memory.words_behind(&contexts, list)?;
            for ((inode, context), first) in inodes.iter().zip(&contexts).zip(first) {
                if first != context.wrapping_add(list as u64) {
                    locked.insert(*inode);
                }
            }
        }
        Ok(locked)
    }

    /// The numbers of mounts.
    fn learn_mounts(&mut self, files: &[&[u8]]) -> Result<(), ReadError> {
        let Layout { file: FileMembers { mount, .. }, of_mount, mount_id, .. } = self.layout;
        for file in files {
            let at = word(file, mount);
            if !self.mounts.contains_key(&at) {
                let whole = at.checked_sub(of_mount as u64).ok_or(ReadError::Fault)?;
                let id = self.memory.word(whole + mount_id as u64)? as u32;
                self.mounts.insert(at, id.cast_signed());
            }
        }
        Ok(())
    }

    /// Which kinds of files have something to tell in `fdinfo`.
    fn learn_kinds(&mut self, files: &[&[u8]]) -> Result<(), ReadError> {
        let Layout { file: FileMembers { operations, .. }, shows, .. } = self.layout;
        for file in files {
            let at = word(file, operations);
            if !self.shows.contains_key(&at) {
                let shows = self.memory.word(at + shows as u64)? != 0;
                self.shows.insert(at, shows);
            }
        }
        Ok(())
    }
}
