//! Writing to a file by mapping it, where `write(2)` does not: hugetlbfs.
#![allow(unsafe_code)]

use crate::Errno;
use rustix::fs::fstat;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::BorrowedFd;

/// Writes `bytes` to a file from `offset` on, which is not made longer. Where it
/// is zeros the file stays as it is, so that no page is taken for nothing.
///
/// # Errors
///
/// `ENOMEM`: there are not enough huge pages; `EINVAL`: the file ends before.
pub fn write_mapped(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    if bytes.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    let stat = fstat(file)?;
    // What it is mapped in; of hugetlbfs that is the size of its pages.
    let unit = u64::try_from(stat.st_blksize).map_err(|_| Errno::INVAL)?;
    let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::INVAL)?;
    if !unit.is_power_of_two() || end > u64::try_from(stat.st_size).unwrap_or(0) {
        return Err(Errno::INVAL);
    }
    let start = offset & !(unit - 1);
    let len = (end - start).next_multiple_of(unit) as usize;
    // SAFETY: the kernel finds the place, so nothing of ours is replaced.
    let mapped = unsafe {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, file, start)?
    };
    // SAFETY: `len` bytes from `mapped` on were just mapped to be written, nobody has a
    // reference to them, and the file reaches as far, with pages that were reserved when it was
    // mapped. The bytes end within, as `end - start` is at most `len`.
    unsafe {
        let to = mapped.cast::<u8>().add((offset - start) as usize);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        munmap(mapped, len)
    }
}

#[cfg(test)]
mod tests {
    use super::write_mapped;
    use crate::Errno;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::AsFd;

    #[test]
    fn bytes_are_written_where_they_belong() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 10_000).unwrap();
        write_mapped(file.as_fd(), &[7; 5000], 4000).unwrap();
        let mut found = vec![1; 10_000];
        assert_eq!(rustix::io::pread(&file, &mut found[..], 0), Ok(10_000));
        let is_ours = |at: usize| (4000..9000).contains(&at);
        assert!(found.iter().enumerate().all(|(at, &byte)| byte == 7 * u8::from(is_ours(at))));
        assert_eq!(write_mapped(file.as_fd(), &[7; 5000], 8000), Err(Errno::INVAL));
    }
}
