//! Making terminals, and having them behave as they did.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dormouse_kernel::{DeviceId, terminal};
use rustix::fs::{Gid, Mode, OFlags, Uid, chmod, chown, fchmod, fchown, fstat, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::driver::{self, Driver};
use super::flow::Flow;
use super::info::{Info, slave_beside};
use super::queue;
use super::{Created, FileKind, Terminal};
use crate::file::CreateCx;
use crate::file::create::{Milestone, Stash};
use crate::file::probe::reopen;
use crate::{Error, Result};

/// The pseudo terminals that exist so far, each by a descriptor of its master.
#[derive(Default)]
struct Ptys(BTreeMap<u32, OwnedFd>);

impl Stash for Ptys {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// Those that are to hang up.
#[derive(Default)]
struct Doomed(BTreeMap<u32, OwnedFd>);

impl Stash for Doomed {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// Masters that were opened on the way to a higher number, by the file and the
/// flags they were opened with, and their number: one that comes later may need
/// it.
#[derive(Default)]
struct Lower(BTreeMap<(PathBuf, u32, u32), OwnedFd>);

impl Stash for Lower {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// How long the number of a pseudo terminal may still be in use by those that
/// have just been killed.
const PATIENCE: Duration = Duration::from_millis(500);

/// How a terminal is opened: nobody is to get it as controlling terminal, and
/// a line that is not there is not to be waited for.
const QUIETLY: OFlags = OFlags::NOCTTY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn duplicate(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    fcntl_dupfd_cloexec(file, 0).map_err(Error::kernel("dup", Terminal::NAME))
}

impl Terminal {
    /// Opens it, as an open file description of its own.
    pub(super) fn open(&self, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let flags = self.status.open_flags();
        if self.info.external {
            return Err(Error::Unsupported {
                object: "a terminal",
                detail: self.info.key().into(),
                reason: "it is external, and was not handed over",
                hint: "hand it over with --inherit-fd fd[N]:KEY",
            });
        }
        match self.info.driver {
            Driver::Controlling => self.open_dev_tty(cx, flags),
            Driver::Slave if self.info.is_hung_up() => {
                let master = doomed(self.location.name(), self.info.index(), cx)?;
                open_slave(master.as_fd(), flags)
            }
            Driver::Slave if self.info.is_inherited() => {
                let outer = outer_terminal(cx, self.location.name())?;
                let file = reopen(outer.as_fd(), flags | QUIETLY);
                file.map_err(Error::kernel("open", "/proc/self/fd"))
            }
            Driver::Slave => {
                let master = pty(&self.info, cx)?;
                let file = self.open_slave(master.as_fd(), flags)?;
                self.give_back(file.as_fd())?;
                Ok(file)
            }
            Driver::Master => pty(&self.info, cx),
            Driver::Console | Driver::Virtual | Driver::Serial => {
                open_device(self.location.name(), flags, self.info.device_id())
            }
        }
    }

    /// By its path if that leads there, which is seen in `/proc`. What `open(2)` opens has
    /// `O_LARGEFILE`, so one that lacks it was opened through the master.
    fn open_slave(&self, master: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        if !flags.contains(OFlags::LARGEFILE) {
            return open_slave(master, flags);
        }
        match open_device(self.location.name(), flags, self.info.device_id()) {
            Ok(file) => Ok(file),
            Err(_) => open_slave(master, flags),
        }
    }

    /// Owner and permissions, which `grantpt(3)` and others change.
    fn give_back(&self, file: BorrowedFd<'_>) -> Result<()> {
        if let Some((uid, gid)) = self.info.owner() {
            fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(Error::kernel("fchown", self.location.name()))?;
        }
        if let Some(mode) = self.location.mode() {
            fchmod(file, Mode::from_raw_mode(mode & 0o7777))
                .map_err(Error::kernel("fchmod", self.location.name()))?;
        }
        Ok(())
    }

    /// `/dev/tty` stands for the controlling terminal of whoever opens it, so
    /// it takes a process that has the right one.
    fn open_dev_tty(&self, cx: &mut CreateCx<'_>, flags: OFlags) -> Result<OwnedFd> {
        let path = self.location.name();
        let c_path = CString::new(path.as_os_str().as_bytes());
        let c_path = c_path.map_err(|_| Error::kernel("open", path)(Errno::INVAL))?;
        let master;
        let terminal = match self.real.or_else(|| self.by_session(cx)) {
            None => {
                master = throwaway(Path::new("/dev/pts/0"), 0, cx)?;
                open_slave(master.as_fd(), OFlags::RDWR)?
            }
            Some(real) => {
                let master = match Driver::of(real) {
                    Some(Driver::Slave) => by_device(cx, real)?,
                    _ => None,
                };
                match master {
                    Some(master) => master,
                    None => return self.open_own_dev_tty(cx, flags),
                }
            }
        };
        terminal::open_as_controlled(terminal.as_fd(), &c_path, flags | OFlags::NONBLOCK)
            .map_err(Error::kernel("open", path))
    }

    /// CRIU does not say which terminal is behind `/dev/tty`; it is that of a
    /// session.
    fn by_session(&self, cx: &CreateCx<'_>) -> Option<DeviceId> {
        let session = self.info.control?.session;
        let others = cx.files().descriptions().filter_map(|(_, file)| file.as_terminal());
        let mut others = others.filter(|other| other.info.driver != Driver::Controlling);
        let other =
            others.find(|other| other.control().is_some_and(|control| control.session == session));
        Some(other?.info.device_id())
    }

    /// That of dormouse, which has it in common with the tree.
    fn open_own_dev_tty(&self, cx: &CreateCx<'_>, flags: OFlags) -> Result<OwnedFd> {
        let path = self.location.name();
        outer_terminal(cx, path)?;
        open(path, flags | QUIETLY, Mode::empty()).map_err(Error::kernel("open", path))
    }

    /// Everything but who is controlled: no process is there that could be
    /// told. `file` is one of the files on the terminal, its master if it has
    /// that; `files` are all.
    pub(super) fn fill_end(&self, file: BorrowedFd<'_>, files: &[Created<'_, Self>]) -> Result<()> {
        let failed = |call| Error::kernel(call, self.location.name());
        let device = self.info.device_id();
        let own = |other: &&Created<'_, Self>| {
            other.kind.info.device_id() == device
                && other.kind.info.driver != Driver::Controlling
                && !other.kind.info.is_hung_up()
        };
        let slaves = files.iter().filter(own).filter(|other| !other.kind.is_master());
        let writes = |other: &&Created<'_, Self>| other.kind.status.writes();
        let slave = slaves.clone().find(writes).map(|other| other.file);
        let flows = self.info.pty.flows.get();
        if self.is_master() {
            self.fill_queues(file, (slave, slaves.clone().count() > 0))?;
            if flows.slave == Flow::Stopped {
                queue::stop(file, self.is_canonical())?;
            }
        }
        if let Some(line) = &self.info.line {
            line.apply(file, !self.info.is_inherited())?;
        }
        if self.is_master() {
            queue::type_rest(file, &self.info.pty.queues.borrow().0)?;
            flows.hold(file, slaves.clone().next().map(|other| other.file))?;
            self.give_back_slave()?;
        }
        for Created { kind, file, .. } in files.iter().filter(own) {
            if kind.info.exclusive {
                terminal::set_exclusive(file).map_err(failed("TIOCEXCL"))?;
            }
        }
        if self.info.driver == Driver::Master {
            if self.info.packet {
                terminal::set_packet(file, true).map_err(failed("TIOCPKT"))?;
            }
            terminal::set_locked(file, self.info.locked).map_err(failed("TIOCSPTLCK"))?;
        }
        Ok(())
    }
}

impl Terminal {
    /// What is in the pseudo terminal of this master. A `slave` is one that can
    /// be written to; or there are slaves at all.
    fn fill_queues(
        &self,
        master: BorrowedFd<'_>,
        (slave, has_slaves): (Option<BorrowedFd<'_>>, bool),
    ) -> Result<()> {
        let (typed, printed) = &*self.info.pty.queues.borrow();
        // What has never been open would be waited for.
        let opens = self.info.closed || slave.is_none() && has_slaves;
        let own = opens.then(|| open_slave(master, OFlags::RDWR)).transpose()?;
        if !printed.is_empty() {
            printed.print(master, slave.or(own.as_ref().map(AsFd::as_fd)))?;
        }
        typed.type_in(master, self.is_canonical())
    }

    fn is_canonical(&self) -> bool {
        self.info.line.as_ref().is_some_and(|line| queue::is_canonical(&line.termios))
    }

    /// Owner and permissions of the slave, also if nobody has it open.
    fn give_back_slave(&self) -> Result<()> {
        let Some((uid, gid, mode)) = self.info.slave else { return Ok(()) };
        let Some((path, _)) = slave_beside(self.location.name(), self.info.index()) else {
            return Ok(());
        };
        chown(&path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(Error::kernel("chown", &path))?;
        chmod(&path, Mode::from_raw_mode(mode & 0o7777)).map_err(Error::kernel("chmod", &path))
    }
}

/// The terminal that dormouse was started on.
fn outer_terminal<'a>(cx: &'a CreateCx<'_>, path: &Path) -> Result<BorrowedFd<'a>> {
    cx.outer_terminal().ok_or_else(|| Error::Unsupported {
        object: "a terminal",
        detail: path.into(),
        reason: "its other end is not among the images, and dormouse was not told to take the \
                 place of it, or has no terminal itself",
        hint: "restore with --shell-job, and with a terminal as standard input",
    })
}

/// A descriptor of the master of a pseudo terminal, which is made if it is not
/// there.
fn pty(info: &Info, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
    let index = info.index();
    if let Some(master) = cx.stash::<Ptys>().0.get(&index) {
        return duplicate(master.as_fd());
    }
    let (path, flags) = info.master().expect("slaves without one are inherited");
    let master = open_master(&path, flags, index, cx)?;
    let file = duplicate(master.as_fd())?;
    cx.stash::<Ptys>().0.insert(index, master);
    Ok(file)
}

/// The same for the slave `device`; `None` if no file of the images is its
/// master.
fn by_device(cx: &mut CreateCx<'_>, device: DeviceId) -> Result<Option<OwnedFd>> {
    let mut others = cx.files().descriptions().filter_map(|(_, file)| file.as_terminal());
    let master = others.find(|other| other.is_master() && other.info.device_id() == device);
    master.map(|master| pty(&master.info, cx)).transpose()
}

/// Opens the master of pseudo terminal `index`, which must not exist. Its slave
/// can be opened.
fn open_master(path: &Path, flags: OFlags, index: u32, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
    let begun = Instant::now();
    let master = loop {
        if let Some(master) = try_open_master(path, flags, index, cx)? {
            break master;
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::Unsupported {
                object: "a terminal",
                detail: format!("/dev/pts/{index}").into(),
                reason: "its number is in use by another program",
                hint: "close the terminal that has the number, or restore in a mount namespace \
                       with a devpts of its own",
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    terminal::set_locked(&master, false).map_err(Error::kernel("TIOCSPTLCK", path))?;
    Ok(master)
}

/// The kernel gives the lowest number that is free, so lower ones are taken
/// until all are there. `None`: the number is in use.
fn try_open_master(
    path: &Path,
    flags: OFlags,
    index: u32,
    cx: &mut CreateCx<'_>,
) -> Result<Option<OwnedFd>> {
    let lower = &mut cx.stash::<Lower>().0;
    let key = |number| (path.to_owned(), flags.bits(), number);
    if let Some(master) = lower.remove(&key(index)) {
        return Ok(Some(master));
    }
    // Once: it may be that none below is at fault, but somebody else.
    let mut cleared = lower.is_empty();
    loop {
        let master = open(path, flags | QUIETLY, Mode::empty());
        let master = master.map_err(Error::kernel("open", path))?;
        let number = terminal::index(&master).map_err(Error::kernel("TIOCGPTN", path))?;
        if number == index {
            return Ok(Some(master));
        }
        if number < index {
            lower.insert(key(number), master);
        } else if std::mem::replace(&mut cleared, true) {
            return Ok(None);
        } else {
            // One that was opened otherwise may have it.
            lower.clear();
        }
    }
}

/// A master that is closed when all files exist, so that its slaves hang up. Its
/// number was theirs alone, unless they were hung up while it was open.
fn doomed(slave: &Path, index: u32, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
    if let Some(master) = cx.stash::<Doomed>().0.get(&index) {
        return duplicate(master.as_fd());
    }
    let master = throwaway(slave, index, cx)?;
    let file = duplicate(master.as_fd())?;
    cx.stash::<Doomed>().0.insert(index, master);
    Ok(file)
}

/// A pseudo terminal whose slave, once it is open, is to hang up: if possible
/// under the same number.
fn throwaway(slave: &Path, index: u32, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
    let beside = slave.with_file_name("ptmx");
    let path = if beside.exists() { beside } else { PathBuf::from("/dev/ptmx") };
    let master = match try_open_master(&path, OFlags::RDWR, index, cx)? {
        Some(master) => master,
        None => open(&path, OFlags::RDWR | QUIETLY, Mode::empty())
            .map_err(Error::kernel("open", &path))?,
    };
    terminal::set_locked(&master, false).map_err(Error::kernel("TIOCSPTLCK", &path))?;
    Ok(master)
}

/// The slave of a master, as a file of its own.
pub(super) fn open_slave(master: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    terminal::open_slave(master, flags | OFlags::NONBLOCK)
        .map_err(Error::kernel("TIOCGPTPEER", Terminal::NAME))
}

/// Opens the terminal at `path`, which must be this device.
fn open_device(path: &Path, flags: OFlags, device: DeviceId) -> Result<OwnedFd> {
    let file = open(path, flags | QUIETLY, Mode::empty()).map_err(Error::kernel("open", path))?;
    let stat = fstat(&file).map_err(Error::kernel("fstat", path))?;
    if driver::packed(DeviceId::from_stat(stat.st_rdev)) == driver::packed(device) {
        return Ok(file);
    }
    Err(Error::kernel("open", path)(Errno::NODEV))
}
