//! Terminals.
//!
//! Kernel object: an open file description on a `struct tty_struct`: an end of
//! a pseudo terminal, a console, a virtual terminal, a serial line, or
//! `/dev/tty`.
//! Truth from: the requests of `ioctl_tty(2)` on a duplicate, none of which
//! waits or changes anything; `/proc/PID/stat` of session leaders; the kernel's
//! own structures for what is not read yet (`peek`).
//! Image: `tty_file_entry`, and one `reg_file_entry` for the path each, in
//! `files.img`; `tty_info_entry` in `tty-info.img`, one for each end; `tty_data_entry` in
//! `tty-data.img`. Where lines end, that every slave of a master has been closed
//! again, whose the slave is, and the terminal behind `/dev/tty` have fields of
//! our own.
//! Create: a pseudo terminal with the first of its files, under the number it
//! had, which must be free; others by their path. A slave whose master is
//! outside of the tree is the terminal that dormouse itself was started on
//! (`--shell-job`). One that has hung up is made, and hung up, again.
//! Fill: everything before there are processes, so that none is told. A session
//! leader takes its terminal when it makes its session, and its foreground
//! group when the groups exist; both is the engine's to do.
//! Not preserved: the column that the cursor is in, which the kernel counts for
//! tabs; of a terminal that dormouse was started on, the size of the window, and that `O_LARGEFILE`
//! is missing; what
//! is in terminals that are no pseudo terminals, or that dormouse was started on,
//! and whether output to those is stopped.
//! Refused: what a packet-mode master has not been told yet; line disciplines but
//! the usual one; pseudo terminals of two instances of devpts under one number.
//! Without `CAP_BPF` and `CAP_PERFMON`, or without type information: terminals
//! that may hold something which no call tells, or whose output may be stopped.
//! Kernel needed: 4.13, which opens slaves without a path.
//! Scenarios: `tty::*`.

mod create;
mod driver;
mod flow;
mod info;
mod line;
mod masters;
mod peek;
mod queue;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::ImageName;
use dormouse_image::proto::files::tty::TtyFileEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::{DeviceId, NsPid};
use rustix::fs::FileType;

use super::location::Location;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status,
};
use crate::Result;
use crate::corrupt::corrupt;
use driver::Driver;
use info::{Collected, Info, InfoId, Sink, Source};

/// An open terminal.
#[derive(Debug)]
pub struct Terminal {
    status: Status,
    location: Location,
    /// The entry of its path in `files.img`.
    path: FileId,
    info: Rc<Info>,
    /// Of `/dev/tty`, the terminal behind it.
    real: Option<DeviceId>,
}

/// Whom a terminal controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// The session, by its leader.
    pub session: NsPid,
    /// The process group in the foreground, 0 for none.
    pub foreground: i32,
}

/// The sessions of a tree that have a controlling terminal.
pub type Controlled = BTreeMap<DeviceId, Control>;

impl Terminal {
    /// Whom it controls. Of two ends, both do.
    #[must_use]
    pub fn control(&self) -> Option<Control> {
        if self.info.is_hung_up() { None } else { self.info.control }
    }

    /// Whether it is a slave whose master is not of the tree.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.info.is_inherited()
    }

    /// See [`File::inherit_key`](super::File::inherit_key).
    pub(super) fn inherit_key(&self) -> String {
        self.info.key()
    }

    fn is_master(&self) -> bool {
        self.info.driver == Driver::Master
    }
}

impl FileKind for Terminal {
    const NAME: &'static str = "terminal";
    const TYPE: FdType = FdType::Tty;
    const RANKS: &'static [FillRank] = &[FillRank::Fresh];

    fn claims(probe: &Probe) -> bool {
        probe.file_type() == FileType::CharacterDevice
            && !probe.is_path_only()
            && probe.mounted
            && Driver::of(probe.device()).is_some()
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let file = probe.duplicate()?;
        let (info, real) = Collected::info(cx, probe, file.as_fd())?;
        let location = Location::of_device(probe);
        Ok(Self { status, location, path: cx.fresh_id(), info, real })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, location, path, info, real } = self;
        images.part::<Sink>().add(info);
        location.encode(*path, status, 0, images)?;
        let (flags, fown) = status.encode();
        let tty = TtyFileEntry {
            id: id.as_raw(),
            tty_info_id: info.id.0,
            flags,
            fown,
            regf_id: Some(path.as_raw()),
            real_rdev: real.map(driver::packed),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            tty: Some(Box::new(tty)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(tty) = entry.tty.as_deref() else {
            return Err(wrong("it has no tty_file_entry"));
        };
        let TtyFileEntry { id: own_id, tty_info_id, flags, fown, regf_id, real_rdev } = tty;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        if status.is_path_only() {
            return Err(wrong("it was opened with O_PATH, and so is no terminal"));
        }
        let path = FileId::from_raw(regf_id.ok_or_else(|| wrong("it has no path"))?);
        let reg = images.share(path).ok_or_else(|| wrong("the entry of its path is not there"))?;
        let (location, ..) = Location::decode(path, &reg, images)?;
        let master = |info: &Info| (info.driver == Driver::Master).then(|| status.open_flags());
        let info = images
            .part::<Source>()?
            .info(InfoId(*tty_info_id))
            .ok_or_else(|| wrong("its entry of tty-info.img is not there"))?;
        if let Some(flags) = master(&info)
            && !info.pty_has_master(location.name(), flags)
        {
            return Err(wrong("its pseudo terminal has another master already"));
        }
        let real = real_rdev.map(driver::unpacked);
        Ok(Self { status, location, path, info, real })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let file = self.open(cx)?;
        self.status.apply(Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        // Of a pseudo terminal, the master fills both ends.
        let mut ends = BTreeMap::new();
        for Created { kind, file, .. } in files {
            if !kind.info.is_hung_up() && kind.info.driver != Driver::Controlling {
                let place = ends.entry(kind.info.device_id()).or_insert((*kind, *file));
                if kind.is_master() {
                    *place = (*kind, *file);
                }
            }
        }
        ends.into_values().try_for_each(|(kind, file)| kind.fill_end(file, files))
    }
}
