//! Every file of the tree, decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dormouse_kernel::{FdNum, NsPid};
use rustix::io::Errno;

use super::mqueue::Mqueue;
use super::{
    Adder, Control, File, FileId, IoUring, Notification, SignalItem, Terminal, Userfaultfd,
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
    files: BTreeMap<FileId, Needed>,
    /// The number by which those with `O_ASYNC` are spoken of.
    pub(super) announced: BTreeMap<FileId, FdNum>,
    links: BTreeSet<PathBuf>,
}

/// A file, and what for.
#[derive(Debug)]
pub(super) struct Needed {
    pub(super) file: File,
    /// As an open file description.
    pub(super) described: bool,
    /// Its inode is opened for something else.
    pub(super) opened: bool,
}

impl Files {
    pub(super) fn new(
        files: BTreeMap<FileId, Needed>,
        announced: BTreeMap<FileId, FdNum>,
        links: BTreeSet<PathBuf>,
    ) -> Self {
        Self { files, announced, links }
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &File)> {
        self.files.iter().map(|(&id, needed)| (id, &needed.file))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, file: FileRef) -> &File {
        let needed = self.files.get(&file.0);
        &needed.expect("a FileRef is handed out for a file that is there").file
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
        let signal_of = |file: FileRef| match self.get(file) {
            File::Signalfd(signalfd) => Some(signalfd.any_signal()),
            _ => None,
        };
        let mut items = Vec::new();
        for (id, file) in self.iter() {
            let File::Epoll(epoll) = file else { continue };
            let mut known = None;
            for item in epoll.signals(|file| signal_of(file).is_some()) {
                let signal =
                    signal_of(item.target()).ok_or("an epoll takes a file for a signalfd")?;
                if item.adder.is_none() && known.is_none() {
                    known = holder(id).map(Adder::Process);
                }
                let adder = item.adder.or(known).ok_or("nobody has an epoll")?;
                let planned = item.plan(FileRef(id), adder, signal);
                items.push(planned.ok_or("an epoll has an item on a signalfd that cannot be")?);
            }
        }
        // Signals that make some fire are to find no others there.
        items.sort_by_key(|item| (item.fired_by.is_none(), item.seniority));
        Ok(items)
    }

    /// The rings that only one task of the tree can make, with the task.
    pub fn rings_of_tasks(&self) -> impl Iterator<Item = (FileRef, NsPid, &IoUring)> {
        self.rings().filter_map(|(id, ring)| Some((FileRef(id), ring.maker()?, ring)))
    }

    /// The tasks that rings are made by, or requests of theirs, which must be of the tree.
    pub fn tasks_of_rings(&self) -> impl Iterator<Item = NsPid> {
        self.rings().flat_map(|(_, ring)| ring.tasks())
    }

    pub(super) fn rings(&self) -> impl Iterator<Item = (FileId, &IoUring)> {
        self.descriptions().filter_map(|(id, file)| match file {
            File::IoUring(ring) => Some((id, ring)),
            _ => None,
        })
    }

    /// Userfaultfds that only one task of the tree can make, with the task, which must be of the tree.
    pub fn userfaultfds_of_tasks(&self) -> impl Iterator<Item = (FileRef, NsPid, &Userfaultfd)> {
        let all = self.userfaultfds();
        all.filter_map(|(id, file)| Some((FileRef(id), file.task()?, file)))
    }

    pub(super) fn userfaultfds(&self) -> impl Iterator<Item = (FileId, &Userfaultfd)> {
        self.descriptions().filter_map(|(id, file)| match file {
            File::Userfaultfd(file) => Some((id, file)),
            _ => None,
        })
    }

    /// The tasks that files stand for, and which must be of the tree.
    pub fn tasks(&self) -> impl Iterator<Item = NsPid> {
        self.iter().filter_map(|(_, file)| match file {
            File::Pidfd(pidfd) => pidfd.task(),
            _ => None,
        })
    }

    /// Those that are open file descriptions, and not just inodes that are
    /// mapped or executed.
    pub fn descriptions(&self) -> impl Iterator<Item = (FileId, &File)> {
        let described = self.files.iter().filter(|(_, needed)| needed.described);
        described.map(|(&id, needed)| (id, &needed.file))
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
        self.iter().filter_map(|(_, file)| match file {
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
        self.files.get(&id).is_some_and(|needed| needed.described)
    }

    /// Whether the file's inode is needed for something else.
    pub(crate) fn is_opened(&self, id: FileId) -> bool {
        self.files.get(&id).is_some_and(|needed| needed.opened)
    }
}
