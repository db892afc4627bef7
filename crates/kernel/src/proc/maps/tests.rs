use super::{Perms, VmFlags, VmaName, parse_maps, parse_smaps, parse_some_smaps};
use crate::{Addr, DeviceId};
use std::path::Path;
use std::sync::Arc;

const CAPTURED: &[u8] = include_bytes!("../../../tests/captured/smaps");

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
fn a_flag_without_letters_is_lock_on_fault_of_what_is_locked() {
    let flags = |line: &str| {
        let text = format!("10000-20000 rw-p 00000000 00:00 0 \nSize: 64 kB\nVmFlags: {line}\n");
        parse_smaps(text.as_bytes()).unwrap()[0].flags
    };
    assert!(flags("rd wr lo ?? ac").contains(VmFlags::LOCKED | VmFlags::LOCK_ON_FAULT));
    assert!(!flags("rd wr lo ?? ac").contains(VmFlags::UNKNOWN));
    assert!(flags("rd wr ?? ac").contains(VmFlags::UNKNOWN));
    assert!(flags("rd wr lo ?? ?? ac").contains(VmFlags::UNKNOWN));
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

#[test]
fn pieces_are_parsed_up_to_the_last_whole_mapping() {
    let all = parse_smaps(CAPTURED).unwrap();
    for piece in [1, 100, 1000, 5000] {
        let (mut bytes, mut maps) = (Vec::new(), Vec::new());
        for more in CAPTURED.chunks(piece) {
            bytes.extend_from_slice(more);
            let taken = parse_some_smaps(&bytes, &mut maps).unwrap();
            bytes.drain(..taken);
        }
        assert!(bytes.is_empty());
        assert_eq!(maps, all);
    }
    let mut maps = Vec::new();
    assert_eq!(parse_some_smaps(b"VmFlags: rd", &mut maps), Ok(0));
}
