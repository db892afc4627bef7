//! BPF maps: an array, a hash and a prefix trie, one frozen, one open twice.
//!
//! Verified: contents, sizes, flags and names; that the frozen one stays as it is; what is written
//! by one description shows by the other.
//! CRIU: makes two maps of one that is open twice.

use std::fs::read_to_string;

use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).faults().missing(|| {
        let works = create(ARRAY, (4, 8), 1, b"probe").is_ok();
        (!works).then(|| "BPF maps are not available".into())
    });

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const LPM_TRIE: u32 = 11;

/// Calls `bpf(2)` with the beginning of its attributes.
fn bpf(command: i32, attributes: &[u64; 9]) -> std::io::Result<i64> {
    // SAFETY: the attributes live over the call, and their addresses point to what does.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes))
    };
    sys::done(result)
}

fn create(kind: u32, (key, value): (u32, u32), most: u32, name: &[u8; 5]) -> std::io::Result<i32> {
    let mut attributes = [0_u32; 18];
    attributes[..4].copy_from_slice(&[kind, key, value, most]);
    // Tries are not made in one piece: BPF_F_NO_PREALLOC.
    attributes[4] = u32::from(kind == LPM_TRIE);
    attributes[7] = u32::from_ne_bytes([name[0], name[1], name[2], name[3]]);
    attributes[8] = name[4].into();
    let words: Vec<u64> =
        attributes.chunks_exact(2).map(|two| u64::from(two[0]) | u64::from(two[1]) << 32).collect();
    bpf(0, &words.try_into().expect("nine words")).map(|fd| fd as i32)
}

fn set(fd: i32, key: u64, value: u64) -> std::io::Result<i64> {
    let at = |word: &u64| std::ptr::from_ref(word).expose_provenance() as u64;
    bpf(2, &[fd as u64, at(&key), at(&value), 0, 0, 0, 0, 0, 0])
}

fn get(fd: i32, key: u64) -> Option<u64> {
    let mut value = 0_u64;
    let to = (&raw mut value).expose_provenance() as u64;
    let at = std::ptr::from_ref(&key).expose_provenance() as u64;
    bpf(1, &[fd as u64, at, to, 0, 0, 0, 0, 0, 0]).ok()?;
    Some(std::hint::black_box(value))
}

/// What fdinfo tells, but for the number.
fn told(fd: i32) -> Vec<String> {
    let text = read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("fdinfo");
    let lines = text.lines().filter(|line| line.contains(':'));
    lines
        .filter(|line| !line.starts_with("map_id") && !line.starts_with("ino"))
        .map(str::to_owned)
        .collect()
}

/// The number and the name.
fn info(fd: i32) -> (u32, Vec<u8>) {
    let mut info = [0_u8; 40];
    let to = info.as_mut_ptr().expose_provenance() as u64;
    bpf(15, &[fd as u64 | 40 << 32, to, 0, 0, 0, 0, 0, 0, 0]).expect("BPF_OBJ_GET_INFO_BY_FD");
    let info = std::hint::black_box(info);
    (u32::from_ne_bytes([info[4], info[5], info[6], info[7]]), info[24..].to_vec())
}

fn run(cx: &mut Context) {
    let array = create(ARRAY, (4, 8), 5000, b"array").expect("an array");
    let hash = create(HASH, (8, 8), 3000, b"hash_").expect("a hash");
    let frozen = create(ARRAY, (4, 4), 3, b"froze").expect("another array");
    for key in 0..5000 {
        set(array, key, key * key).expect("set in an array");
    }
    for key in 0..2999 {
        set(hash, key << 40 | 7, !key).expect("set in a hash");
    }
    set(frozen, 1, 99).expect("set in an array");
    bpf(22, &[frozen as u64, 0, 0, 0, 0, 0, 0, 0, 0]).expect("BPF_MAP_FREEZE");
    let reader = bpf(14, &[u64::from(info(hash).0), 1 << 3, 0, 0, 0, 0, 0, 0, 0]);
    let reader = reader.expect("BPF_MAP_GET_FD_BY_ID") as i32;
    let trie = create(LPM_TRIE, (8, 8), 10, b"trie_").expect("a trie");
    let prefix = |bits: u64, bytes: [u8; 4]| bits | u64::from(u32::from_le_bytes(bytes)) << 32;
    set(trie, prefix(8, [10, 0, 0, 0]), 8).expect("set in a trie");
    set(trie, prefix(16, [10, 1, 0, 0]), 16).expect("set in a trie");
    set(trie, prefix(0, [0; 4]), 1).expect("set in a trie");
    let all = [array, hash, frozen, reader, trie];
    let before = all.map(|fd| (told(fd), info(fd).1));

    cx.ready_and_wait();

    check_eq!(all.map(|fd| (told(fd), info(fd).1)), before, "what the kernel tells of them");
    let whole = (0..5000).all(|key| get(array, key) == Some(key * key));
    check!(whole, "what is in the array");
    let whole = (0..2999).all(|key| get(hash, key << 40 | 7) == Some(!key));
    check!(whole, "what is in the hash");
    check_eq!(get(hash, 1), None, "a key that is not there");
    for (address, expected) in [([10, 1, 2, 3], 16), ([10, 2, 2, 3], 8), ([9, 1, 2, 3], 1)] {
        check_eq!(get(trie, prefix(32, address)), Some(expected), "the prefix of {address:?}");
    }
    check_eq!(get(frozen, 1), Some(99), "what is in the frozen one");
    check!(set(frozen, 1, 5).is_err(), "the frozen one cannot be changed");
    check!(set(reader, 5, 5).is_err(), "the reader cannot change it");
    check!(set(hash, 5, 55).is_ok(), "the last place in the hash");
    check!(set(hash, 6, 6).is_err(), "it takes no more");
    check_eq!(get(reader, 5), Some(55), "what was written, by the reader");
}
