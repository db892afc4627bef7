//! Every file of the tree: decoded, then created, then filled.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use dormouse_image::ImageDir;
use dormouse_image::proto::files::FdType;
use dormouse_kernel::{FdNum, HostPid, NsPid};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::mqueue::Mqueue;
use super::{
    Connections, Control, File, FileId, FillRank, Notification, SignalItem, Stage, Terminal,
};
use crate::{Error, Result};

/// The number of a file that is known to exist: decoding hands it out and
/// fails if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileRef(pub(super) FileId);

impl FileRef {
    /// The number.
    #[must_use]
    pub const fn id(self) -> FileId {
        self.0
    }
}

/// Every file of a checkpoint, decoded and judged.
#[derive(Debug)]
pub struct Files {
    files: BTreeMap<FileId, File>,
    described: BTreeSet<FileId>,
    opened: BTreeSet<FileId>,
    links: BTreeSet<PathBuf>,
}

impl Files {
    pub(super) fn new(
        files: BTreeMap<FileId, File>,
        described: BTreeSet<FileId>,
        opened: BTreeSet<FileId>,
        links: BTreeSet<PathBuf>,
    ) -> Self {
        Self { files, described, opened, links }
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &File)> {
        self.files.iter().map(|(&id, file)| (id, file))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, file: FileRef) -> &File {
        self.files.get(&file.0).expect("a FileRef is handed out for a file that is there")
    }

    /// Items of epolls that tasks of the tree have to add by themselves, before
    /// their fd tables are filled, in this order. `holder` gives a process that
    /// has a file open.
    ///
    /// # Errors
    /// What cannot be about one of them.
    pub fn signal_items(
        &self,
        holder: impl Fn(FileId) -> Option<NsPid>,
    ) -> Result<Vec<SignalItem>, &'static str> {
        let signals = |file: FileRef| match self.get(file) {
            File::Signalfd(signalfd) => Some(signalfd.any_signal()),
            _ => None,
        };
        let mut items = Vec::new();
        for (&id, file) in &self.files {
            let File::Epoll(epoll) = file else { continue };
            let mut known = None;
            for item in epoll.signals(|file| signals(file).is_some()) {
                let signal =
                    signals(item.target()).ok_or("an epoll takes a file for a signalfd")?;
                if item.adder.is_none() && known.is_none() {
                    known = holder(id);
                }
                let adder = item.adder.or(known).ok_or("nobody has an epoll")?;
                let planned = item.plan(FileRef(id), adder, signal);
                items.push(planned.ok_or("an epoll has an item on a signalfd that cannot be")?);
            }
        }
        // Signals that make some fire are to find no others there.
        items.sort_by_key(|item| item.fired_by.is_none());
        Ok(items)
    }

    /// The tasks that files stand for, and which must be of the tree.
    pub fn tasks(&self) -> impl Iterator<Item = NsPid> {
        self.files.values().filter_map(|file| match file {
            File::Pidfd(pidfd) => pidfd.task(),
            _ => None,
        })
    }

    /// Those that are open file descriptions, and not just inodes that are
    /// mapped or executed.
    pub fn descriptions(&self) -> impl Iterator<Item = (FileId, &File)> {
        self.iter().filter(|(id, _)| self.described.contains(id))
    }

    /// The terminals that control sessions, by the session, each by a file that
    /// is open on it; a master controls as its slave does.
    #[must_use]
    pub fn controlling(&self) -> BTreeMap<NsPid, (FileRef, Control)> {
        let control = |(id, file): (_, &File)| {
            let control = file.as_terminal()?.control()?;
            Some((control.session, (FileRef(id), control)))
        };
        self.descriptions().filter_map(control).collect()
    }

    /// A file on a terminal whose other end is not among the images.
    #[must_use]
    pub fn inherited_terminal(&self) -> Option<FileRef> {
        let inherited = |file: &File| file.as_terminal().is_some_and(Terminal::is_inherited);
        self.descriptions().find(|(_, file)| inherited(file)).map(|(id, _)| FileRef(id))
    }

    /// Who is to be told of messages in queues.
    pub fn notifications(&self) -> impl Iterator<Item = &Notification> {
        let queues: BTreeMap<_, _> = self.queues().map(|file| (file.queue(), file)).collect();
        queues.into_values().filter_map(Mqueue::notification)
    }

    /// Whether a process can ask for it: `file` gives what is behind its
    /// descriptors.
    pub fn can_notify(
        &self,
        notification: &Notification,
        file: impl Fn(FdNum) -> Option<FileRef>,
    ) -> bool {
        let file = |fd| file(fd).map(|file| self.get(file));
        let queue = match file(notification.fd) {
            Some(File::Mqueue(queue)) => queue.notification() == Some(notification),
            _ => false,
        };
        let socket = notification.socket();
        queue && socket.is_none_or(|fd| matches!(file(fd), Some(File::Netlink(_))))
    }

    /// The message queues that were made are the tree's, and stay: to be called
    /// when it is about to run.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn publish_queues(&self) -> Result<()> {
        self.queues().try_for_each(Mqueue::publish)
    }

    fn queues(&self) -> impl Iterator<Item = &Mqueue> {
        self.files.values().filter_map(|file| match file {
            File::Mqueue(queue) => Some(queue),
            _ => None,
        })
    }

    /// Takes away the hard links that the dump made for files which had lost
    /// their name (`--link-remap`). After that the images cannot be restored
    /// again: to be called when the tree runs.
    ///
    /// # Errors
    /// One of them stays.
    pub fn remove_links(&self) -> Result<()> {
        for link in &self.links {
            match rustix::fs::unlink(link) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(source) => return Err(Error::kernel("unlink", link)(source)),
            }
        }
        Ok(())
    }

    /// Whether the file is needed as an open file description.
    pub(crate) fn is_described(&self, id: FileId) -> bool {
        self.described.contains(&id)
    }

    /// Whether the file's inode is needed for something else.
    pub(crate) fn is_opened(&self, id: FileId) -> bool {
        self.opened.contains(&id)
    }
}

/// Where the contents of shared memory objects come from, see
/// [`SaveShared`](super::SaveShared).
pub trait LoadShared {
    /// Fills `file`, which is `size` bytes of zeros, with what is stored under
    /// the number `shmid`.
    ///
    /// # Errors
    /// It cannot be read or written.
    fn load(&self, shmid: u32, file: BorrowedFd<'_>, size: u64) -> Result<()>;
}

/// A point in the course of a restore at which inodes that are kept at hand
/// are let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Milestone {
    /// All open file descriptions exist that are not about a process.
    Created,
    /// Everything that is mapped is mapped, with its contents.
    Mapped,
}

/// What the files of one kind keep at hand while they are created: inodes
/// that several of them share and that no path leads to.
pub(crate) trait Stash: Any + Default {
    /// Lets go of what is not needed any more.
    fn reached(&mut self, milestone: Milestone) -> Result<()>;
}

trait AnyStash: Any {
    fn reached(&mut self, milestone: Milestone) -> Result<()>;
}

impl<S: Stash> AnyStash for S {
    fn reached(&mut self, milestone: Milestone) -> Result<()> {
        Stash::reached(self, milestone)
    }
}

/// What rooms are given when they create files, and what creates them.
///
/// The order of a restore is: mappings and directories are opened and files
/// created, in any order; the fd tables are complete; then
/// [`CreateCx::finish`], when all that is mapped is mapped and filled.
pub struct CreateCx<'a> {
    files: &'a Files,
    /// The images, for contents that are too large to be kept.
    pub(crate) images: &'a ImageDir,
    /// Where the contents of memfds come from.
    pub shared: &'a dyn LoadShared,
    outer_terminal: Option<OwnedFd>,
    inherited: BTreeMap<String, OwnedFd>,
    stashes: BTreeMap<TypeId, Box<dyn AnyStash>>,
}

impl<'a> CreateCx<'a> {
    /// Creates `files`, which were decoded from `images`.
    #[must_use]
    pub fn new(files: &'a Files, images: &'a ImageDir, shared: &'a dyn LoadShared) -> Self {
        Self {
            files,
            images,
            shared,
            outer_terminal: None,
            inherited: BTreeMap::new(),
            stashes: BTreeMap::new(),
        }
    }

    /// All files.
    pub(crate) fn files(&self) -> &'a Files {
        self.files
    }

    /// With the terminal that stands for those whose other end is not among the
    /// images (`--shell-job`).
    #[must_use]
    pub fn with_outer_terminal(self, terminal: Option<OwnedFd>) -> Self {
        Self { outer_terminal: terminal, ..self }
    }

    /// With files that are handed over, by their names.
    #[must_use]
    pub fn with_inherited(self, files: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        Self { inherited: files.into_iter().collect(), ..self }
    }

    /// The file that was handed over under this name.
    pub(crate) fn inherited(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.inherited.get(name).map(AsFd::as_fd)
    }

    pub(crate) fn outer_terminal(&self) -> Option<BorrowedFd<'_>> {
        self.outer_terminal.as_ref().map(AsFd::as_fd)
    }

    /// What the files of one kind keep at hand.
    pub(crate) fn stash<S: Stash>(&mut self) -> &mut S {
        let stash: &mut dyn Any = self
            .stashes
            .entry(TypeId::of::<S>())
            .or_insert_with(|| Box::new(S::default()))
            .as_mut();
        stash.downcast_mut().expect("a stash is kept under its own type")
    }

    /// Opens the inode of a file for a mapping, with the access `flags` say
    /// (`O_RDONLY` or `O_RDWR`, and nothing else unless the mapping needs it).
    ///
    /// # Errors
    /// The file is not what it was, or the kernel refuses.
    pub fn open_for_mapping(&mut self, file: FileRef, flags: OFlags) -> Result<OwnedFd> {
        let inode = self.files.get(file).inode().expect("checked when it was decoded");
        inode.open(file.0, flags, self)
    }

    /// Opens the inode of a file with `O_PATH`: an executable, a working
    /// directory, a root.
    ///
    /// # Errors
    /// As for [`open_for_mapping`](Self::open_for_mapping).
    pub fn open_path(&mut self, file: FileRef) -> Result<OwnedFd> {
        self.open_for_mapping(file, OFlags::PATH)
    }

    /// Creates every open file description that needs no process of the tree,
    /// each once, in the order of their numbers. The ends of a pipe that nobody
    /// has are closed at the end.
    ///
    /// # Errors
    /// The first that cannot be created.
    pub fn create_all(&mut self) -> Result<CreatedFiles<'a>> {
        let (created, given) = (BTreeMap::new(), BTreeSet::new());
        let mut files = CreatedFiles { files: self.files, created, given };
        self.create_stage(Stage::Early, &mut files)?;
        self.reached(Milestone::Created)?;
        Ok(files)
    }

    /// Creates the others, when all processes and threads live.
    ///
    /// # Errors
    /// The first that cannot be created.
    pub fn create_living(&mut self, files: &mut CreatedFiles<'a>) -> Result<()> {
        self.create_stage(Stage::Living, files)
    }

    fn create_stage(&mut self, stage: Stage, files: &mut CreatedFiles<'a>) -> Result<()> {
        for (id, file) in self.files.descriptions() {
            if file.stage() != stage {
                continue;
            }
            let key = if self.inherited.is_empty() { None } else { file.inherit_key() };
            let made = match key.and_then(|key| self.inherited(&key)) {
                Some(inherited) => {
                    files.given.insert(id);
                    file.take_over(id, inherited)?
                }
                None => file.create(id, self)?,
            };
            files.created.insert(id, made);
        }
        Ok(())
    }

    /// Closes what was kept for mappings, and seals what is to be sealed.
    ///
    /// # Errors
    /// The kernel refuses a seal.
    pub fn finish(mut self) -> Result<()> {
        self.reached(Milestone::Mapped)
    }

    fn reached(&mut self, milestone: Milestone) -> Result<()> {
        self.stashes.values_mut().try_for_each(|stash| stash.reached(milestone))
    }
}

impl fmt::Debug for CreateCx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateCx").finish_non_exhaustive()
    }
}

/// Every open file description, created, in this process.
#[derive(Debug)]
pub struct CreatedFiles<'a> {
    files: &'a Files,
    created: BTreeMap<FileId, OwnedFd>,
    /// Those that were handed over, and not made.
    given: BTreeSet<FileId>,
}

impl<'a> CreatedFiles<'a> {
    /// The descriptor of a file that some fd table holds.
    #[must_use]
    pub fn get(&self, file: FileRef) -> BorrowedFd<'_> {
        self.created.get(&file.0).expect("a referenced description is created").as_fd()
    }

    /// Those TCP connections among them that were restored. All other files
    /// are from now on where they belong, and nowhere else.
    #[must_use]
    pub fn into_connections(self) -> Connections {
        let Self { files, created, given: _ } = self;
        let connections = created.into_iter().filter_map(|(id, socket)| {
            let reuse = files.get(FileRef(id)).as_connection()?;
            Some((socket, reuse))
        });
        Connections::new(connections)
    }

    /// A new open file description on the inode of one of them.
    ///
    /// # Errors
    /// What `open(2)` says; it does not wait.
    pub fn open_again(&self, file: FileRef, access: OFlags) -> Result<OwnedFd> {
        super::probe::reopen(self.get(file), access | OFlags::NONBLOCK)
            .map_err(Error::kernel("open", "/proc/self/fd"))
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, BorrowedFd<'_>)> {
        self.created.iter().map(|(&id, file)| (id, file.as_fd()))
    }

    /// Fills all files as far as `rank` goes. The ranks are to be called in
    /// their order, [`FillRank::Arm`] when every task and thread exists.
    /// `host_pid` finds the restored task that a pid of the images stands for.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn fill(&self, rank: FillRank, host_pid: &dyn Fn(NsPid) -> Option<HostPid>) -> Result<()> {
        let cx = FillCx { created: self };
        let with_file = |(id, kind)| (id, kind, self.get(FileRef(id)));
        let files: Vec<_> = self.files.descriptions().map(with_file).collect();
        let made = |(id, file, _): &&(FileId, &File, BorrowedFd<'_>)| {
            file.is_filled_anyway() || !self.given.contains(id)
        };
        let filled: Vec<_> = files.iter().filter(made).copied().collect();
        File::fill(rank, &filled, &cx)?;
        if rank == FillRank::Arm {
            for (_, kind, file) in files {
                kind.status().arm(kind.name(), file, host_pid)?;
            }
        }
        Ok(())
    }
}

/// What rooms are given when they fill files.
#[derive(Debug)]
pub struct FillCx<'a> {
    created: &'a CreatedFiles<'a>,
}

impl FillCx<'_> {
    /// Any other file.
    #[must_use]
    pub fn file(&self, file: FileRef) -> BorrowedFd<'_> {
        self.created.get(file)
    }

    /// Whether a file is of this kind.
    #[must_use]
    pub fn is(&self, kind: FdType, file: FileRef) -> bool {
        self.created.files.get(file).tag() == kind
    }
}
