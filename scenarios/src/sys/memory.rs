//! Memory: mappings with patterns in them, and the frames under them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::ptr;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// A mapping of this process. It is never unmapped by being dropped: a
/// scenario's memory is its state.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    start: usize,
    len: usize,
}

/// The `index`th word of the pattern `seed`; no two pages have the same.
fn word(seed: u64, index: usize) -> u64 {
    let mut x = (seed << 40) ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}

impl Area {
    /// Private anonymous memory, readable and writable.
    pub(crate) fn anonymous(len: usize) -> Self {
        Self::map(len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE, None)
    }

    /// `mmap(2)` at an address of the kernel's choice; anonymous without a file.
    pub(crate) fn map(
        len: usize,
        prot: i32,
        flags: i32,
        file: Option<(BorrowedFd<'_>, i64)>,
    ) -> Self {
        Self::map_at(0, len, prot, flags, file).expect("mmap")
    }

    /// `mmap(2)` at this address, which must be free, or anywhere for 0.
    pub(crate) fn map_at(
        start: usize,
        len: usize,
        prot: i32,
        flags: i32,
        file: Option<(BorrowedFd<'_>, i64)>,
    ) -> io::Result<Self> {
        let fixed = if start == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
        let (anonymous, fd, offset) = match file {
            Some((fd, offset)) => (0, fd.as_raw_fd(), offset),
            None => (libc::MAP_ANONYMOUS, -1, 0),
        };
        // SAFETY: nothing that is mapped is replaced (MAP_FIXED_NOREPLACE or no address at all).
        let at = unsafe {
            libc::mmap(
                ptr::without_provenance_mut(start),
                len,
                prot,
                flags | anonymous | fixed,
                fd,
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: at.expose_provenance(), len })
    }

    /// What another call than `mmap(2)` has mapped.
    pub(crate) fn mapped(start: usize, len: usize) -> Self {
        Self { start, len }
    }

    pub(crate) fn start(self) -> usize {
        self.start
    }

    pub(crate) fn end(self) -> usize {
        self.start + self.len
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    pub(crate) fn pointer(self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start)
    }

    /// A part of it, in pages.
    pub(crate) fn pages(self, first: usize, count: usize) -> Self {
        assert!((first + count) * PAGE <= self.len);
        Self { start: self.start + first * PAGE, len: count * PAGE }
    }

    /// As many bytes right below it, which the mapping is about to grow into.
    pub(crate) fn below(self, len: usize) -> Self {
        Self { start: self.start - len, len }
    }

    /// A copy of its bytes.
    pub(crate) fn bytes(self) -> Vec<u8> {
        (0..self.len).step_by(8).flat_map(|at| self.read(at).to_ne_bytes()).collect()
    }

    /// Writes these bytes at its start.
    pub(crate) fn put(self, bytes: &[u8]) {
        for (at, part) in (0..).step_by(8).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write(at, u64::from_ne_bytes(word));
        }
    }

    /// Writes the pattern of this seed over all of it. It must be writable.
    pub(crate) fn fill(self, seed: u64) {
        for index in 0..self.len / 8 {
            self.write(index * 8, word(seed, index));
        }
    }

    /// Is all of it the pattern of this seed? It must be readable.
    #[track_caller]
    pub(crate) fn verify(self, seed: u64, what: &str) {
        let wrong = (0..self.len / 8).find(|&i| self.read(i * 8) != word(seed, i));
        if let Some(index) = wrong {
            let (found, expected) = (self.read(index * 8), word(seed, index));
            check_eq!(found, expected, "{what}: word at byte {:#x}", index * 8);
        }
    }

    /// Is all of it zero?
    #[track_caller]
    pub(crate) fn verify_zero(self, what: &str) {
        if let Some(index) = (0..self.len / 8).find(|&i| self.read(i * 8) != 0) {
            check_eq!(self.read(index * 8), 0, "{what}: word at byte {:#x}", index * 8);
        }
    }

    /// The word at this byte offset.
    pub(crate) fn read(self, offset: usize) -> u64 {
        assert!(offset + 8 <= self.len);
        // SAFETY: inside the mapping, which is never unmapped; volatile, for the kernel and other
        // processes change it too.
        unsafe { ptr::with_exposed_provenance::<u64>(self.start + offset).read_volatile() }
    }

    /// Changes the word at this byte offset.
    pub(crate) fn write(self, offset: usize, value: u64) {
        assert!(offset + 8 <= self.len);
        // SAFETY: as for `read`; nothing in Rust holds a reference into the mapping.
        unsafe {
            ptr::with_exposed_provenance_mut::<u64>(self.start + offset).write_volatile(value)
        }
    }

    /// `madvise(2)`.
    pub(crate) fn advise(self, advice: i32) -> io::Result<()> {
        // SAFETY: only this mapping is concerned, and only through volatile accesses.
        super::done(unsafe { libc::madvise(self.pointer().cast(), self.len, advice) }).map(drop)
    }

    /// `mprotect(2)`.
    pub(crate) fn protect(self, prot: i32) {
        // SAFETY: no reference points into the mapping.
        super::done(unsafe { libc::mprotect(self.pointer().cast(), self.len, prot) })
            .expect("mprotect");
    }

    /// `mprotect(2)`, which may be refused.
    pub(crate) fn try_protect(self, prot: i32) -> bool {
        // SAFETY: no reference points into the mapping.
        unsafe { libc::mprotect(self.pointer().cast(), self.len, prot) == 0 }
    }

    /// `mremap(2)` to the place of another area, which goes.
    pub(crate) fn relocate(self, to: Self) -> Self {
        const MOVE: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let (from, target) = (self.pointer().cast(), to.pointer());
        // SAFETY: no reference points into either mapping.
        let at = unsafe { libc::mremap(from, self.len, self.len, MOVE, target) };
        assert_eq!(at.addr(), to.start, "mremap: {}", io::Error::last_os_error());
        Self { len: self.len, ..to }
    }

    /// `munmap(2)`.
    pub(crate) fn unmap(self) {
        // SAFETY: no reference points into the mapping, and the caller is done with it.
        super::done(unsafe { libc::munmap(self.pointer().cast(), self.len) }).expect("munmap");
    }
}

/// Which pages of the area are present (`Documentation/admin-guide/mm/pagemap.rst`).
pub(crate) fn present(area: Area) -> Vec<bool> {
    pagemap(area).into_iter().map(|e| e >> 63 == 1).collect()
}

/// The frame number of every page of the area, 0 where none is present or the
/// reader lacks `CAP_SYS_ADMIN` (`Documentation/admin-guide/mm/pagemap.rst`).
pub(crate) fn page_frames(area: Area) -> Vec<u64> {
    pagemap(area).into_iter().map(|e| if e >> 63 == 1 { e & ((1 << 55) - 1) } else { 0 }).collect()
}

/// Which pages of the area a userfaultfd has write-protected.
pub(crate) fn write_protected(area: Area) -> Vec<usize> {
    let pages = pagemap(area).into_iter().enumerate();
    pages.filter(|(_, entry)| entry >> 57 & 1 == 1).map(|(page, _)| page).collect()
}

fn pagemap(area: Area) -> Vec<u64> {
    let file = File::open("/proc/self/pagemap").expect("own pagemap");
    let mut bytes = vec![0; area.len() / PAGE * 8];
    file.read_exact_at(&mut bytes, (area.start() / PAGE * 8) as u64).expect("pagemap of a mapping");
    bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes"))).collect()
}
