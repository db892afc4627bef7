//! What of a memfd is allocated and was never written: by `fallocate(2)`, even behind its end.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use dormouse_image::proto::files::reg::GhostChunkEntry;
use dormouse_kernel::{PAGE_SIZE, page_cache};
use rustix::fs::{FallocateFlags, SeekFrom, Stat, fallocate, seek};
use rustix::io::Errno;

use super::Memfd;
use crate::file::FileKind;
use crate::{Error, Result};

/// Parts of a memfd, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allocated(Vec<Range<u64>>);

/// No page of a file is behind this.
const END: u64 = i64::MAX.cast_unsigned() / PAGE_SIZE * PAGE_SIZE;

impl Allocated {
    pub(super) fn collect(file: BorrowedFd<'_>, stat: &Stat) -> Result<Self> {
        // The kernel counts blocks of 512 bytes.
        let all = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if all == 0 {
            return Ok(Self::default());
        }
        let failed = Error::kernel("lseek", Memfd::NAME);
        let (holes, written) = holes(file).map_err(failed)?;
        if all <= written {
            return Ok(Self::default());
        }
        let mut found = Vec::new();
        for hole in holes {
            match search(file, hole, &mut found) {
                Ok(()) => {}
                // See the room's head.
                Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => return Ok(Self::default()),
                Err(source) => return Err(Error::kernel("cachestat", Memfd::NAME)(source)),
            }
        }
        Ok(Self(found))
    }

    pub(super) fn entries(&self) -> Vec<GhostChunkEntry> {
        let entry =
            |range: &Range<u64>| GhostChunkEntry { len: range.end - range.start, off: range.start };
        self.0.iter().map(entry).collect()
    }

    pub(super) fn decode(entries: &[GhostChunkEntry]) -> Result<Self, &'static str> {
        let range = |&GhostChunkEntry { len, off }: &GhostChunkEntry| {
            let end = off.checked_add(len).filter(|&end| end <= END && len > 0);
            Ok(off..end.ok_or("a part of it is allocated that cannot be")?)
        };
        entries.iter().map(range).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn apply(&self, file: BorrowedFd<'_>) -> Result<()> {
        for Range { start, end } in &self.0 {
            fallocate(file, FallocateFlags::KEEP_SIZE, *start, end - start)
                .map_err(Error::kernel("fallocate", Memfd::NAME))?;
        }
        Ok(())
    }
}

/// What was never written, in whole pages, and how many bytes were.
fn holes(file: BorrowedFd<'_>) -> Result<(Vec<Range<u64>>, u64), Errno> {
    let (mut holes, mut written, mut at) = (Vec::new(), 0, 0);
    loop {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // No more data.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        let hole = seek(file, SeekFrom::Hole(data))?.next_multiple_of(PAGE_SIZE);
        holes.push(at..data);
        written += hole.saturating_sub(data);
        at = hole;
    }
    holes.push(at..END);
    holes.retain(|hole| !hole.is_empty());
    Ok((holes, written))
}

/// Finds what is allocated of a range: halves those of which only some is.
fn search(
    file: BorrowedFd<'_>,
    range: Range<u64>,
    found: &mut Vec<Range<u64>>,
) -> Result<(), Errno> {
    let mut todo = vec![range];
    while let Some(range) = todo.pop() {
        let pages = (range.end - range.start) / PAGE_SIZE;
        match page_cache::allocated(file, range.clone())? {
            0 => {}
            all if all >= pages => match found.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => found.push(range),
            },
            _ => {
                let middle = range.start + pages / 2 * PAGE_SIZE;
                // The first half is next.
                todo.extend([middle..range.end, range.start..middle]);
            }
        }
    }
    Ok(())
}
