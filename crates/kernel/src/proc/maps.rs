//! `/proc/PID/maps` and `/proc/PID/smaps`.

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

macro_rules! vm_flags {
    ($($(#[$doc:ident $($text:tt)*])* $name:ident = $bit:literal, $code:literal;)*) => {
        bitflags! {
            /// `VmFlags:` of a mapping (`show_smap_vma_flags` in
            /// `fs/proc/task_mmu.c`). The bits are ours, the kernel prints
            /// letters.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
            pub struct VmFlags: u64 {
                $($(#[$doc $($text)*])* const $name = 1 << $bit;)*
                /// At least one flag that this program does not know.
                const UNKNOWN = 1 << 63;
            }
        }

        impl VmFlags {
            const fn from_code(code: [u8; 2]) -> Self {
                match &code {
                    $($code => Self::$name,)*
                    _ => Self::UNKNOWN,
                }
            }
        }
    };
}
vm_flags! {
    /// Readable.
    READ = 0, b"rd";
    /// Writable.
    WRITE = 1, b"wr";
    /// Executable.
    EXEC = 2, b"ex";
    /// Shared.
    SHARED = 3, b"sh";
    /// `mprotect(2)` may make it readable.
    MAY_READ = 4, b"mr";
    /// `mprotect(2)` may make it writable.
    MAY_WRITE = 5, b"mw";
    /// `mprotect(2)` may make it executable.
    MAY_EXEC = 6, b"me";
    /// Made with `MAP_SHARED`, though perhaps of a file open for reading only.
    MAY_SHARE = 7, b"ms";
    /// Grows downwards (`MAP_GROWSDOWN`).
    GROWS_DOWN = 8, b"gd";
    /// Frame numbers only, no pages behind them.
    PFN_MAP = 9, b"pf";
    /// Locked in memory.
    LOCKED = 10, b"lo";
    /// Memory of a device.
    IO = 11, b"io";
    /// `MADV_SEQUENTIAL`.
    SEQUENTIAL_READ = 12, b"sr";
    /// `MADV_RANDOM`.
    RANDOM_READ = 13, b"rr";
    /// `MADV_DONTFORK`.
    DONT_COPY = 14, b"dc";
    /// `mremap(2)` may not make it longer.
    DONT_EXPAND = 15, b"de";
    /// `mlock2(MLOCK_ONFAULT)`.
    LOCK_ON_FAULT = 16, b"lf";
    /// Counts as committed memory.
    ACCOUNT = 17, b"ac";
    /// `MAP_NORESERVE`.
    NO_RESERVE = 18, b"nr";
    /// hugetlbfs.
    HUGETLB = 19, b"ht";
    /// `MAP_SYNC`.
    SYNC = 20, b"sf";
    /// Depends on the architecture.
    ARCH_1 = 21, b"ar";
    /// `MADV_WIPEONFORK`.
    WIPE_ON_FORK = 22, b"wf";
    /// `MADV_DONTDUMP`.
    DONT_DUMP = 23, b"dd";
    /// Guarded pages for branch targets (arm64).
    BTI = 24, b"bt";
    /// New, to soft-dirty tracking.
    SOFT_DIRTY = 25, b"sd";
    /// Pages and bare frame numbers.
    MIXED_MAP = 26, b"mm";
    /// `MADV_HUGEPAGE`.
    HUGE_PAGE = 27, b"hg";
    /// `MADV_NOHUGEPAGE`.
    NO_HUGE_PAGE = 28, b"nh";
    /// `MADV_MERGEABLE`.
    MERGEABLE = 29, b"mg";
    /// userfaultfd, missing pages.
    UFFD_MISSING = 30, b"um";
    /// userfaultfd, write protection.
    UFFD_WP = 31, b"uw";
    /// userfaultfd, minor faults.
    UFFD_MINOR = 32, b"ui";
    /// Memory tagging (arm64).
    MTE = 33, b"mt";
    /// Shadow stack.
    SHADOW_STACK = 34, b"ss";
    /// `MAP_DROPPABLE`.
    DROPPABLE = 35, b"dp";
    /// `mseal(2)`.
    SEALED = 36, b"sl";
    /// May have guard pages (`MADV_GUARD_INSTALL`).
    MAYBE_GUARD = 37, b"gu";
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
    loop {
        scan.blanks();
        match *scan.word() {
            [a, b] => flags |= VmFlags::from_code([a, b]),
            [] => break,
            _ => return scan.error("two letters of a flag"),
        }
    }
    scan.end_line();
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::{Perms, VmFlags, VmaName, parse_maps, parse_smaps};
    use crate::{Addr, DeviceId};
    use std::path::Path;
    use std::sync::Arc;

    const CAPTURED: &[u8] = include_bytes!("../../tests/captured/smaps");

    #[test]
    fn smaps_are_read_whole() {
        let maps = parse_smaps(CAPTURED).unwrap();
        assert_eq!(maps.len(), 22);
        assert!(maps.iter().all(|map| !map.flags.contains(VmFlags::UNKNOWN)));
        assert!(maps.iter().all(|map| map.page_size == 4096));

        let shared = &maps[1];
        assert_eq!(shared.vma.range.start(), Addr::from_raw(0x1_2000_0000));
        assert_eq!(shared.vma.range.len(), 1 << 20);
        assert_eq!(shared.vma.perms, Perms::READ | Perms::WRITE | Perms::SHARED);
        assert_eq!((shared.resident, shared.private_dirty), (1 << 20, 1 << 20));

        let odd = &maps[4];
        let name = VmaName::Path(Path::new("/tmp/odd name\\040 with\nline").into());
        assert_eq!(odd.vma.name, name);
        assert_eq!(odd.vma.device, DeviceId { major: 0xfe, minor: 0 });
        assert_eq!(odd.vma.inode, 10_012_303);
        assert!(odd.flags.contains(VmFlags::SEALED));
        assert_eq!(maps[5].vma.offset, 0x1000);

        assert!(maps[6].flags.contains(VmFlags::GROWS_DOWN | VmFlags::LOCKED));
        let advised = VmFlags::DONT_COPY
            | VmFlags::NO_RESERVE
            | VmFlags::WIPE_ON_FORK
            | VmFlags::DONT_DUMP
            | VmFlags::HUGE_PAGE
            | VmFlags::MERGEABLE;
        assert!(maps[7].flags.contains(advised));
        assert_eq!(maps[8].vma.perms, Perms::empty());
        assert_eq!(maps[9].anonymous, 4 << 20);
        assert_eq!(maps[9].anon_huge, 4 << 20);
    }

    #[test]
    fn special_mappings_are_known_by_name() {
        let maps = parse_smaps(CAPTURED).unwrap();
        let names: Vec<_> = maps.iter().map(|map| map.vma.name.clone()).collect();
        assert_eq!(names[0], VmaName::None);
        assert_eq!(names[10], VmaName::Heap);
        assert!(matches!(&names[16], VmaName::Other(name) if &**name == "anon_inode:[io_uring]"));
        assert_eq!(
            names[17..],
            [VmaName::Vvar, VmaName::VvarVclock, VmaName::Vdso, VmaName::Stack, VmaName::Vsyscall]
        );
    }

    #[test]
    fn neighbours_share_one_name() {
        let maps = parse_smaps(CAPTURED).unwrap();
        let paths: Vec<_> = maps
            .iter()
            .filter_map(|map| match &map.vma.name {
                VmaName::Path(path) if path.ends_with("libc.so.6") => Some(path),
                _ => None,
            })
            .collect();
        assert_eq!(paths.len(), 5);
        assert!(paths.iter().all(|path| Arc::ptr_eq(path, paths[0])));
    }

    #[test]
    fn names_given_by_prctl() {
        let maps = parse_maps(
            b"7f00-8f00 rw-p 00000000 00:00 0                  [anon: my [heap]]\n\
              9f00-af00 rw-s 00000000 00:01 7                  [anon_shmem:x]\n",
        )
        .unwrap();
        assert!(matches!(&maps[0].name, VmaName::Anon(name) if &**name == " my [heap]"));
        assert!(matches!(&maps[1].name, VmaName::AnonShmem(name) if &**name == "x"));
    }

    #[test]
    fn malformed_lines_are_errors() {
        for line in [
            "8f00-7f00 rw-p 00000000 00:00 0 \n",
            "7f00-8f00 rw- 00000000 00:00 0 \n",
            "7f00 8f00 rw-p 00000000 00:00 0 \n",
            "7f00-8f00 rw-p 00000000 0000 0 \n",
        ] {
            assert!(parse_maps(line.as_bytes()).is_err(), "{line}");
        }
        let cut = CAPTURED.len() - 20;
        assert!(parse_smaps(&CAPTURED[..cut]).is_err());
    }
}
