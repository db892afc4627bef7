//! Mappings as tests need them.

use std::sync::Arc;

use dormouse_kernel::shm::SegmentId;
use dormouse_kernel::{Addr, AddrRange, PAGE_SIZE};
use proptest::prelude::*;

use super::vma::{Access, Advice, Backing, FileRange, Lock, ProtFlags, ShmemId, Traits, Vma};
use crate::file::FileId;

pub(super) fn range(start: u64, end: u64) -> AddrRange {
    AddrRange::new(Addr::from_raw(start), Addr::from_raw(end)).unwrap()
}

/// `pages` pages from page `page` on.
pub(super) fn pages(page: u64, pages: u64) -> AddrRange {
    range(page * PAGE_SIZE, (page + pages) * PAGE_SIZE)
}

pub(super) fn anonymous(range: AddrRange) -> Vma {
    Vma {
        range,
        prot: ProtFlags::READ | ProtFlags::WRITE,
        backing: Backing::Anonymous { heap: false },
        traits: Traits::ACCOUNTED,
        advice: Advice::empty(),
        lock: Lock::None,
        name: None,
        huge: None,
    }
}

pub(super) fn private_file(range: AddrRange, file: u32, offset: u64) -> Vma {
    Vma {
        prot: ProtFlags::READ | ProtFlags::EXEC,
        backing: Backing::File {
            file: FileRange {
                file: FileId::from_raw(file),
                access: Access::ReadOnly,
                offset,
                memfd: false,
                socket: false,
            },
            private: true,
        },
        traits: Traits::empty(),
        ..anonymous(range)
    }
}

pub(super) fn shared_memory(range: AddrRange, object: u32, offset: u64) -> Vma {
    Vma {
        backing: Backing::SharedMemory { object: ShmemId::from_raw(object), offset },
        traits: Traits::empty(),
        ..anonymous(range)
    }
}

fn prot() -> impl Strategy<Value = ProtFlags> {
    (0..8u32).prop_map(ProtFlags::from_bits_retain)
}

/// A mapping at `range` of any kind `mmap(2)` makes, with few different files and objects, so
/// that two of them often agree.
pub(super) fn mapping(range: AddrRange) -> impl Strategy<Value = Vma> {
    let file = (0..3u32, any::<bool>(), any::<bool>(), any::<bool>(), 0..4u64).prop_map(
        move |(file, memfd, sealed, private, page)| Backing::File {
            file: FileRange {
                file: FileId::from_raw(file),
                access: match private {
                    true => Access::ReadOnly,
                    false if memfd && sealed => Access::Sealed,
                    false => Access::ReadWrite,
                },
                offset: range.start().as_raw() + page * PAGE_SIZE,
                memfd,
                socket: false,
            },
            private,
        },
    );
    let object = (1..3u32, 0..2u64).prop_map(move |(object, page)| Backing::SharedMemory {
        object: ShmemId::from_raw(object),
        offset: range.start().as_raw() + page * PAGE_SIZE,
    });
    let backing = prop_oneof![
        4 => any::<bool>().prop_map(|heap| Backing::Anonymous { heap }),
        1 => Just(Backing::Droppable),
        3 => file,
        2 => object,
    ];
    let advice = prop_oneof![
        3 => Just(Advice::empty()),
        1 => Just(Advice::DONT_FORK | Advice::DONT_DUMP),
        1 => Just(Advice::RANDOM),
        1 => Just(Advice::NO_HUGE_PAGE | Advice::MERGEABLE),
    ];
    let lock = prop_oneof![4 => Just(Lock::None), 1 => Just(Lock::All), 1 => Just(Lock::OnFault)];
    let name = prop_oneof![4 => Just(None), 1 => Just(Some("arena 1"))];
    (backing, prot(), 0..16u8, advice, lock, name).prop_map(
        move |(backing, prot, traits, advice, lock, name)| {
            let mut traits = Traits::from_bits_retain(traits);
            if !matches!(backing, Backing::Anonymous { .. }) {
                traits.remove(Traits::GROWS_DOWN);
            }
            let mut prot = prot;
            if let Backing::File { file: FileRange { access: Access::Sealed, .. }, .. } = backing {
                prot.remove(ProtFlags::WRITE);
            }
            let named = matches!(backing, Backing::Anonymous { .. } | Backing::SharedMemory { .. });
            let name = name.filter(|_| named).map(|name| Arc::from(std::ffi::OsStr::new(name)));
            Vma { range, prot, backing, traits, advice, lock, name, huge: None }
        },
    )
}

/// A segment, or a piece of one, at `range`.
pub(super) fn segment(range: AddrRange) -> impl Strategy<Value = Vma> {
    (1..3u32, 0..4u64, any::<bool>(), prot()).prop_map(move |(id, page, writable, prot)| Vma {
        prot,
        backing: Backing::Segment {
            segment: SegmentId::from_raw(id).expect("it is small"),
            offset: page * PAGE_SIZE,
            access: if writable { Access::ReadWrite } else { Access::ReadOnly },
        },
        traits: Traits::empty(),
        ..anonymous(range)
    })
}

/// Mappings in ascending order, some touching, within `pages` pages from page `first` on.
pub(super) fn mappings(first: u64, count: usize) -> impl Strategy<Value = Vec<Vma>> {
    prop::collection::vec((0..3u64, 1..5u64), 0..count).prop_flat_map(move |gaps| {
        let mut at = first;
        let mut vmas = Vec::new();
        for (gap, len) in gaps {
            vmas.push(mapping(pages(at + gap, len)));
            at += gap + len;
        }
        vmas
    })
}
