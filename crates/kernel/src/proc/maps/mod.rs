//! `/proc/PID/maps` and `/proc/PID/smaps`.

mod flags;

pub use flags::VmFlags;

use super::scan::{ParseError, Scan, unescape};
use crate::{Addr, AddrRange, DeviceId};
use bitflags::bitflags;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

bitflags! {
    /// The four letters of a maps line.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Perms: u8 {
        /// `PROT_READ`.
        const READ = 1;
        /// `PROT_WRITE`.
        const WRITE = 2;
        /// `PROT_EXEC`.
        const EXEC = 4;
        /// May be shared (`VM_MAYSHARE`): made with `MAP_SHARED`.
        const SHARED = 8;
    }
}

/// What the kernel prints behind the inode number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VmaName {
    /// Nothing: private anonymous memory.
    None,
    /// A path, as the reader's root sees it. It may be stale or end in
    /// ` (deleted)`; only `map_files` leads to the file for sure.
    /// Shared anonymous memory is `/dev/zero (deleted)`, System V segments are
    /// `/SYSV........ (deleted)`, memfds `/memfd:NAME (deleted)`.
    Path(Arc<Path>),
    /// `[heap]`: in part or whole between `start_brk` and `brk`.
    Heap,
    /// `[stack]`: has `start_stack` in it.
    Stack,
    /// `[vdso]`.
    Vdso,
    /// `[vvar]`.
    Vvar,
    /// `[vvar_vclock]`: split from vvar in Linux 6.13.
    VvarVclock,
    /// `[vsyscall]`: in the kernel's half, the same in every process.
    Vsyscall,
    /// `[uprobes]`.
    Uprobes,
    /// `[anon:NAME]`, see `PR_SET_VMA_ANON_NAME`.
    Anon(Arc<OsStr>),
    /// `[anon_shmem:NAME]`: the same for shared anonymous memory.
    AnonShmem(Arc<OsStr>),
    /// Anything else which is no path: `anon_inode:[io_uring]`, `socket:[N]`,
    /// `[vectors]`.
    Other(Arc<OsStr>),
}

impl VmaName {
    fn parse(raw: &[u8]) -> Self {
        match raw {
            b"" => Self::None,
            b"[heap]" => Self::Heap,
            b"[stack]" => Self::Stack,
            b"[vdso]" => Self::Vdso,
            b"[vvar]" => Self::Vvar,
            b"[vvar_vclock]" => Self::VvarVclock,
            b"[vsyscall]" => Self::Vsyscall,
            b"[uprobes]" => Self::Uprobes,
            [b'/', ..] => {
                // In this file the kernel escapes line ends and nothing else.
                let path = OsString::from_vec(unescape(raw, b"\n"));
                Self::Path(Path::new(&path).into())
            }
            _ => {
                let bracket = |prefix: &[u8]| {
                    let name = raw.strip_prefix(prefix)?.strip_suffix(b"]")?;
                    Some(OsStr::from_bytes(name).into())
                };
                if let Some(name) = bracket(b"[anon:") {
                    Self::Anon(name)
                } else if let Some(name) = bracket(b"[anon_shmem:") {
                    Self::AnonShmem(name)
                } else {
                    Self::Other(OsStr::from_bytes(raw).into())
                }
            }
        }
    }
}

/// One mapping, as in `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vma {
    /// Where.
    pub range: AddrRange,
    /// What may be done there.
    pub perms: Perms,
    /// Where in the file it starts, in bytes; 0 without a file.
    pub offset: u64,
    /// The file's device, as its super block has it: on btrfs and overlayfs
    /// `stat(2)` gives another.
    pub device: DeviceId,
    /// The file's inode; 0 without a file.
    pub inode: u64,
    /// Its name.
    pub name: VmaName,
}

/// One mapping, as in `/proc/PID/smaps`. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smap {
    /// The line that maps has too.
    pub vma: Vma,
    /// What the kernel knows about it.
    pub flags: VmFlags,
    /// The page size of the memory behind it; 2 MiB or 1 GiB for hugetlb.
    pub page_size: u64,
    /// In memory.
    pub resident: u64,
    /// In memory and written to since it was read or made, in this process
    /// only.
    pub private_dirty: u64,
    /// Anonymous, that is not (or no longer) of the file.
    pub anonymous: u64,
    /// Anonymous and in transparent huge pages.
    pub anon_huge: u64,
    /// Swapped out. For shared memory: what nobody else has swapped in.
    pub swapped: u64,
    /// In hugetlb pages mapped by others too, and by this process only.
    pub hugetlb: (u64, u64),
    /// `pkey_mprotect(2)`, where there are keys.
    pub protection_key: Option<u32>,
}

/// Parses all of `/proc/PID/maps`.
///
/// # Errors
///
/// A line is malformed.
pub fn parse_maps(bytes: &[u8]) -> Result<Vec<Vma>, ParseError> {
    let mut names = Names::default();
    let mut scan = Scan::new(bytes);
    let mut vmas = Vec::new();
    while !scan.is_empty() {
        vmas.push(vma(&mut scan, &mut names)?);
    }
    Ok(vmas)
}

/// Parses all of `/proc/PID/smaps`.
///
/// # Errors
///
/// A line is malformed.
pub fn parse_smaps(bytes: &[u8]) -> Result<Vec<Smap>, ParseError> {
    let mut names = Names::default();
    let mut scan = Scan::new(bytes);
    let mut maps = Vec::new();
    while !scan.is_empty() {
        maps.push(smap(&mut scan, &mut names)?);
    }
    Ok(maps)
}

/// Parses the mappings that are there as a whole at the start of `bytes`, which
/// are a piece of `/proc/PID/smaps`, and says how many bytes they take.
pub(super) fn parse_some_smaps(bytes: &[u8], maps: &mut Vec<Smap>) -> Result<usize, ParseError> {
    let is_last = |line: &&[u8]| line.starts_with(b"VmFlags:") && line.ends_with(b"\n");
    let behind: usize = bytes
        .split_inclusive(|&b| b == b'\n')
        .rev()
        .take_while(|line| !is_last(line))
        .map(<[u8]>::len)
        .sum();
    let whole = bytes.len() - behind;
    maps.extend(parse_smaps(&bytes[..whole])?);
    Ok(whole)
}

/// The last name seen: the mappings of one file stand together, and share it.
struct Names<'a> {
    raw: &'a [u8],
    name: VmaName,
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self { raw: b"", name: VmaName::None }
    }
}

impl<'a> Names<'a> {
    fn get(&mut self, raw: &'a [u8]) -> VmaName {
        if raw.is_empty() {
            return VmaName::None;
        }
        if self.raw != raw {
            *self = Self { raw, name: VmaName::parse(raw) };
        }
        self.name.clone()
    }
}

fn vma<'a>(scan: &mut Scan<'a>, names: &mut Names<'a>) -> Result<Vma, ParseError> {
    let start = Addr::from_raw(scan.hex("the start of a mapping")?);
    scan.expect("-")?;
    let end = Addr::from_raw(scan.hex("the end of a mapping")?);
    let Some(range) = AddrRange::new(start, end) else {
        return scan.error("an end above the start");
    };
    scan.expect(" ")?;
    let perms = match *scan.word() {
        [r, w, x, s] => {
            let mut perms = Perms::empty();
            perms.set(Perms::READ, r == b'r');
            perms.set(Perms::WRITE, w == b'w');
            perms.set(Perms::EXEC, x == b'x');
            perms.set(Perms::SHARED, s == b's');
            perms
        }
        _ => return scan.error("four letters of permissions"),
    };
    let offset = scan.next_hex("an offset")?;
    let major = scan.next_hex("a major device number")?;
    scan.expect(":")?;
    let minor = scan.hex("a minor device number")?;
    let inode = scan.next_dec("an inode")?;
    // A name is set off by blanks, and may start with some of its own only
    // as [anon: NAME]: a path starts with a slash.
    scan.blanks();
    let name = names.get(scan.line());
    Ok(Vma { range, perms, offset, device: DeviceId { major, minor }, inode, name })
}

fn smap<'a>(scan: &mut Scan<'a>, names: &mut Names<'a>) -> Result<Smap, ParseError> {
    let mut smap = Smap {
        vma: vma(scan, names)?,
        flags: VmFlags::empty(),
        page_size: 0,
        resident: 0,
        private_dirty: 0,
        anonymous: 0,
        anon_huge: 0,
        swapped: 0,
        hugetlb: (0, 0),
        protection_key: None,
    };
    // VmFlags is the last line of each mapping.
    loop {
        let label = scan.until(b':');
        scan.blanks();
        let figure = match label {
            b"KernelPageSize" => &mut smap.page_size,
            b"Rss" => &mut smap.resident,
            b"Private_Dirty" => &mut smap.private_dirty,
            b"Anonymous" => &mut smap.anonymous,
            b"AnonHugePages" => &mut smap.anon_huge,
            b"Swap" => &mut smap.swapped,
            b"Shared_Hugetlb" => &mut smap.hugetlb.0,
            b"Private_Hugetlb" => &mut smap.hugetlb.1,
            b"ProtectionKey" => {
                smap.protection_key = Some(scan.dec("a protection key")?);
                scan.end_line();
                continue;
            }
            b"VmFlags" => {
                smap.flags = flags(scan)?;
                return Ok(smap);
            }
            b"Size" | b"MMUPageSize" | b"Pss" | b"Pss_Dirty" | b"Shared_Clean"
            | b"Shared_Dirty" | b"Private_Clean" | b"Referenced" | b"KSM" | b"LazyFree"
            | b"ShmemPmdMapped" | b"FilePmdMapped" | b"SwapPss" | b"Locked" | b"THPeligible" => {
                scan.line();
                continue;
            }
            b"" => return scan.error("VmFlags"),
            _ => {
                scan.unknown_line();
                continue;
            }
        };
        let kib: u64 = scan.dec("a size")?;
        *figure = match kib.checked_mul(1024) {
            Some(bytes) => bytes,
            None => return scan.error("a size"),
        };
        scan.expect(" kB")?;
        scan.end_line();
    }
}

fn flags(scan: &mut Scan<'_>) -> Result<VmFlags, ParseError> {
    let mut flags = VmFlags::empty();
    let mut nameless = 0;
    loop {
        scan.blanks();
        match *scan.word() {
            [b'?', b'?'] => nameless += 1,
            [a, b] => flags |= VmFlags::from_code([a, b]),
            [] => break,
            _ => return scan.error("two letters of a flag"),
        }
    }
    scan.end_line();
    flags |= match nameless {
        0 => VmFlags::empty(),
        // The one flag of common memory that older kernels have no letters for.
        1 if flags.contains(VmFlags::LOCKED) => VmFlags::LOCK_ON_FAULT,
        _ => VmFlags::UNKNOWN,
    };
    Ok(flags)
}

#[cfg(test)]
mod tests;
