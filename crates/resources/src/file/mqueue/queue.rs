//! A queue: what all that is open on it have in common.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dormouse_image::proto::files::mqueue::MqueueEntry;
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::clone::Shield;
use dormouse_kernel::mqueue::{self, Room};
use epoll_interest::kernel_memory::ReadError;
use rustix::fs::{Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat};
use rustix::io::Errno;
use tracing::warn;

use super::inside::{Found, Inside, Message};
use super::notification::Notification;
use crate::corrupt::corrupt;
use crate::error::Change;
use crate::file::create::{Milestone, Stash};
use crate::file::sink::SinkPart;
use crate::file::source::SourcePart;
use crate::file::status::as_user;
use crate::file::{CollectCx, FileId, InodeId, Probe};
use crate::{Error, Result};

/// A queue.
#[derive(Debug)]
pub(super) struct Queue {
    id: InodeId,
    name: CString,
    /// It has lost the name.
    unlinked: bool,
    /// Permissions.
    mode: u32,
    owner: (u32, u32),
    /// Who its memory is charged to.
    user: u32,
    room: Room,
    messages: Vec<Message>,
    notification: Option<Notification>,
    /// At the restore, all that are open on it.
    users: RefCell<Vec<(FileId, Opening)>>,
    /// At the restore, whether it is there.
    place: RefCell<Place>,
}

/// How an open file description is opened.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) flags: OFlags,
    /// The directory it is opened in, if not by `mq_open(2)`.
    pub(super) directory: Option<PathBuf>,
}

/// Whether a queue is there.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Unknown,
    /// It was there, or nobody can find it.
    Settled,
    Made(Made),
}

/// A queue that this restore has made. Dropped, its name goes.
#[derive(Debug)]
struct Made {
    file: OwnedFd,
    name: Option<CString>,
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Only after an error, which is the one to be reported.
            let _ = mqueue::unlink(name);
        }
    }
}

/// All permissions and their like.
const MODES: u32 = 0o7777;
/// The mode of a queue that a restore has made and that nobody may use yet: the
/// last bit means nothing to a queue, and is there in no other.
const UNFINISHED: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::SVTX);
/// `HARD_MSGMAX` and `HARD_MSGSIZEMAX`.
const MOST: Room = Room { messages: 1 << 16, message_len: 1 << 24 };
/// `NAME_MAX`.
const LONGEST_NAME: usize = 255;
/// How many other names are tried for one that is to lose it.
const ATTEMPTS: u32 = 1000;
/// What the kernel appends to the name of what has lost it.
const LOST: &[u8] = b" (deleted)";

/// The queues of a dump, by device and inode, and what reads them.
#[derive(Default)]
pub(super) struct Known {
    inside: Option<Inside>,
    queues: BTreeMap<(u64, u64), Rc<Queue>>,
}

impl Known {
    /// The queue that is open as `probe`.
    pub(super) fn queue(&mut self, cx: &CollectCx<'_>, probe: &Probe) -> Result<Rc<Queue>> {
        let key = (probe.stat.st_dev, probe.stat.st_ino);
        if let Some(queue) = self.queues.get(&key) {
            return Ok(Rc::clone(queue));
        }
        let inside = match &mut self.inside {
            Some(inside) => inside,
            None => {
                let opened = Inside::open().map_err(|error| {
                    warn!(%error, "message queues cannot be read");
                    unreadable(probe)
                })?;
                self.inside.insert(opened)
            }
        };
        let queue = Rc::new(Queue::collect(inside, cx, probe)?);
        self.queues.insert(key, Rc::clone(&queue));
        Ok(queue)
    }
}

fn refused(probe: &Probe, reason: &'static str, hint: &'static str) -> Error {
    let detail = probe.link.clone().into();
    Error::Unsupported { object: "a message queue", detail, reason, hint }
}

fn unreadable(probe: &Probe) -> Error {
    refused(
        probe,
        "its messages are in the kernel's memory, which cannot be read here",
        "run dormouse with CAP_BPF and CAP_PERFMON, or as root",
    )
}

/// Whether more files are open on it than those of the tree.
fn has_strangers(inside: &mut Inside, cx: &CollectCx<'_>, probe: &Probe) -> Result<bool> {
    /// Somebody may look at one just now.
    const PATIENCE: usize = 20;
    let key = |probe: &Probe| (probe.stat.st_dev, probe.stat.st_ino);
    let known = cx.probes.values().filter(|other| key(other) == key(probe)).count();
    let file = probe.duplicate()?;
    for _ in 0..PATIENCE {
        match inside.holders(file.as_fd()) {
            Ok(holders) if holders as usize <= known => return Ok(false),
            Ok(_) | Err(ReadError::Fault) => {}
            Err(ReadError::Run(_)) => return Err(unreadable(probe)),
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(true)
}

/// What a queue is called.
fn path(name: &CStr) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(name.to_bytes()))
}

impl Queue {
    fn collect(inside: &mut Inside, cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let stat = &probe.stat;
        let unlinked = stat.st_nlink == 0;
        let link = probe.link.as_os_str().as_bytes();
        let link = if unlinked { link.strip_suffix(LOST).unwrap_or(link) } else { link };
        let name = link.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let name = CString::new(name).expect("no name has a zero byte");
        if !unlinked {
            let found = match mqueue::open(&name, OFlags::RDONLY) {
                Ok(file) => Some(fstat(&file).map_err(Error::kernel("fstat", &probe.link))?),
                Err(Errno::NOENT) => None,
                Err(source) => return Err(Error::kernel("mq_open", path(&name))(source)),
            };
            let is_it = |found: Stat| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino);
            if !found.is_some_and(is_it) {
                return Err(refused(
                    probe,
                    "it is not what has this name for dormouse",
                    "run dormouse inside of the IPC namespace",
                ));
            }
        }
        let found = match inside.read(probe.duplicate()?.as_fd()) {
            Ok(Some(found)) => found,
            Ok(None) | Err(ReadError::Fault) => {
                return Err(refused(
                    probe,
                    "others use it without a pause",
                    "dump again when less is going on",
                ));
            }
            Err(ReadError::Run(_)) => return Err(unreadable(probe)),
        };
        if unlinked && has_strangers(inside, cx, probe)? {
            return Err(refused(
                probe,
                "it has lost its name, and a process that is not dumped has it open as well",
                "dump the tree that the other process belongs to as well",
            ));
        }
        let Found { room, user, messages, listener } = found;
        let notification = match listener {
            Some(listener) => Notification::collect(cx, probe, &listener)?,
            None => None,
        };
        Ok(Self {
            id: InodeId::from_raw(cx.fresh_inode()),
            name,
            unlinked,
            mode: stat.st_mode & MODES,
            owner: (stat.st_uid, stat.st_gid),
            user,
            room,
            messages,
            notification,
            users: RefCell::default(),
            place: RefCell::default(),
        })
    }

    pub(super) fn id(&self) -> InodeId {
        self.id
    }

    pub(super) fn notification(&self) -> Option<&Notification> {
        self.notification.as_ref()
    }

    fn encode(&self) -> MqueueEntry {
        let Self {
            id,
            name,
            unlinked,
            mode,
            owner,
            user,
            room,
            messages,
            notification,
            users: _,
            place: _,
        } = self;
        let len = |message: &Message| {
            u32::try_from(message.bytes.len()).expect("the kernel takes none as long")
        };
        MqueueEntry {
            id: id.as_raw(),
            name: name.to_bytes().to_vec(),
            unlinked: unlinked.then_some(true),
            mode: *mode,
            uid: owner.0,
            gid: owner.1,
            user: *user,
            max_messages: room.messages,
            max_len: room.message_len,
            priorities: messages.iter().map(|message| message.priority).collect(),
            lens: messages.iter().map(len).collect(),
            notify: notification.as_ref().map(Notification::encode),
        }
    }

    fn decode(entry: MqueueEntry, bytes: &[u8]) -> Result<Self> {
        let id = entry.id;
        let wrong = |reason| corrupt(ImageName::Mqueue, "message queue", id, reason);
        let name = CString::new(entry.name).ok().filter(|name| {
            let name = name.to_bytes();
            (1..=LONGEST_NAME).contains(&name.len()) && !name.contains(&b'/')
        });
        let name = name.ok_or_else(|| wrong("its name is none"))?;
        let room = Room { messages: entry.max_messages, message_len: entry.max_len };
        if !(1..=MOST.messages).contains(&room.messages)
            || !(1..=MOST.message_len).contains(&room.message_len)
        {
            return Err(wrong("no queue takes as much"));
        }
        if entry.mode & !MODES != 0 {
            return Err(wrong("its mode is none"));
        }
        if entry.lens.len() as u64 > room.messages
            || entry.lens.len() != entry.priorities.len()
            || entry.lens.iter().any(|&len| u64::from(len) > room.message_len)
            || entry.priorities.iter().any(|&priority| priority >= mqueue::PRIORITIES)
        {
            return Err(wrong("its messages are none that it takes"));
        }
        let mut rest = bytes;
        let mut messages = Vec::with_capacity(entry.lens.len());
        for (&len, &priority) in entry.lens.iter().zip(&entry.priorities) {
            let (bytes, after) = rest.split_at(len as usize);
            messages.push(Message { priority, bytes: bytes.to_vec() });
            rest = after;
        }
        let notification = match &entry.notify {
            None => None,
            Some(entry) => {
                let decoded = Notification::decode(entry);
                Some(decoded.ok_or_else(|| wrong("nobody can be told of messages like that"))?)
            }
        };
        Ok(Self {
            id: InodeId::from_raw(id),
            name,
            unlinked: entry.unlinked.unwrap_or(false),
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            user: entry.user,
            room,
            messages,
            notification,
            users: RefCell::default(),
            place: RefCell::default(),
        })
    }

    /// Opens the description `id`, which is `opening`; the first makes sure that
    /// there is such a queue.
    pub(super) fn open(&self, id: FileId, opening: &Opening, ready: &mut Ready) -> Result<OwnedFd> {
        if matches!(*self.place.borrow(), Place::Unknown) {
            let place = if self.unlinked { self.make_lost(ready)? } else { self.find_or_make()? };
            self.place.replace(place);
        }
        if self.unlinked {
            return Ok(ready.0.remove(&id).expect("all were opened, and each is created once"));
        }
        opening.open(&self.name)
    }

    fn find_or_make(&self) -> Result<Place> {
        let name = &self.name;
        let file = match mqueue::open(name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(Errno::NOENT) => return self.make(name.clone()).map(Place::Made),
            opened => opened.map_err(Error::kernel("mq_open", path(name)))?,
        };
        let mode = fstat(&file).map_err(Error::kernel("fstat", path(name)))?.st_mode & MODES;
        if mode == UNFINISHED.as_raw_mode() && mode != self.mode {
            // By a restore that never came to its end.
            mqueue::unlink(name).map_err(Error::kernel("mq_unlink", path(name)))?;
            return self.make(name.clone()).map(Place::Made);
        }
        let changed = |change| Error::Changed { path: path(name), change };
        if mode != self.mode {
            return Err(changed(Change::Mode { was: self.mode, is: mode }));
        }
        let room = mqueue::room(file.as_fd()).map_err(Error::kernel("mq_getattr", path(name)))?;
        if room != self.room {
            return Err(changed(Change::Room));
        }
        Ok(Place::Settled)
    }

    /// Makes a queue that has lost its name, and opens all that are open on it
    /// while it has one.
    fn make_lost(&self, ready: &mut Ready) -> Result<Place> {
        // A command that is killed leaves no name behind.
        let _shield = Shield::raise();
        let mut made = self.make_nameable()?;
        let name = made.name.clone().expect("it was just made");
        for (id, opening) in self.users.borrow().iter() {
            ready.0.insert(*id, opening.open(&name)?);
        }
        self.hand_over(&made.file)?;
        made.name = None;
        mqueue::unlink(&name).map_err(Error::kernel("mq_unlink", path(&name)))?;
        Ok(Place::Settled)
    }

    /// Makes a queue, under another name if its own is taken.
    fn make_nameable(&self) -> Result<Made> {
        let mut name = self.name.clone();
        for attempt in 1..=ATTEMPTS {
            match self.make(name) {
                Err(Error::Kernel { source: Errno::EXIST, .. }) => {}
                made => return made,
            }
            let other = format!("dormouse-{}-{attempt}", std::process::id());
            name = CString::new(other).expect("it has no zero byte");
        }
        self.make(name)
    }

    fn make(&self, name: CString) -> Result<Made> {
        let user = (self.user, self.user);
        let file = as_user(user, || mqueue::create(&name, UNFINISHED, self.room))
            .map_err(Error::kernel("mq_open", path(&name)))?;
        let made = Made { file, name: Some(name) };
        for Message { priority, bytes } in &self.messages {
            mqueue::send(made.file.as_fd(), bytes, *priority)
                .map_err(Error::kernel("mq_send", path(&self.name)))?;
        }
        Ok(made)
    }

    /// Gives a queue that was made its owner and mode.
    fn hand_over(&self, file: &OwnedFd) -> Result<()> {
        let failed = |call| Error::kernel(call, path(&self.name));
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        fchown(file, Some(uid), Some(gid)).map_err(failed("fchown"))?;
        fchmod(file, Mode::from_raw_mode(self.mode)).map_err(failed("fchmod"))
    }

    /// The queue is the tree's, and stays.
    pub(super) fn publish(&self) -> Result<()> {
        if let Place::Made(made) = &mut *self.place.borrow_mut() {
            self.hand_over(&made.file)?;
            made.name = None;
        }
        Ok(())
    }
}

impl Opening {
    fn open(&self, name: &CStr) -> Result<OwnedFd> {
        let Self { flags, directory } = self;
        let Some(directory) = directory else {
            return mqueue::open(name, *flags).map_err(Error::kernel("mq_open", path(name)));
        };
        let path = directory.join(OsStr::from_bytes(name.to_bytes()));
        rustix::fs::open(&path, *flags | OFlags::CLOEXEC, Mode::empty()).map_err(|source| {
            match source {
                Errno::NOENT | Errno::NOTDIR => Error::Changed { path, change: Change::Missing },
                source => Error::kernel("open", path)(source),
            }
        })
    }
}

/// Descriptions of queues that have lost their names, to be handed out.
#[derive(Debug, Default)]
pub(super) struct Ready(BTreeMap<FileId, OwnedFd>);

impl Stash for Ready {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// `mqueue.img`, to be written.
#[derive(Default)]
pub(super) struct Sink(pub(super) BTreeMap<InodeId, Rc<Queue>>);

impl SinkPart for Sink {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        let mut writer = dump.writer(ImageName::Mqueue)?;
        for queue in self.0.values() {
            writer.put(&queue.encode())?;
            for message in &queue.messages {
                writer.put_payload(&message.bytes)?;
            }
        }
        Ok(writer.finish()?)
    }
}

/// The image, read.
pub(super) struct Source(BTreeMap<InodeId, Rc<Queue>>);

impl Source {
    /// The queue that the file `id` is open on.
    pub(super) fn queue(
        &mut self,
        queue: InodeId,
        (id, opening): (FileId, Opening),
    ) -> Option<Rc<Queue>> {
        let queue = self.0.get(&queue)?;
        queue.users.borrow_mut().push((id, opening));
        Some(Rc::clone(queue))
    }
}

impl SourcePart for Source {
    fn open(dir: &ImageDir) -> Result<Self> {
        let mut queues = BTreeMap::new();
        if let Some(mut reader) = dir.reader(ImageName::Mqueue)? {
            while let Some(entry) = reader.next_message::<MqueueEntry>()? {
                let id = entry.id;
                let bytes = reader.payload(entry.lens.iter().copied().map(u64::from).sum())?;
                let queue = Rc::new(Queue::decode(entry, &bytes)?);
                if queues.insert(queue.id, queue).is_some() {
                    let reason = "two have this number";
                    return Err(corrupt(ImageName::Mqueue, "message queue", id, reason));
                }
            }
        }
        Ok(Self(queues))
    }

    fn end(self) -> Result<()> {
        match self.0.values().find(|queue| queue.users.borrow().is_empty()) {
            None => Ok(()),
            Some(queue) => {
                let reason = "no file is open on it";
                Err(corrupt(ImageName::Mqueue, "message queue", queue.id.as_raw(), reason))
            }
        }
    }
}
