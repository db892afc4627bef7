use dormouse_image::proto::mm::VmaEntry;
use proptest::prelude::*;

use super::*;
use crate::memory::samples::{self, anonymous, private_file, range, shared_memory};

/// A mapping as CRIU 4.2 wrote it on Linux 6.18 (`crit show`), without our fields.
fn criu(status: u32, flags: u32, prot: u32, shmid: u64) -> VmaEntry {
    VmaEntry {
        start: 0x7f00_0000_0000,
        end: 0x7f00_0000_2000,
        shmid,
        prot,
        flags,
        status,
        fd: -1,
        ..VmaEntry::default()
    }
}

#[test]
fn the_bits_are_those_of_criu() {
    let at = range(0x7f00_0000_0000, 0x7f00_0000_2000);
    let bits = |vma: Vma| (vma.encode().status, vma.encode().flags);
    assert_eq!(bits(anonymous(at)), (0x201, 0x22));
    assert_eq!(bits(private_file(at, 1, 0)), (0x41, 0x2));
    assert_eq!(bits(shared_memory(at, 1, 0)), (0x101, 0x21));
    let special = |backing| bits(Vma { backing, ..anonymous(at) });
    assert_eq!(special(Backing::Anonymous { heap: true }), (0x221, 0x22));
    assert_eq!(special(Backing::Vdso), (0x209, 0x22));
    assert_eq!(special(Backing::Vvar), (0x1201, 0x22));
    assert_eq!(special(Backing::Vsyscall), (0x204, 0x22));
    let stack =
        Vma { traits: Traits::GROWS_DOWN | Traits::ACCOUNTED, lock: Lock::All, ..anonymous(at) };
    assert_eq!(bits(stack), (0x201, 0x2122));
}

#[test]
fn what_criu_does_not_say_is_inferred() {
    let decode = |entry: VmaEntry| Vma::decode(&entry).unwrap().unwrap();
    assert_eq!(decode(criu(0x201, 0x22, 3, 0)).traits, Traits::ACCOUNTED);
    assert_eq!(decode(criu(0x201, 0x22, 1, 0)).traits, Traits::empty());
    assert_eq!(decode(criu(0x201, 0x4022, 3, 0)).traits, Traits::NO_RESERVE);
    let file = VmaEntry { fdflags: Some(2), ..criu(0x4081, 0x1, 3, 9) };
    assert!(matches!(
        decode(file).backing,
        Backing::File {
            file: FileRange { access: Access::ReadWrite, memfd: true, .. },
            private: false
        }
    ));
}

#[test]
fn contradictions_are_refused() {
    let refused = |entry: VmaEntry| Vma::decode(&entry).unwrap_err();
    let good = criu(0x201, 0x22, 3, 0);
    assert_eq!(refused(VmaEntry { end: good.start, ..good.clone() }), MappingProblem::Bounds);
    assert_eq!(refused(VmaEntry { end: good.end + 1, ..good.clone() }), MappingProblem::Bounds);
    assert_eq!(refused(VmaEntry { end: 1 << 60, ..good.clone() }), MappingProblem::Bounds);
    assert_eq!(refused(VmaEntry { prot: 8, ..good.clone() }), MappingProblem::Protection(8));
    assert_eq!(refused(VmaEntry { pgoff: 5, ..good.clone() }), MappingProblem::Offset(5));
    assert_eq!(refused(VmaEntry { madv: Some(1), ..good.clone() }), MappingProblem::Advice(1));
    assert_eq!(refused(criu(0x201, 0x21, 3, 0)), MappingProblem::Flags(0x21));
    assert_eq!(refused(criu(0x201, 0x4_0022, 3, 0)), MappingProblem::Bounds);
    assert_eq!(refused(criu(0x41, 0x102, 3, 0)), MappingProblem::Flags(0x102));
    assert_eq!(refused(criu(0xc1, 0x2, 3, 0)), MappingProblem::Status(0xc1));
    assert_eq!(refused(criu(0x4201, 0x22, 3, 0)), MappingProblem::Status(0x4201));
    assert_eq!(refused(criu(1 << 20, 0x22, 3, 0)), MappingProblem::Status(1 << 20));
    assert_eq!(refused(criu(0x801, 0x21, 3, 0)), MappingProblem::Flags(0x21));
    assert_eq!(refused(criu(1 | 1 << 15, 0x21, 3, 0)), MappingProblem::Unsupported(1 | 1 << 15));
    assert_eq!(refused(criu(0x2201, 0x21, 3, 0)), MappingProblem::Status(0x2201));
    assert_eq!(refused(criu(0x2000, 0x22, 3, 0)), MappingProblem::Flags(0x22));
    assert_eq!(refused(criu(0x501, 0x22, 3, 0)), MappingProblem::Flags(0x22));
    assert_eq!(refused(criu(0x501, 0x21, 3, 1 << 31)), MappingProblem::Id(1 << 31));
    assert_eq!(refused(criu(0x41, 2, 1, 1 << 33)), MappingProblem::Id(1 << 33));
    let named = VmaEntry { name: Some(b"a]".to_vec()), ..good };
    assert_eq!(refused(named), MappingProblem::Name);
}

#[test]
fn guard_pages_are_entries_of_their_own() {
    let guard = range(0x1000, 0x3000);
    assert_eq!(decode_guard(&encode_guard(guard)), Ok(Some(guard)));
    assert_eq!(decode_guard(&anonymous(guard).encode()), Ok(None));
}

#[test]
fn rings_are_entries_as_criu_s() {
    let ring = Vma {
        backing: Backing::AioRing { requests: aio::UNKNOWN },
        traits: Traits::empty(),
        ..anonymous(range(0x1000, 0x3000))
    };
    assert_eq!(Vma::decode(&ring.encode()), Ok(Some(ring)));
    let theirs = Vma::decode(&criu(0x2000, 1, 3, 0)).unwrap().unwrap();
    assert_eq!(theirs.backing, Backing::AioRing { requests: aio::UNKNOWN });
}

proptest! {
    #[test]
    fn what_is_encoded_reads_back(vma in samples::mapping(range(0x10000, 0x13000))) {
        prop_assert_eq!(Vma::decode(&vma.encode()), Ok(Some(vma)));
    }

    #[test]
    fn segments_read_back(vma in samples::segment(range(0x10000, 0x13000))) {
        prop_assert_eq!(Vma::decode(&vma.encode()), Ok(Some(vma)));
    }

    #[test]
    fn no_entry_makes_decode_panic(
        (start, end, pgoff, shmid) in any::<(u64, u64, u64, u64)>(),
        (prot, flags, status) in any::<(u32, u32, u32)>(),
        (madv, extra) in any::<(Option<u64>, Option<u32>)>(),
        name in any::<Option<Vec<u8>>>(),
    ) {
        let entry = VmaEntry {
            start, end, pgoff, shmid, prot, flags, status, fd: 0, madv, fdflags: None, extra, name,
        };
        let _ = Vma::decode(&entry);
    }
}

#[test]
fn huge_pages_are_whole() {
    let huge = HugePages::of_size(2 << 20);
    assert!(huge.is_some() && HugePages::of_size(PAGE_SIZE).is_none());
    let vma = Vma { huge, ..anonymous(range(4 << 20, 8 << 20)) };
    let entry = vma.encode();
    assert_eq!(Vma::decode(&entry).unwrap(), Some(vma));
    let shorter = VmaEntry { end: entry.end - PAGE_SIZE, ..entry.clone() };
    assert!(matches!(Vma::decode(&shorter), Err(MappingProblem::Bounds)));
    // As CRIU has it: of the size that the kernel takes by itself, and without MAP_ANONYMOUS.
    let plain = VmaEntry { flags: entry.flags & 0x3ff_ffdf, ..entry.clone() };
    assert_eq!(Vma::decode(&plain).unwrap(), Vma::decode(&entry).unwrap());
    for flags in [entry.flags & !0x4_0000, entry.flags | 0x3f << 26] {
        let wrong = VmaEntry { flags, ..entry.clone() };
        assert!(Vma::decode(&wrong).is_err(), "{flags:#x}");
    }
}
