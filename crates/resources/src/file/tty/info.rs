//! One end of a terminal, which many files may be open on: `tty-info.img`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dormouse_image::proto::files::tty::{TtyDataEntry, TtyInfoEntry, TtyPtyEntry, TtyType};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::terminal;
use dormouse_kernel::{DeviceId, NsPid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use super::driver::{self, Driver};
use super::flow::{self, Flows};
use super::line::Line;
use super::masters::{DISCIPLINE, NEWS, Problem, masters, refused};
use super::peek::Queues;
use super::queue::Queue;
use super::{Control, FileKind, Terminal};
use crate::corrupt::corrupt;
use crate::file::sink::SinkPart;
use crate::file::source::SourcePart;
use crate::file::{CollectCx, Probe};
use crate::{Error, Result};

/// The number of an end in images. CRIU tells by it which ends belong
/// together: twice the number of the pseudo terminal, one more for a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InfoId(pub(super) u32);

/// One end.
#[derive(Debug)]
pub(super) struct Info {
    pub(super) id: InfoId,
    pub(super) driver: Driver,
    /// The device; of a master, that of its slave.
    device: DeviceId,
    /// Where its inode is.
    file_system: DeviceId,
    owner: Option<(u32, u32)>,
    /// Whoever restores hands it over (`--external`).
    pub(super) external: bool,
    pub(super) locked: bool,
    pub(super) exclusive: bool,
    pub(super) packet: bool,
    /// Of a master: slaves were open, and none is any more.
    pub(super) closed: bool,
    /// Of a master: owner, group and mode of the slave's inode.
    pub(super) slave: Option<(u32, u32, u32)>,
    pub(super) control: Option<Control>,
    /// `None`: it has hung up.
    pub(super) line: Option<Line>,
    /// At the restore, what both ends share.
    pub(super) pty: Rc<Pty>,
}

/// What is known of a pseudo terminal as a whole.
#[derive(Debug, Default)]
pub(super) struct Pty {
    /// Path and flags its master is opened with, if that is in the tree.
    pub(super) master: RefCell<Option<(PathBuf, OFlags)>>,
    /// What its slave can read, and what its master can.
    pub(super) queues: RefCell<Queues>,
    /// Whether output of either is stopped.
    pub(super) flows: Cell<Flows>,
    /// At the dump, why it cannot be saved.
    pub(super) problem: Cell<Option<Problem>>,
}

impl Info {
    pub(super) fn is_hung_up(&self) -> bool {
        self.line.is_none()
    }

    pub(super) fn device_id(&self) -> DeviceId {
        self.device
    }

    /// The number of a pseudo terminal.
    pub(super) fn index(&self) -> u32 {
        driver::index(self.device)
    }

    pub(super) fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// Notes the master of the pseudo terminal, of which there is one.
    pub(super) fn pty_has_master(&self, path: &Path, flags: OFlags) -> bool {
        self.pty.master.borrow_mut().replace((path.to_owned(), flags)).is_none()
    }

    /// How the master of the pseudo terminal is opened.
    pub(super) fn master(&self) -> Option<(PathBuf, OFlags)> {
        self.pty.master.borrow().clone()
    }

    pub(super) fn is_inherited(&self) -> bool {
        self.driver == Driver::Slave
            && !self.external
            && !self.is_hung_up()
            && self.pty.master.borrow().is_none()
    }

    /// What the command line calls it.
    pub(super) fn key(&self) -> String {
        key(self.rdev(), self.file_system)
    }

    /// The device as `stat(2)` has it.
    fn rdev(&self) -> DeviceId {
        match self.driver {
            Driver::Master => DeviceId { major: 5, minor: 2 },
            Driver::Controlling => DeviceId { major: 5, minor: 0 },
            _ => self.device,
        }
    }
}

/// The terminals of a dump.
#[derive(Default)]
pub(super) struct Collected {
    infos: BTreeMap<Key, Rc<Info>>,
    /// The masters of the tree, by their numbers; known with the first
    /// terminal.
    masters: Option<BTreeMap<u32, Rc<Pty>>>,
    /// How many ends have had to be numbered some other way than CRIU's.
    others: u32,
}

/// What tells ends apart: kind, device, and whether it has hung up, by the
/// inode.
type Key = (Driver, DeviceId, Option<u64>);

impl Collected {
    /// The end that `probe` is open on, as `file` as well; and of `/dev/tty`
    /// the terminal behind it.
    pub(super) fn info(
        cx: &CollectCx<'_>,
        probe: &Probe,
        file: BorrowedFd<'_>,
    ) -> Result<(Rc<Info>, Option<DeviceId>)> {
        let driver = Driver::of(probe.device()).expect("a terminal was claimed");
        let failed = |call| Error::kernel(call, &probe.link);
        let hung_up = match terminal::termios(file) {
            Err(Errno::IO) => true,
            read => read.map(|_| false).map_err(failed("TCGETS2"))?,
        };
        let (device, real) = match driver {
            Driver::Master => {
                (driver::slave(terminal::index(file).map_err(failed("TIOCGPTN"))?), None)
            }
            Driver::Controlling if hung_up => (probe.device(), None),
            Driver::Controlling => {
                let real = terminal::real_device(file).map_err(failed("TIOCGDEV"))?;
                (real, Some(real))
            }
            _ => (probe.device(), None),
        };
        let key = (driver, device, hung_up.then_some(probe.stat.st_ino));
        let mut this = cx.part::<Self>();
        if let Some(info) = this.infos.get(&key) {
            return Ok((Rc::clone(info), real));
        }
        let masters = match &this.masters {
            Some(masters) => masters,
            None => this.masters.insert(masters(cx)?),
        };
        let pty = driver.is_pty().then(|| masters.get(&driver::index(device))).flatten();
        let pty = pty.map(Rc::clone).unwrap_or_default();
        let file_system = DeviceId::from_stat(probe.stat.st_dev);
        let external = cx.is_external(&self::key(probe.device(), file_system));
        let id = this.number(driver, device, hung_up || external);
        drop(this);
        let kind = (id, driver, device, external);
        let info = Rc::new(Info::collect(cx, probe, file, kind, hung_up, pty)?);
        if info.is_inherited() && !cx.options.shell_job {
            return Err(Error::Unsupported {
                object: "a terminal",
                detail: probe.link.clone().into(),
                reason: "its other end is outside of the tree",
                hint: "use --shell-job to have the program come back on the terminal that it is \
                       restored from, or dump the process that holds the other end with it",
            });
        }
        cx.part::<Self>().infos.insert(key, Rc::clone(&info));
        Ok((info, real))
    }

    fn number(&mut self, driver: Driver, device: DeviceId, hung_up: bool) -> InfoId {
        /// Beyond all that CRIU uses.
        const OTHERS: u32 = 1 << 16;
        let number = match driver {
            Driver::Master => driver::index(device) << 1 | 1,
            Driver::Slave if !hung_up => driver::index(device) << 1,
            _ => driver.number() << 1,
        };
        let taken = self.infos.values().any(|info| info.id == InfoId(number));
        if !(taken || hung_up && driver.is_pty()) {
            return InfoId(number);
        }
        self.others += 1;
        InfoId((OTHERS + self.others) << 1)
    }
}

/// The slave of the master that was opened by `path`, by its own path.
pub(super) fn slave_beside(path: &Path, index: u32) -> Option<(PathBuf, Stat)> {
    let names = [format!("pts/{index}"), index.to_string()];
    names.into_iter().find_map(|name| {
        let path = path.with_file_name(name);
        let stat = rustix::fs::stat(&path).ok()?;
        (driver::unpacked(stat.st_rdev as u32) == driver::slave(index)).then_some((path, stat))
    })
}

impl Info {
    fn collect(
        cx: &CollectCx<'_>,
        probe: &Probe,
        file: BorrowedFd<'_>,
        (id, driver, device, external): (InfoId, Driver, DeviceId, bool),
        hung_up: bool,
        pty: Rc<Pty>,
    ) -> Result<Self> {
        let failed = |call| Error::kernel(call, &probe.link);
        let mut info = Self {
            id,
            driver,
            device,
            file_system: DeviceId::from_stat(probe.stat.st_dev),
            owner: Some((probe.stat.st_uid, probe.stat.st_gid)),
            external,
            locked: false,
            exclusive: false,
            packet: false,
            closed: false,
            slave: None,
            control: None,
            line: None,
            pty,
        };
        if hung_up {
            return Ok(info);
        }
        if terminal::discipline(file).map_err(failed("TIOCGETD"))? != 0 {
            return refused(probe, DISCIPLINE);
        }
        info.line = Some(Line::collect(file)?);
        info.exclusive = terminal::is_exclusive(file).map_err(failed("TIOCGEXCL"))?;
        info.control = cx.controlled().get(&device).copied();
        if driver == Driver::Master {
            if let Some(problem) = info.pty.problem.get() {
                return refused(probe, problem);
            }
            if flow::has_news(file)? {
                return refused(probe, NEWS);
            }
            info.locked = terminal::is_locked(file).map_err(failed("TIOCGPTLCK"))?;
            info.packet = terminal::is_packet(file).map_err(failed("TIOCGPKT"))?;
            info.closed = has_hung_up(file).map_err(failed("poll"))?;
            info.slave = slave_beside(&probe.link, driver::index(device))
                .map(|(_, stat)| (stat.st_uid, stat.st_gid, stat.st_mode));
        }
        Ok(info)
    }

    fn encode(&self) -> TtyInfoEntry {
        let Self {
            id,
            driver,
            device,
            file_system,
            owner,
            external,
            locked,
            exclusive,
            packet,
            closed,
            slave,
            control,
            line,
            pty,
        } = self;
        // Both are told of with the master, as nobody need have the slave open.
        let is_master = *driver == Driver::Master;
        let flows = if is_master { pty.flows.get() } else { Flows::default() };
        let (termios, termios_locked, winsize) = match line {
            None => (None, None, None),
            Some(line) => {
                let (termios, locked, winsize) = line.encode();
                (Some(termios), Some(locked), Some(winsize))
            }
        };
        let (_, rdev) = (device, self.rdev());
        TtyInfoEntry {
            id: id.0,
            kind: if *external { TtyType::ExtTty } else { driver.kind() }.into(),
            locked: *locked,
            exclusive: *exclusive,
            packet_mode: *packet,
            sid: control.map_or(0, |control| control.session.as_raw().unsigned_abs()),
            pgrp: control.map_or(0, |control| control.foreground.unsigned_abs()),
            rdev: driver::packed(rdev),
            termios,
            termios_locked,
            winsize,
            pty: (driver.is_pty() && !external).then(|| TtyPtyEntry { index: self.index() }),
            dev: Some(driver::packed(*file_system)),
            uid: owner.map(|(uid, _)| uid),
            gid: owner.map(|(_, gid)| gid),
            slaves_closed: closed.then_some(true),
            slave_uid: slave.map(|(uid, ..)| uid),
            slave_gid: slave.map(|(_, gid, _)| gid),
            slave_mode: slave.map(|(.., mode)| mode),
            slave_stopped: flows.slave.encode(),
            stopped: flows.master.encode(),
        }
    }

    fn decode(entry: &TtyInfoEntry, ptys: &mut BTreeMap<u32, Rc<Pty>>) -> Result<Self> {
        let TtyInfoEntry {
            id,
            kind,
            locked,
            exclusive,
            packet_mode,
            sid,
            pgrp,
            rdev,
            termios,
            termios_locked,
            winsize,
            pty,
            dev,
            uid,
            gid,
            slaves_closed,
            slave_uid,
            slave_gid,
            slave_mode,
            slave_stopped,
            stopped,
        } = entry;
        let wrong = |reason| corrupt(ImageName::TtyInfo, Terminal::NAME, *id, reason);
        let rdev = driver::unpacked(*rdev);
        let driver = Driver::of(rdev).ok_or_else(|| wrong("its device is no terminal"))?;
        let external = *kind == TtyType::ExtTty as i32;
        if !external && driver.kind() as i32 != *kind {
            return Err(wrong("its kind is not that of its device"));
        }
        let index = match (driver.is_pty() && !external, pty) {
            (true, Some(pty)) if pty.index < MAX_INDEX => Some(pty.index),
            (false, None) => None,
            _ => return Err(wrong("its number is that of no pseudo terminal")),
        };
        let line = match (termios, termios_locked, winsize) {
            (None, None, None) => None,
            (Some(termios), Some(locked), Some(window)) => {
                Some(Line::decode(*id, termios, locked, window)?)
            }
            _ => return Err(wrong("it has some of its settings and not all")),
        };
        if driver == Driver::Master && line.is_none() {
            return Err(wrong("a master cannot hang up"));
        }
        let foreground = i32::try_from(*pgrp).map_err(|_| wrong("its group is none"))?;
        let session = match *sid {
            0 => None,
            sid => Some(
                i32::try_from(sid)
                    .ok()
                    .and_then(NsPid::from_raw)
                    .ok_or_else(|| wrong("its session is none"))?,
            ),
        };
        let pty = match (index, &line) {
            (Some(index), Some(_)) => Rc::clone(ptys.entry(index).or_default()),
            _ => Rc::default(),
        };
        let flows = Flows::decode(*id, *slave_stopped, *stopped)?;
        match driver {
            Driver::Master => pty.flows.set(flows),
            _ if flows == Flows::default() => {}
            _ => return Err(wrong("only a master tells whether output is stopped")),
        }
        Ok(Self {
            id: InfoId(*id),
            driver,
            device: index.map_or(rdev, driver::slave),
            file_system: driver::unpacked(dev.unwrap_or(0)),
            owner: uid.zip(*gid),
            external,
            locked: *locked,
            exclusive: *exclusive,
            packet: *packet_mode,
            closed: slaves_closed.unwrap_or(false),
            slave: slave_uid
                .zip(*slave_gid)
                .zip(*slave_mode)
                .map(|((uid, gid), mode)| (uid, gid, mode)),
            control: session.map(|session| Control { session, foreground }),
            line,
            pty,
        })
    }
}

/// More pseudo terminals than the kernel lets there be (`NR_UNIX98_PTY_MAX`).
const MAX_INDEX: u32 = 1 << 20;

/// What the command line calls a terminal.
fn key(rdev: DeviceId, file_system: DeviceId) -> String {
    format!("tty[{:x}:{:x}]", driver::packed(rdev), driver::packed(file_system))
}

/// Whether all slaves of a master are closed that were ever open.
fn has_hung_up(master: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(master, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}

/// `tty-info.img`, to be written.
#[derive(Default)]
pub(super) struct Sink(BTreeMap<InfoId, Rc<Info>>);

/// The slave of a master, or the other way round.
fn other_end(InfoId(id): InfoId) -> u32 {
    id ^ 1
}

impl Sink {
    pub(super) fn add(&mut self, info: &Rc<Info>) {
        self.0.entry(info.id).or_insert_with(|| Rc::clone(info));
    }
}

impl SinkPart for Sink {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        let entries: Vec<_> = self.0.values().map(|info| info.encode()).collect();
        dump.put_all(ImageName::TtyInfo, &entries)?;
        let mut data = BTreeMap::new();
        for info in self.0.values().filter(|info| info.driver == Driver::Master) {
            let (typed, printed) = &*info.pty.queues.borrow();
            for (id, queue) in [(other_end(info.id), typed), (info.id.0, printed)] {
                if !queue.is_empty() {
                    data.insert(id, queue.encode(id));
                }
            }
        }
        if data.is_empty() {
            return Ok(());
        }
        Ok(dump.put_all(ImageName::TtyData, data.values())?)
    }
}

/// `tty-info.img`, read.
pub(super) struct Source {
    infos: BTreeMap<InfoId, (Rc<Info>, bool)>,
}

impl Source {
    pub(super) fn info(&mut self, id: InfoId) -> Option<Rc<Info>> {
        let (info, used) = self.infos.get_mut(&id)?;
        *used = true;
        Some(Rc::clone(info))
    }
}

impl SourcePart for Source {
    fn open(dir: &ImageDir) -> Result<Self> {
        let (mut infos, mut ptys) = (BTreeMap::new(), BTreeMap::new());
        for entry in dir.get_all::<TtyInfoEntry>(ImageName::TtyInfo)? {
            let info = Rc::new(Info::decode(&entry, &mut ptys)?);
            if infos.insert(info.id, (info, false)).is_some() {
                let reason = "two ends have this number";
                return Err(corrupt(ImageName::TtyInfo, Terminal::NAME, entry.id, reason));
            }
        }
        for entry in dir.get_all::<TtyDataEntry>(ImageName::TtyData)? {
            let id = entry.tty_id;
            let own = infos.get(&InfoId(id)).or_else(|| infos.get(&InfoId(id ^ 1)));
            let info = own.map(|(info, _): &(Rc<Info>, bool)| info);
            let Some(info) = info.filter(|info| info.driver.is_pty() && !info.is_hung_up()) else {
                let reason = "it is no pseudo terminal";
                return Err(corrupt(ImageName::TtyData, Terminal::NAME, id, reason));
            };
            let queues = &mut *info.pty.queues.borrow_mut();
            let queue = if id & 1 == 0 { &mut queues.0 } else { &mut queues.1 };
            if !queue.is_empty() {
                let reason = "its contents are there twice";
                return Err(corrupt(ImageName::TtyData, Terminal::NAME, id, reason));
            }
            *queue = Queue::decode(entry)?;
        }
        for (info, _) in infos.values() {
            if !info.pty.flows.get().fits(&info.pty.queues.borrow().0) {
                let reason = "output is stopped of one that is full";
                return Err(corrupt(ImageName::TtyInfo, Terminal::NAME, info.id.0, reason));
            }
        }
        Ok(Self { infos })
    }

    fn end(self) -> Result<()> {
        match self.infos.iter().find(|(_, (_, used))| !used) {
            None => Ok(()),
            Some((id, _)) => {
                let reason = "no file is open on it";
                Err(corrupt(ImageName::TtyInfo, Terminal::NAME, id.0, reason))
            }
        }
    }
}
