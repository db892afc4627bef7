//! System V shared memory segments.
//!
//! **Kernel object**: `struct shmid_kernel` of the host's IPC namespace, and its inode, whose
//! number is that of the segment.
//!
//! **Truth from**: `IPC_STAT`, the line of smaps (its name has the key the segment was made with),
//! `map_files` for the contents.
//!
//! **Image**: `ipcns-shm-ID.img`, `pagemap-shmem-ID.img`; a mapping names its segment where others
//! name a file.
//!
//! **Create**: a segment that is still there is attached as it is, like a file. One that is gone is
//! made again with its number (`shm_next_id`), key, owner, creator and contents, by the root of the
//! tree, and is nobody's to use until the tree runs. One that nobody can find any more
//! (`IPC_RMID`) is removed again at once, and lives while it is attached to dormouse. Pieces of a
//! segment are attached by attaching all of it elsewhere, and moving the pieces: `shmdt(2)` takes
//! those for one that come from one `shmat(2)`.
//!
//! **Not preserved**: times, and the pids of who made it and who used it last.
//!
//! **Kernel needed**: `CONFIG_CHECKPOINT_RESTORE` for the number.
//!
//! **Scenarios**: `sysv::*`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dormouse_image::ImageName;
use dormouse_image::proto::namespace::ipc::{IpcDescEntry, IpcShmEntry};
use dormouse_kernel::proc::{Entry, ProcDir};
use dormouse_kernel::shm::{self, Attached, SegmentId, SegmentStat};
use dormouse_kernel::{Addr, Errno, PAGE_SIZE};
use dormouse_puppet::{Bare, Batch};
use rustix::fs::OFlags;

use super::error::{Error, MappingProblem, Result};
use super::vma::ShmemId;

/// The number of the IPC namespace in images: that of the host (see the ids of a task).
pub const HOST_IPC: u32 = 3;

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What the kernel tells.
    stat: SegmentStat,
    /// The key it was made with; that in `stat` is gone when it is removed.
    made_with_key: u32,
    /// Where its contents are.
    contents: ShmemId,
}

/// The segments a tree has attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments(BTreeMap<SegmentId, Segment>);

impl Segments {
    /// The segment of this name in maps (`/SYSV` and its key), with this number. `contents` is
    /// asked for when it is the first time.
    pub(super) fn seen(
        &mut self,
        id: SegmentId,
        name: &Path,
        contents: impl FnOnce() -> ShmemId,
    ) -> Result<&Segment> {
        match self.0.entry(id) {
            Place::Occupied(known) => Ok(known.into_mut()),
            Place::Vacant(place) => {
                let stat = shm::stat(id)?;
                let made_with_key = key(name).unwrap_or(stat.key);
                Ok(place.insert(Segment { stat, made_with_key, contents: contents() }))
            }
        }
    }

    /// The messages of `ipcns-shm-ID.img`.
    #[must_use]
    pub fn encode(&self) -> Vec<IpcShmEntry> {
        let entry = |(&id, segment): (&SegmentId, &Segment)| {
            let Segment { stat, made_with_key, contents } = *segment;
            let SegmentStat { key, owner, creator, mode, size, attached: _ } = stat;
            IpcShmEntry {
                desc: IpcDescEntry {
                    key,
                    uid: owner.0,
                    gid: owner.1,
                    cuid: creator.0,
                    cgid: creator.1,
                    mode,
                    id: id.as_raw(),
                },
                size,
                in_pagemaps: Some(true),
                hugetlb_flag: None,
                contents: Some(contents.as_raw()),
                made_with_key: Some(made_with_key),
            }
        };
        self.0.iter().map(entry).collect()
    }

    /// Reads the messages back.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn decode(image: ImageName, entries: &[IpcShmEntry]) -> Result<Self> {
        let mut segments = BTreeMap::new();
        for entry in entries {
            let bad = |problem| Error::Corrupt { image, at: Addr::NULL, problem };
            let IpcDescEntry { key, uid, gid, cuid, cgid, mode, id } = entry.desc;
            let id = SegmentId::from_raw(id).ok_or(bad(MappingProblem::Id(id.into())))?;
            let (Some(true), None) = (entry.in_pagemaps, entry.hugetlb_flag) else {
                return Err(bad(MappingProblem::Segment(id)));
            };
            let modes = SegmentStat::PERMISSIONS | SegmentStat::DESTROYED | SegmentStat::LOCKED;
            if mode & !modes != 0 || entry.size == 0 || entry.size > i64::MAX as u64 - PAGE_SIZE {
                return Err(bad(MappingProblem::Segment(id)));
            }
            let (owner, creator) = ((uid, gid), (cuid, cgid));
            let segment = Segment {
                stat: SegmentStat { key, owner, creator, mode, size: entry.size, attached: 0 },
                made_with_key: entry.made_with_key.unwrap_or(key),
                contents: ShmemId::from_raw(entry.contents.unwrap_or(id.as_raw())),
            };
            if segments.insert(id, segment).is_some() {
                return Err(bad(MappingProblem::Segment(id)));
            }
        }
        Ok(Self(segments))
    }

    /// All of them, with the numbers of what they contain.
    pub fn iter(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        self.0.iter().map(|(&id, segment)| (id, segment))
    }

    /// How many bytes a segment has, in whole pages; `None` if there is no such segment.
    pub(super) fn len_of(&self, id: SegmentId) -> Option<u64> {
        self.0.get(&id).map(Segment::len)
    }
}

/// The key in the name of a segment's file.
fn key(name: &Path) -> Option<u32> {
    let digits = name.as_os_str().as_bytes().strip_prefix(b"/SYSV")?.get(..8)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Segments that a restore has made. Dropped, it removes them, unless they are
/// [kept](Self::keep).
///
/// Until then nobody may use them, which also tells those that a killed restore has left.
#[derive(Debug, Default)]
pub struct MadeSegments {
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    id: SegmentId,
    stat: SegmentStat,
    /// By this a segment lives that is to go with the last who has it attached.
    _attached: Attached,
}

impl MadeSegments {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree has them attached, and they stay.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn keep(mut self) -> Result<()> {
        while let Some(Made { id, stat, .. }) = self.made.last() {
            shm::set(*id, stat.owner, stat.mode)?;
            self.made.pop();
        }
        Ok(())
    }
}

impl Drop for MadeSegments {
    fn drop(&mut self) {
        for Made { id, .. } in self.made.drain(..) {
            // If it is removed already, it goes with those who have it attached.
            let _ = shm::remove(id);
        }
    }
}

impl Segment {
    /// Where its contents are.
    #[must_use]
    pub fn contents(&self) -> ShmemId {
        self.contents
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    fn len(&self) -> u64 {
        self.stat.size.next_multiple_of(PAGE_SIZE)
    }

    /// Makes sure that there is such a segment. One that had to be made is open for reading and
    /// writing, and waits for its contents.
    ///
    /// # Errors
    ///
    /// [`Error::SegmentTaken`] if another has its number or its key, or the kernel refuses.
    pub fn create(
        &self,
        id: SegmentId,
        puppet: &mut Bare,
        made: &mut MadeSegments,
    ) -> Result<Option<OwnedFd>> {
        match shm::stat(id) {
            Ok(found) if !self.is(&found) => return Err(Error::SegmentTaken { id }),
            Ok(found) if self.is_left_over(&found) => shm::remove(id)?,
            Ok(_) => return Ok(None),
            Err(shm::Error { source: Errno::INVAL | Errno::IDRM, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.make(id, puppet)?;
        let attached = match Attached::new(id, self.len()) {
            Ok(attached) => attached,
            Err(error) => {
                // Nobody else knows of it.
                let _ = shm::remove(id);
                return Err(error.into());
            }
        };
        let range = attached.range();
        made.made.push(Made { id, stat: self.stat, _attached: attached });
        if self.stat.mode & SegmentStat::LOCKED != 0 {
            shm::lock(id)?;
        }
        if self.is_removed() {
            shm::remove(id)?;
        }
        let file = ProcDir::of_self()?.open_entry(Entry::MapFile(range), OFlags::RDWR);
        Ok(Some(file?))
    }

    /// Whether it is to go with the last who has it attached.
    fn is_removed(&self) -> bool {
        self.stat.mode & SegmentStat::DESTROYED != 0
    }

    /// Whether `found` is this segment. Its owner may have changed.
    fn is(&self, found: &SegmentStat) -> bool {
        let SegmentStat { key, owner: _, creator, mode: _, size, attached: _ } = self.stat;
        (found.key, found.creator, found.size) == (key, creator, size)
    }

    /// Whether `found` was made by a restore that never came to its end.
    fn is_left_over(&self, found: &SegmentStat) -> bool {
        let permissions = |stat: &SegmentStat| stat.mode & SegmentStat::PERMISSIONS;
        permissions(found) == 0 && permissions(&self.stat) != 0 && found.attached == 0
    }

    /// Makes the segment, in the name of who made it first.
    fn make(&self, id: SegmentId, puppet: &mut Bare) -> Result<()> {
        // Somebody else may have the key of one that cannot be found any more.
        let keys = [self.made_with_key, libc::IPC_PRIVATE.cast_unsigned()];
        let keys = if self.is_removed() { &keys[..] } else { &keys[..1] };
        for (number, &key) in keys.iter().enumerate() {
            shm::choose_next(id)?;
            match self.get(key, puppet)? {
                Ok(got) if got == u64::from(id.as_raw()) => return Ok(()),
                Ok(other) => {
                    // The number is not free, or somebody else was faster.
                    let other = u32::try_from(other).ok().and_then(SegmentId::from_raw);
                    let _ = other.map(shm::remove);
                    return Err(Error::SegmentTaken { id });
                }
                Err(Errno::EXIST) if number + 1 < keys.len() => {}
                Err(Errno::EXIST) => return Err(Error::SegmentTaken { id }),
                Err(source) => {
                    return Err(shm::Error { operation: "make", id, source }.into());
                }
            }
        }
        unreachable!("there is at least one key, and the last returns")
    }

    /// `shmget(2)`, as its creator.
    fn get(&self, key: u32, puppet: &mut Bare) -> Result<Result<u64, Errno>> {
        let (uid, gid) = self.stat.creator;
        let flags = libc::IPC_CREAT | libc::IPC_EXCL;
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut batch = Batch::new();
        let become_user = |batch: &mut Batch, uid: u32| {
            batch.call(libc::SYS_setresuid, [(-1).into(), uid.into(), (-1).into()]);
        };
        let become_group = |batch: &mut Batch, gid: u32| {
            batch.call(libc::SYS_setresgid, [(-1).into(), gid.into(), (-1).into()]);
        };
        let other = own != (uid, gid);
        if other {
            become_group(&mut batch, gid);
            become_user(&mut batch, uid);
        }
        let args = [key.cast_signed().into(), self.stat.size.into(), flags.into()];
        let get = batch.may_fail(libc::SYS_shmget, args);
        if other {
            become_user(&mut batch, own.0);
            become_group(&mut batch, own.1);
        }
        Ok(puppet.run(batch)?.result(&get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(key: u32, mode: u32) -> Segment {
        let (owner, creator) = ((1, 2), (3, 4));
        let (mode, size) = (0o600 | mode, 5000);
        let stat = SegmentStat { key, owner, creator, mode, size, attached: 0 };
        Segment { stat, made_with_key: 77, contents: ShmemId::from_raw(9) }
    }

    #[test]
    fn segments_round_trip() {
        let id = |raw| SegmentId::from_raw(raw).unwrap();
        let segments = Segments(BTreeMap::from([
            (id(0), segment(0, SegmentStat::DESTROYED)),
            (id(32769), segment(77, SegmentStat::LOCKED)),
        ]));
        let image = ImageName::IpcShm(HOST_IPC);
        assert_eq!(Segments::decode(image, &segments.encode()).unwrap(), segments);
    }

    #[test]
    fn nonsense_is_refused() {
        let id = SegmentId::from_raw(5).unwrap();
        let good = Segments(BTreeMap::from([(id, segment(77, 0))])).encode().remove(0);
        let image = ImageName::IpcShm(HOST_IPC);
        let bad: [&dyn Fn(&mut IpcShmEntry); 5] = [
            &|entry| entry.desc.id = u32::MAX,
            &|entry| entry.in_pagemaps = None,
            &|entry| entry.hugetlb_flag = Some(21),
            &|entry| entry.desc.mode = 0o4000,
            &|entry| entry.size = 0,
        ];
        for spoil in bad {
            let mut entry = good.clone();
            spoil(&mut entry);
            Segments::decode(image, &[entry]).unwrap_err();
        }
        Segments::decode(image, &[good.clone(), good]).unwrap_err();
    }

    #[test]
    fn the_key_is_in_the_name() {
        assert_eq!(key(Path::new("/SYSVffffff01 (deleted)")), Some(0xffff_ff01));
        assert_eq!(key(Path::new("/SYSV")), None);
    }
}
