//! ThreadAreas that a thread has described to the processor, which 32-bit programs find their own memory by.
//!
//! - Kernel object: `thread_struct.tls_array`
//! - Truth from: `PTRACE_GET_THREAD_AREA`
//! - Image: `core-TID.img`, `thread_info.tls`
//! - Create: `PTRACE_SET_THREAD_AREA`, before the thread runs and selectors are loaded
//! - Scenarios: `cpu::thread_areas`

use dormouse_image::proto::core::CoreEntry;
use dormouse_image::proto::core::x86::UserDesc;
use dormouse_kernel::Errno;
use dormouse_kernel::ptrace::{self, Segment, Stopped};

use crate::Result;
use crate::corrupt::corrupt_core;

/// The place of the first in the processor's table.
const FIRST: u32 = 12;

/// There are three places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadAreas([Segment; 3]);

impl ThreadAreas {
    /// Reads them.
    pub fn collect(task: &Stopped) -> Result<Self> {
        let mut all = [Segment::NONE; 3];
        for (segment, place) in all.iter_mut().zip(FIRST..) {
            match task.segment(place) {
                Ok(found) => *segment = found,
                // The kernel runs no programs that could have any.
                Err(ptrace::Error::Refused { source: Errno::IO, .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(all))
    }

    /// Writes them to the image of the thread, unless there are none.
    pub fn encode(self, core: &mut CoreEntry) {
        if self.0 != [Segment::NONE; 3] {
            let all = self.0.into_iter().zip(FIRST..);
            core.thread_info.get_or_insert_default().tls =
                all.map(|(segment, place)| encode(segment, place)).collect();
        }
    }

    /// Reads them back and judges them.
    pub fn decode(core: &CoreEntry) -> Result<Self> {
        let mut all = [Segment::NONE; 3];
        for entry in core.thread_info.iter().flat_map(|info| &info.tls) {
            let place = entry.entry_number.checked_sub(FIRST);
            let segment = place.and_then(|place| all.get_mut(place as usize));
            let segment = segment.ok_or_else(|| corrupt_core("a segment", "it has no place"))?;
            *segment = decode(entry);
        }
        Ok(Self(all))
    }

    /// Gives them to a thread.
    pub fn set(self, task: &mut Stopped) -> Result<()> {
        for (segment, place) in self.0.into_iter().zip(FIRST..) {
            if segment != Segment::NONE {
                task.set_segment(place, segment)?;
            }
        }
        Ok(())
    }
}

// The bits of `struct user_desc`.
const IS_32BIT: u32 = 1;
const CONTENTS_LOW: u32 = 1 << 1;
const CONTENTS_HIGH: u32 = 1 << 2;
const READ_EXEC_ONLY: u32 = 1 << 3;
const LIMIT_IN_PAGES: u32 = 1 << 4;
const NOT_PRESENT: u32 = 1 << 5;
const USABLE: u32 = 1 << 6;

fn encode(Segment { base, limit, flags }: Segment, place: u32) -> UserDesc {
    UserDesc {
        entry_number: place,
        base_addr: base,
        limit,
        seg_32bit: flags & IS_32BIT != 0,
        contents_h: flags & CONTENTS_HIGH != 0,
        contents_l: flags & CONTENTS_LOW != 0,
        read_exec_only: flags & READ_EXEC_ONLY != 0,
        limit_in_pages: flags & LIMIT_IN_PAGES != 0,
        seg_not_present: flags & NOT_PRESENT != 0,
        usable: flags & USABLE != 0,
    }
}

fn decode(entry: &UserDesc) -> Segment {
    let bits = [
        (entry.seg_32bit, IS_32BIT),
        (entry.contents_h, CONTENTS_HIGH),
        (entry.contents_l, CONTENTS_LOW),
        (entry.read_exec_only, READ_EXEC_ONLY),
        (entry.limit_in_pages, LIMIT_IN_PAGES),
        (entry.seg_not_present, NOT_PRESENT),
        (entry.usable, USABLE),
    ];
    let flags = bits.into_iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum();
    Segment { base: entry.base_addr, limit: entry.limit, flags }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_survive_the_image() {
        let segment = |flags| Segment { base: 0x1234_5000, limit: 0xfffff, flags };
        let all = ThreadAreas([segment(0x51), Segment::NONE, segment(0x7f)]);
        let mut core = CoreEntry::default();
        all.encode(&mut core);
        assert_eq!(ThreadAreas::decode(&core).unwrap(), all);
        for entry in &mut core.thread_info.get_or_insert_default().tls {
            entry.entry_number += 1;
        }
        assert!(ThreadAreas::decode(&core).is_err());
        let none = ThreadAreas([Segment::NONE; 3]);
        let mut core = CoreEntry::default();
        none.encode(&mut core);
        assert_eq!(ThreadAreas::decode(&core).unwrap(), none);
    }
}
