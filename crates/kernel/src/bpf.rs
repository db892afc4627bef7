//! Maps of `bpf(2)`.
#![allow(unsafe_code)]

use crate::Errno;
use crate::sys::check;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_FREEZE: libc::c_int = 22;

/// Keys with values, of any number.
pub const MAP_TYPE_HASH: u32 = 1;
/// Values by their index.
pub const MAP_TYPE_ARRAY: u32 = 2;
/// Values by prefixes: a number of bits, and those.
pub const MAP_TYPE_LPM_TRIE: u32 = 11;

/// `struct bpf_map_info` (`include/uapi/linux/bpf.h`), the beginning of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// The kernel's number for the map.
    pub id: u32,
    /// In bytes.
    pub key_size: u32,
    /// In bytes.
    pub value_size: u32,
    /// The most that it takes.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Ends with a zero.
    pub name: [u8; 16],
    /// The device that it is offloaded to.
    pub ifindex: u32,
    /// Of the kernel's types, if values are of one.
    pub kernel_type: u32,
    /// The network namespace of that device.
    pub device_namespace: [u64; 2],
    /// Which types (BTF) the next two are of; 0 for none.
    pub types: u32,
    /// The type of keys.
    pub key_type: u32,
    /// The type of values.
    pub value_type: u32,
    /// The module whose types these are.
    pub module: u32,
    /// What it means depends on the kind.
    pub extra: u64,
}

/// `union bpf_attr`, the beginning of it.
type Attributes = [u64; 9];

pub(crate) fn pair(low: u32, high: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (low.to_ne_bytes(), high.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

pub(crate) fn number(file: BorrowedFd<'_>) -> u32 {
    file.as_raw_fd().cast_unsigned()
}

/// # Safety
///
/// What `attributes` point to is good for `command`.
pub(crate) unsafe fn bpf(command: libc::c_int, attributes: &Attributes) -> Result<u64, Errno> {
    // SAFETY: the attributes have the length given; the rest is the caller's promise.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes))
    })
}

/// A descriptor that the kernel has just given.
pub(crate) fn owned(fd: u64) -> OwnedFd {
    // SAFETY: only called with what a command returned that makes descriptors.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// A hash, an array or a trie.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    file: BorrowedFd<'a>,
    info: MapInfo,
}

/// A new map: kind, sizes, flags, name and `extra` are as `info` has them.
///
/// # Errors
///
/// `EPERM`: it takes `CAP_BPF`; `EINVAL`: there is no such map.
pub fn create_map(info: &MapInfo) -> Result<OwnedFd, Errno> {
    let name: [u32; 4] = std::array::from_fn(|index| {
        u32::from_ne_bytes(std::array::from_fn(|byte| info.name[index * 4 + byte]))
    });
    let attributes = [
        pair(info.kind, info.key_size),
        pair(info.value_size, info.max_entries),
        pair(info.flags, 0),
        pair(0, name[0]),
        pair(name[1], name[2]),
        pair(name[3], 0),
        0,
        0,
        info.extra,
    ];
    // SAFETY: none of these is a pointer.
    unsafe { bpf(MAP_CREATE, &attributes) }.map(owned)
}

/// A new open file description on the map with this number; `flags` are
/// `BPF_F_RDONLY` and `BPF_F_WRONLY`.
///
/// # Errors
///
/// `EPERM`: it takes `CAP_SYS_ADMIN`; `ENOENT`: there is no such map.
pub fn open_map(id: u32, flags: u32) -> Result<OwnedFd, Errno> {
    let attributes = [pair(id, 0), pair(flags, 0), 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: none of these is a pointer.
    unsafe { bpf(MAP_GET_FD_BY_ID, &attributes) }.map(owned)
}

impl<'a> Map<'a> {
    /// The map behind `file`.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is none; `EOPNOTSUPP`: it is of another kind.
    pub fn of(file: BorrowedFd<'a>) -> Result<Self, Errno> {
        let mut info = MapInfo::default();
        let len = size_of::<MapInfo>() as u32;
        let at = (&raw mut info).expose_provenance() as u64;
        let attributes = [pair(number(file), len), at, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: the kernel writes at most `len` bytes, and every value of them is a `MapInfo`.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, &attributes) }?;
        match info.kind {
            MAP_TYPE_HASH | MAP_TYPE_ARRAY | MAP_TYPE_LPM_TRIE => Ok(Self { file, info }),
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    /// What the kernel tells of it.
    #[must_use]
    pub fn info(&self) -> &MapInfo {
        &self.info
    }

    /// The key that comes after `key`, or the first; `None` after the last. Of
    /// a hash the kernel finds it by its bucket.
    ///
    /// # Errors
    ///
    /// `EPERM`: the descriptor is not for reading.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, Errno> {
        let mut next = vec![0; self.info.key_size as usize];
        assert!(key.is_none_or(|key| key.len() == next.len()), "a key has the size of keys");
        let key = key.map_or(0, |key| key.as_ptr().expose_provenance() as u64);
        let attributes = self.element(key, next.as_mut_ptr().expose_provenance() as u64);
        // SAFETY: keys are as long as the map's.
        match unsafe { bpf(MAP_GET_NEXT_KEY, &attributes) } {
            Ok(_) => Ok(Some(next)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// `ENOENT`: there is none.
    pub fn value(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        assert_eq!(key.len(), self.info.key_size as usize, "a key has the size of keys");
        let mut value = vec![0; self.value_room()];
        let at = value.as_mut_ptr().expose_provenance() as u64;
        let attributes = self.element(key.as_ptr().expose_provenance() as u64, at);
        // SAFETY: the key is as long as the map's, and the value no shorter.
        unsafe { bpf(MAP_LOOKUP_ELEM, &attributes) }?;
        value.truncate(self.info.value_size as usize);
        Ok(value)
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    ///
    /// `E2BIG`: it is full; `EPERM`: it is frozen.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        assert_eq!(key.len(), self.info.key_size as usize, "a key has the size of keys");
        assert_eq!(value.len(), self.info.value_size as usize, "a value has the size of values");
        let mut padded = value.to_vec();
        padded.resize(self.value_room(), 0);
        let at = padded.as_ptr().expose_provenance() as u64;
        let attributes = self.element(key.as_ptr().expose_provenance() as u64, at);
        // SAFETY: the key is as long as the map's, and the value no shorter; both are only read.
        unsafe { bpf(MAP_UPDATE_ELEM, &attributes) }.map(drop)
    }

    /// Lets no system call change it any more.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it is mapped to be written.
    pub fn freeze(&self) -> Result<(), Errno> {
        let attributes = [pair(number(self.file), 0), 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: none of these is a pointer.
        unsafe { bpf(MAP_FREEZE, &attributes) }.map(drop)
    }

    /// How much the kernel moves for one value at most: these kinds do not have
    /// one for each CPU.
    fn value_room(&self) -> usize {
        (self.info.value_size as usize).next_multiple_of(8)
    }

    fn element(&self, key: u64, value: u64) -> Attributes {
        [pair(number(self.file), 0), key, value, 0, 0, 0, 0, 0, 0]
    }
}
