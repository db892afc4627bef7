//! BPF maps: hashes, arrays and prefix tries.
//!
//! Kernel object: `struct bpf_map` behind an anonymous inode: keys and values
//! that programs in the kernel share with processes.
//! Truth from: `BPF_OBJ_GET_INFO_BY_FD`; key by key (`bpf(2)`); `fdinfo` tells
//! whether it is frozen.
//! Image: `bpfmap_file_entry` in `files.img`; `bpfmap-data.img`.
//! Create: make, fill, freeze; further descriptions of one map by its number.
//! Fill: nothing.
//! Not preserved: the kernel's number for the map; who else uses it: programs
//! in the kernel, names in a BPF file system, processes outside of the tree.
//! Other kinds, maps with types (BTF), with a NUMA node, on a device, and
//! those that are mapped are refused.
//! Kernel needed: 5.2 to freeze one.
//! Scenarios: `files::bpf_map`, `refusals::bpf_map`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::proto::files::bpfmap::{BpfmapDataEntry, BpfmapFileEntry};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::bpf::{
    MAP_TYPE_ARRAY, MAP_TYPE_HASH, MAP_TYPE_LPM_TRIE, Map, MapInfo, create_map, open_map,
};
use dormouse_kernel::proc::Extra;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::create::{Milestone, Stash};
use super::sink::SinkPart;
use super::source::SourcePart;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// An open file description on a map.
#[derive(Debug)]
pub struct BpfMap {
    status: Status,
    info: MapInfo,
    frozen: bool,
    pairs: Rc<Pairs>,
}

/// What is in a map: keys one after the other, and their values.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pairs {
    count: u32,
    keys: Vec<u8>,
    values: Vec<u8>,
}

/// `BPF_F_NUMA_NODE`: the node is not told.
const NUMA_NODE: u32 = 1 << 2;

/// `BPF_F_RDONLY` and `BPF_F_WRONLY`.
const READ_ONLY: u32 = 1 << 3;
const WRITE_ONLY: u32 = 1 << 4;

/// How large a key can be (`htab_map_alloc_check`, `MAX_BPF_STACK`).
const MAX_KEY: u32 = 512;

impl FileKind for BpfMap {
    const NAME: &'static str = "BPF map";
    const TYPE: FdType = FdType::BpfMap;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some("bpf-map")
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let refuse = |reason, hint| Error::Unsupported {
            object: "a BPF map",
            detail: probe.link.clone().into(),
            reason,
            hint,
        };
        const CLOSE: &str = "checkpoint the program while it has none open";
        if probe.is_path_only() || !probe.has_description() {
            return Err(refuse("it is mapped, or open with O_PATH", CLOSE));
        }
        let status = Status::collect(cx, probe)?;
        let file = probe.duplicate()?;
        let failed = |source| Error::kernel("bpf", &probe.link)(source);
        let info = match Map::of(file.as_fd()) {
            Err(Errno::OPNOTSUPP) => {
                return Err(refuse("only hashes, arrays and prefix tries are saved", CLOSE));
            }
            map => *map.map_err(failed)?.info(),
        };
        let (types, flags) = ([info.types, info.kernel_type], info.flags);
        if types != [0; 2] || info.ifindex != 0 || flags & NUMA_NODE != 0 {
            return Err(refuse("it has types (BTF), a device or a NUMA node of its own", CLOSE));
        }
        let Extra::Unknown(told) = &probe.info.extra else {
            return Err(refuse("this kernel does not tell whether it is frozen", CLOSE));
        };
        let frozen =
            told.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"frozen:"));
        let frozen = frozen.is_some_and(|value| value.trim_ascii() == b"1");
        let known = cx.part::<Known>().0.get(&info.id).cloned();
        let pairs = match known {
            Some(pairs) => pairs,
            None => {
                let writes_only = !status.reads();
                let again = writes_only.then(|| open_map(info.id, READ_ONLY)).transpose();
                let file = again.map_err(failed)?.unwrap_or(file);
                let map = Map::of(file.as_fd()).map_err(failed)?;
                let pairs = Rc::new(Pairs::collect(&map).map_err(failed)?);
                cx.part::<Known>().0.insert(info.id, Rc::clone(&pairs));
                pairs
            }
        };
        Ok(Self { status, info, frozen, pairs })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, info, frozen, pairs } = self;
        let (flags, fown) = status.encode();
        let name = info.name.split(|&byte| byte == 0).next().unwrap_or_default();
        let entry = BpfmapFileEntry {
            id: id.as_raw(),
            flags,
            pos: 0,
            fown,
            map_type: info.kind,
            key_size: info.key_size,
            value_size: info.value_size,
            map_id: info.id,
            max_entries: info.max_entries,
            map_flags: info.flags,
            memlock: 0,
            frozen: *frozen,
            map_name: name.to_vec(),
            ifindex: info.ifindex,
            mnt_id: None,
            map_extra: Some(info.extra),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            bpf: Some(Box::new(entry)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        images.part::<Data>().0.insert(info.id, Rc::clone(pairs));
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(entry) = entry.bpf.as_deref() else {
            return Err(wrong("it has no bpfmap_file_entry"));
        };
        let BpfmapFileEntry { id: own_id, flags, fown, frozen, map_name, ifindex, .. } = entry;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        if ![MAP_TYPE_HASH, MAP_TYPE_ARRAY, MAP_TYPE_LPM_TRIE].contains(&entry.map_type) {
            return Err(wrong("it is no hash, no array and no prefix trie"));
        }
        if *ifindex != 0 || entry.map_flags & NUMA_NODE != 0 {
            return Err(wrong("it has a device or a NUMA node of its own"));
        }
        if !(1..=MAX_KEY).contains(&entry.key_size) || entry.value_size == 0 {
            return Err(wrong("its keys or values have no possible size"));
        }
        let mut name = [0; 16];
        match name.get_mut(..map_name.len()) {
            Some(room) if map_name.len() < 16 => room.copy_from_slice(map_name),
            _ => return Err(wrong("its name is too long")),
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        if status.is_path_only() {
            return Err(wrong("it is open with O_PATH"));
        }
        let info = MapInfo {
            kind: entry.map_type,
            id: entry.map_id,
            key_size: entry.key_size,
            value_size: entry.value_size,
            max_entries: entry.max_entries,
            flags: entry.map_flags,
            name,
            extra: entry.map_extra.unwrap_or(0),
            ..MapInfo::default()
        };
        let data = images.part::<DataSource>()?;
        let pairs = data.pairs(&info, *frozen).map_err(wrong)?;
        Ok(Self { status, info, frozen: *frozen, pairs })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        use std::collections::btree_map::Entry;
        let Self { status, info, frozen, pairs } = self;
        let failed = |source| Error::kernel("bpf", "a BPF map")(source);
        let made = match cx.stash::<Made>().0.entry(info.id) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => {
                let file = create_map(info).map_err(failed)?;
                let map = Map::of(file.as_fd()).map_err(failed)?;
                pairs.fill(&map).map_err(failed)?;
                if *frozen {
                    map.freeze().map_err(failed)?;
                }
                place.insert((*map.info(), Some(file)))
            }
        };
        let (new, first) = made;
        let access = status.flags() & OFlags::ACCMODE;
        let file = match first.take_if(|_| access == OFlags::RDWR) {
            Some(file) => file,
            None if access == OFlags::RDONLY => open_map(new.id, READ_ONLY).map_err(failed)?,
            None if access == OFlags::WRONLY => open_map(new.id, WRITE_ONLY).map_err(failed)?,
            None => open_map(new.id, 0).map_err(failed)?,
        };
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

impl Pairs {
    fn collect(map: &Map<'_>) -> Result<Self, Errno> {
        let mut pairs = Self::default();
        let mut key = map.next_key(None)?;
        while let Some(at) = key {
            // Others change it meanwhile: after a key that is gone, the first comes again.
            if pairs.count == map.info().max_entries {
                return Err(Errno::AGAIN);
            }
            pairs.values.extend(map.value(&at)?);
            pairs.keys.extend(&at);
            pairs.count += 1;
            key = map.next_key(Some(&at))?;
        }
        Ok(pairs)
    }

    fn fill(&self, map: &Map<'_>) -> Result<(), Errno> {
        let size = |size: u32| size as usize;
        let keys = self.keys.chunks_exact(size(map.info().key_size));
        let mut pairs = keys.zip(self.values.chunks_exact(size(map.info().value_size)));
        pairs.try_for_each(|(key, value)| map.set(key, value))
    }

    /// Whether a map of this kind can hold it.
    fn fits(&self, info: &MapInfo) -> bool {
        let len = |size: u32| u64::from(size) * u64::from(self.count);
        self.count <= info.max_entries
            && self.keys.len() as u64 == len(info.key_size)
            && self.values.len() as u64 == len(info.value_size)
    }
}

/// Contents of maps that were read, by number.
#[derive(Debug, Default)]
struct Known(BTreeMap<u32, Rc<Pairs>>);

/// Maps that were made, by the number they had, and the first description of
/// each as long as nobody has got it.
#[derive(Debug, Default)]
struct Made(BTreeMap<u32, (MapInfo, Option<OwnedFd>)>);

impl Stash for Made {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// `bpfmap-data.img`, to be written.
#[derive(Default)]
struct Data(BTreeMap<u32, Rc<Pairs>>);

impl SinkPart for Data {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        let mut writer = dump.writer(ImageName::BpfmapData)?;
        for (&map_id, pairs) in &self.0 {
            let Pairs { count, keys, values } = &**pairs;
            let len = |bytes: &Vec<u8>| {
                u32::try_from(bytes.len()).map_err(|_| Error::Unsupported {
                    object: "a BPF map",
                    detail: format!("number {map_id}").into(),
                    reason: "it holds more than the image can",
                    hint: "checkpoint the program when it has closed it",
                })
            };
            let (keys_bytes, values_bytes) = (len(keys)?, len(values)?);
            writer.put(&BpfmapDataEntry { map_id, keys_bytes, values_bytes, count: *count })?;
            writer.put_payload(keys)?;
            writer.put_payload(values)?;
        }
        Ok(writer.finish()?)
    }
}

/// What a file says of the map that it is on, and whether that is frozen.
type Said = (MapInfo, bool);

/// The image, read: contents by the number of the map, and what the files on
/// it have said of that.
struct DataSource(BTreeMap<u32, (Rc<Pairs>, Option<Said>)>);

impl DataSource {
    /// The contents of a map.
    fn pairs(&mut self, info: &MapInfo, frozen: bool) -> Result<Rc<Pairs>, &'static str> {
        let (pairs, said) = self.0.get_mut(&info.id).ok_or("its contents are not there")?;
        if *said.get_or_insert((*info, frozen)) != (*info, frozen) {
            return Err("another file has it otherwise");
        }
        if !pairs.fits(info) {
            return Err("its contents do not fit");
        }
        Ok(Rc::clone(pairs))
    }
}

impl SourcePart for DataSource {
    fn open(dir: &ImageDir) -> Result<Self> {
        let mut maps = BTreeMap::new();
        if let Some(mut reader) = dir.reader(ImageName::BpfmapData)? {
            while let Some(entry) = reader.next_message::<BpfmapDataEntry>()? {
                let BpfmapDataEntry { map_id, keys_bytes, values_bytes, count } = entry;
                let keys = reader.payload(keys_bytes.into())?;
                let values = reader.payload(values_bytes.into())?;
                // CRIU writes them once for each file.
                maps.insert(map_id, (Rc::new(Pairs { count, keys, values }), None));
            }
        }
        Ok(Self(maps))
    }

    fn end(self) -> Result<()> {
        match self.0.iter().find(|(_, (_, said))| said.is_none()) {
            None => Ok(()),
            Some((&id, _)) => {
                Err(corrupt(ImageName::BpfmapData, "map", id, "no file is open on it"))
            }
        }
    }
}
