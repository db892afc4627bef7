//! Memory.
#![allow(unsafe_code)]

use super::{Reason, State};
use crate::pagemap::{Categories, PageEntry, Pagemap, ScanQuery};
use crate::proc::{self, Entry, ProcDir, VmaName};
use crate::sys::check;
use crate::{Addr, AddrRange, Errno, PAGE_SIZE};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A page of memory to try things on.
struct Page(*mut c_void);

impl Page {
    /// Mapped, and written to.
    fn new() -> Result<Self, Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let len = PAGE_SIZE as usize;
        // SAFETY: a new mapping at an address of the kernel's choice is in
        // nobody's way, and may be written to.
        unsafe {
            let page = mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::PRIVATE)?;
            page.cast::<u8>().write_volatile(1);
            Ok(Self(page))
        }
    }

    fn range(&self) -> AddrRange {
        let start = Addr::from_raw(self.0.addr() as u64);
        AddrRange::with_len(start, PAGE_SIZE).expect("a mapping ends below the last address")
    }

    fn entry(&self) -> Result<PageEntry, Errno> {
        let mut entries = Vec::new();
        own_pagemap()?.entries(self.range(), &mut entries).map_err(|error| error.source)?;
        entries.first().copied().ok_or(Errno::NODATA)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the page is this value's own.
        let _unmapped = unsafe { munmap(self.0, PAGE_SIZE as usize) };
    }
}

fn errno(error: &proc::Error) -> Errno {
    error.errno().unwrap_or(Errno::PROTO)
}

fn own_pagemap() -> Result<Pagemap, Errno> {
    let dir = ProcDir::of_self().map_err(|error| errno(&error))?;
    Pagemap::open(&dir).map_err(|error| errno(&error))
}

pub(super) fn map_files() -> State {
    let trial = || -> Result<bool, proc::Error> {
        let dir = ProcDir::of_self()?;
        for vma in dir.maps()? {
            if matches!(vma.name, VmaName::Path(_)) {
                dir.open_entry(Entry::MapFile(vma.range), rustix::fs::OFlags::PATH)?;
                return Ok(true);
            }
        }
        Ok(false)
    };
    match trial() {
        Ok(found) => State::found(found, "no file is mapped"),
        Err(error) => State::refused(errno(&error)),
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) fn map_vdso() -> State {
    const ARCH_MAP_VDSO_64: libc::c_int = 0x2003;
    if vdso_addr().is_none() {
        return State::No(Reason::Finding("this process has no vDSO"));
    }
    // SAFETY: this process has a vDSO, so the kernel maps no second one.
    let mapped = check(unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_MAP_VDSO_64, PAGE_SIZE) });
    match mapped {
        Ok(_) | Err(Errno::EXIST) => State::Yes,
        Err(errno) => State::refused(errno),
    }
}

#[cfg(target_arch = "x86_64")]
fn vdso_addr() -> Option<AddrRange> {
    let maps = ProcDir::of_self().and_then(|dir| dir.maps()).ok()?;
    maps.into_iter().find(|vma| vma.name == VmaName::Vdso).map(|vma| vma.range)
}

pub(super) fn set_mm_map() -> State {
    /// `struct prctl_mm_map` of `linux/prctl.h`: twelve addresses, a pointer,
    /// a length and a descriptor.
    const SIZE: u32 = 104;
    let mut size = 0u32;
    // SAFETY: the kernel writes one u32.
    let asked = check(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_MM,
            libc::PR_SET_MM_MAP_SIZE as libc::c_ulong,
            &raw mut size,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    });
    match asked {
        Ok(_) => State::found(size == SIZE, "its struct has another size"),
        Err(errno) => State::refused(errno),
    }
}

fn scan_for(categories: Categories) -> Result<bool, Errno> {
    let page = Page::new()?;
    let query = ScanQuery { all_of: categories, report: categories, ..ScanQuery::default() };
    let mut regions = Vec::new();
    own_pagemap()?.scan(page.range(), &query, &mut regions).map_err(|error| error.source)?;
    Ok(!regions.is_empty())
}

pub(super) fn pagemap_scan() -> State {
    match scan_for(Categories::PRESENT) {
        Ok(found) => State::found(found, "a page that was written to is not found"),
        Err(errno) => State::refused(errno),
    }
}

pub(super) fn guard_pages() -> State {
    // The page is none: it is enough that the kernel knows what is asked.
    State::of(scan_for(Categories::GUARD))
}

pub(super) fn frame_numbers() -> State {
    match Page::new().and_then(|page| page.entry()) {
        Ok(entry) if entry.frame().is_some() => State::Yes,
        Ok(_) => State::Denied(Reason::Finding("they read as zero")),
        Err(errno) => State::refused(errno),
    }
}

pub(super) fn soft_dirty() -> State {
    // A page of a new mapping is always dirty.
    match Page::new().and_then(|page| page.entry()) {
        Ok(entry) => State::found(entry.is_soft_dirty(), "a new page is not soft-dirty"),
        Err(errno) => State::refused(errno),
    }
}

pub(super) fn write_protect_async() -> State {
    /// `struct uffdio_api`.
    #[repr(C)]
    struct UffdioApi {
        api: u64,
        features: u64,
        ioctls: u64,
    }
    /// `_IOWR(0xaa, 0x3f, struct uffdio_api)`.
    const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
    const UFFD_API: u64 = 0xaa;
    const WP_UNPOPULATED: u64 = 1 << 13;
    const WP_ASYNC: u64 = 1 << 15;

    let trial = || {
        // SAFETY: no memory is involved.
        let fd = check(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        let mut api = UffdioApi { api: UFFD_API, features: WP_UNPOPULATED | WP_ASYNC, ioctls: 0 };
        // SAFETY: the kernel reads and writes a struct of this layout.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, &raw mut api) }.into())
    };
    State::of(trial())
}

pub(super) fn anon_vma_name() -> State {
    let page = match Page::new() {
        Ok(page) => page,
        Err(errno) => return State::refused(errno),
    };
    // SAFETY: the kernel reads a string and names a mapping of our own.
    State::of(check(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_VMA,
            libc::PR_SET_VMA_ANON_NAME as libc::c_ulong,
            page.0,
            PAGE_SIZE,
            c"dormouse".as_ptr(),
        )
    }))
}

pub(super) fn memfd_secret() -> State {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) });
    // SAFETY: the kernel has just made this descriptor for us.
    State::of(fd.map(|fd| drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })))
}
