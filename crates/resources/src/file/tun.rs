//! Queues of tun and tap interfaces.
//!
//! Kernel object: an open file description on `struct tun_file`, a queue, which
//! belongs to an interface, `struct tun_struct`, or to none yet.
//! Truth from: requests on a duplicate (`drivers/net/tun.c`); flags of the
//! interface in sysfs (`class/net/NAME/tun_flags`), as those the request tells are
//! not all true.
//! Image: `tunfile_entry` and a `reg_file_entry` for the path in `files.img`. What
//! CRIU keeps of interfaces is about whole network namespaces, so flags, buffers
//! and headers have fields of our own.
//! Create: opened by its path, and attached to its interface by name, which must
//! be there.
//! Fill: nothing.
//! Not preserved: packets that wait to be read, as a network may lose them; in
//! which order queues of one interface were attached; what `TUNSETIFINDEX` has
//! asked for, for an interface that is still to be made.
//! Refused: queues of interfaces that go with their last queue, as all that is
//! known of them there (addresses, routes) goes as well; filters; interfaces whose
//! carrier was switched off; other network namespaces.
//! Kernel needed: 5.2, which tells the namespace of an interface.
//! Scenarios: `files::tun*`, `refusals::tun`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use dormouse_image::ImageName;
use dormouse_image::proto::files::tun::TunfileEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::DeviceId;
use dormouse_kernel::tun::{self, Name};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat, stat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::location::Location;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::error::Change;
use crate::{Error, Result};

/// A queue.
#[derive(Debug)]
pub struct Tun {
    status: Status,
    location: Location,
    /// The entry of its path in `files.img`.
    path: FileId,
    /// `None`: it belongs to no interface.
    interface: Option<Interface>,
}

/// What it belongs to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    name: Name,
    /// Its kind and features.
    flags: u16,
    /// The queue is out of use.
    is_detached: bool,
    /// In bytes.
    send_buffer: i32,
    /// Of virtio, in bytes.
    header: i32,
}

/// `/dev/net/tun`.
const DEVICE: DeviceId = DeviceId { major: 10, minor: 200 };

fn shown(name: &Name) -> &OsStr {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    OsStr::from_bytes(&name[..end])
}

/// A fact about an interface, as the kernel shows it in sysfs: one of this network namespace, which
/// that in `/sys` need not be.
fn fact(name: &Name, what: &str) -> Option<String> {
    let system = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_create(system.as_fd()).ok()?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let root = fsmount(system.as_fd(), flags, MountAttrFlags::MOUNT_ATTR_RDONLY).ok()?;
    let path: PathBuf = [OsStr::new("class/net"), shown(name), OsStr::new(what)].iter().collect();
    let file = openat(&root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// Kind and features of an interface; `None`: there is none of the name.
fn flags_of(name: &Name) -> Option<u16> {
    let text = fact(name, "tun_flags")?;
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok().map(|flags| flags as u16)
}

impl Interface {
    fn collect(file: BorrowedFd<'_>, probe: &Probe) -> Result<Option<Self>> {
        let failed = |call| Error::kernel(call, &probe.link);
        let refused = |reason, hint| Error::Unsupported {
            object: Tun::NAME,
            detail: probe.link.clone().into(),
            reason,
            hint,
        };
        let attached = match tun::interface(file) {
            Err(Errno::BADFD) => None,
            attached => Some(attached.map_err(failed("TUNGETIFF"))?),
        };
        let home = stat("/proc/self/ns/net").map_err(Error::kernel("stat", "/proc/self/ns/net"))?;
        for namespace in
            tun::namespaces(file, attached.is_some()).map_err(failed("TUNGETDEVNETNS"))?
        {
            let of = fstat(namespace).map_err(failed("fstat"))?;
            if (of.st_dev, of.st_ino) != (home.st_dev, home.st_ino) {
                return Err(refused(
                    "it belongs to another network namespace",
                    "run dormouse inside of that namespace (nsenter --net)",
                ));
            }
        }
        let Some((name, told)) = attached else { return Ok(None) };
        let flags = flags_of(&name)
            .ok_or_else(|| refused("nothing is seen of its interface", "run dormouse as root"))?;
        if flags & tun::PERSISTENT == 0 {
            return Err(refused(
                "its interface goes when the program does, with its addresses and routes",
                "have the interface stay by itself (ip tuntap add), before the program uses it",
            ));
        }
        if flags & tun::TAP != 0 && tun::has_filter(file).map_err(failed("TUNGETFILTER"))? {
            return Err(refused(
                "a filter is attached to it, which the kernel does not show",
                "have the program take the filter off first (TUNDETACHFILTER)",
            ));
        }
        let is_detached = told & tun::DETACHED != 0;
        // Of one that is down there is no carrier to be known.
        if !is_detached && fact(&name, "carrier").is_some_and(|carrier| carrier == "0") {
            return Err(refused(
                "the carrier of its interface was switched off",
                "have the program switch it on first (TUNSETCARRIER)",
            ));
        }
        Ok(Some(Self {
            name,
            flags: flags & (tun::TUN | tun::TAP | tun::FEATURES),
            is_detached,
            send_buffer: tun::send_buffer(file).map_err(failed("TUNGETSNDBUF"))?,
            header: tun::header(file).map_err(failed("TUNGETVNETHDRSZ"))?,
        }))
    }

    /// Makes `file` a queue of it.
    fn attach(&self, file: BorrowedFd<'_>) -> Result<()> {
        let Self { name, flags, is_detached, send_buffer, header } = self;
        let failed = |call| Error::kernel(call, shown(name));
        // An attempt would make one.
        let there = flags_of(name).is_some_and(|flags| flags & tun::PERSISTENT != 0);
        if !there {
            let path = shown(name).into();
            return Err(Error::Changed { path, change: Change::Missing });
        }
        tun::attach(file, *name, *flags).map_err(failed("TUNSETIFF"))?;
        if tun::send_buffer(file).map_err(failed("TUNGETSNDBUF"))? != *send_buffer {
            tun::set_send_buffer(file, *send_buffer).map_err(failed("TUNSETSNDBUF"))?;
        }
        if tun::header(file).map_err(failed("TUNGETVNETHDRSZ"))? != *header {
            tun::set_header(file, *header).map_err(failed("TUNSETVNETHDRSZ"))?;
        }
        if *is_detached {
            tun::detach(file).map_err(failed("TUNSETQUEUE"))?;
        }
        Ok(())
    }

    fn decode(entry: &TunfileEntry) -> Result<Option<Self>, &'static str> {
        let TunfileEntry { netdev, detached, iff_flags, sndbuf, vnethdr, .. } = entry;
        let Some(netdev) = netdev else { return Ok(None) };
        let mut name = [0; tun::NAME];
        let len = netdev.len();
        let is_name =
            len > 0 && len < tun::NAME && !netdev.iter().any(|byte| b"\0/".contains(byte));
        if !is_name || netdev == b"." || netdev == b".." {
            return Err("its interface has a name that cannot be");
        }
        name[..len].copy_from_slice(netdev);
        let number = |value: &Option<u32>| value.and_then(|value| i32::try_from(value).ok());
        let known = tun::TUN | tun::TAP | tun::FEATURES;
        let flags = iff_flags.and_then(|flags| u16::try_from(flags).ok());
        let flags = flags.filter(|flags| flags & !known == 0);
        Ok(Some(Self {
            name,
            flags: flags.ok_or("its interface is of no kind there is")?,
            is_detached: detached.unwrap_or(false),
            send_buffer: number(sndbuf).ok_or("its buffer has no size")?,
            header: number(vnethdr).ok_or("its headers have no length")?,
        }))
    }
}

impl FileKind for Tun {
    const NAME: &'static str = "queue of a tun or tap interface";
    const TYPE: FdType = FdType::Tun;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        probe.file_type() == FileType::CharacterDevice
            && !probe.is_path_only()
            && probe.mounted
            && probe.device() == DEVICE
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let file = probe.duplicate()?;
        let interface = Interface::collect(file.as_fd(), probe)?;
        let location = Location::of_device(probe);
        Ok(Self { status, location, path: cx.fresh_id(), interface })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, location, path, interface } = self;
        location.encode(*path, status, 0, images)?;
        let tunf = match interface {
            None => TunfileEntry { id: id.as_raw(), ..TunfileEntry::default() },
            Some(Interface { name, flags, is_detached, send_buffer, header }) => TunfileEntry {
                id: id.as_raw(),
                netdev: Some(shown(name).as_bytes().to_vec()),
                detached: is_detached.then_some(true),
                ns_id: None,
                iff_flags: Some((*flags).into()),
                sndbuf: Some(send_buffer.cast_unsigned()),
                vnethdr: Some(header.cast_unsigned()),
                regf_id: None,
            },
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            tunf: Some(Box::new(TunfileEntry { regf_id: Some(path.as_raw()), ..tunf })),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(tunf) = entry.tunf.as_deref() else {
            return Err(wrong("it has no tunfile_entry"));
        };
        if tunf.id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let Some(path) = tunf.regf_id.map(FileId::from_raw) else {
            return Err(Error::Unsupported {
                object: Self::NAME,
                detail: format!("file {id} of the images").into(),
                reason: "its interface is part of a network namespace, and those are not restored",
                hint: "restore it with CRIU",
            });
        };
        let reg = images.share(path).ok_or_else(|| wrong("the entry of its path is not there"))?;
        let (location, status, _) = Location::decode(path, &reg, images)?;
        if status.is_path_only() {
            return Err(wrong("it was opened with O_PATH, and so is no queue"));
        }
        let interface = Interface::decode(tunf).map_err(wrong)?;
        Ok(Self { status, location, path, interface })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { status, location, path, interface } = self;
        let file = location.open(*path, status.open_flags() & OFlags::ACCMODE, cx)?;
        let stat = fstat(&file).map_err(Error::kernel("fstat", location.name()))?;
        if DeviceId::from_stat(stat.st_rdev) != DEVICE {
            return Err(Error::kernel("open", location.name())(Errno::NODEV));
        }
        if let Some(interface) = interface {
            interface.attach(file.as_fd())?;
        }
        status.apply(Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, _: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        Ok(())
    }
}
