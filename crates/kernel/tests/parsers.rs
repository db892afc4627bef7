//! Properties of the parsers, on bytes no kernel would print.
//!
//! Under test the parsers panic at input they do not use, but only those
//! inside of the crate: here they are as in operation, and must never panic.
#![allow(clippy::unwrap_used)]

use dormouse_kernel::proc::{
    FdInfo, Limits, Stat, Status, VmaName, parse_maps, parse_mountinfo, parse_smaps,
};
use proptest::prelude::{Strategy, any, proptest};
use std::os::unix::ffi::OsStrExt;

const SMAPS: &[u8] = include_bytes!("captured/smaps");
const FDINFO: &[u8] = b"pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n\
    lock:\t1: FLOCK  ADVISORY  WRITE 16110 fe:00:10011611 0 EOF\n\
    tfd:        5 events:       19 data:     7f6c00000005  pos:0 ino:5882c sdev:f\n\
    inotify wd:1a ino:3c4a7 sdev:fe00000 mask:100 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 \
    f_handle:a7c4030000000000\n";
const MOUNTINFO: &[u8] =
    b"42 27 254:0 /run/netns /a\\040b rw shared:1 - ext4 /dev/my\\043disk rw\n";

/// Something a kernel printed, with some bytes changed and the end cut off.
fn damaged(original: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((0..original.len(), any::<u8>()), 0..8);
    (changes, 0..=original.len()).prop_map(|(changes, len)| {
        let mut bytes = original.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(len);
        bytes
    })
}

fn parse_all(bytes: &[u8]) {
    let _ = (Stat::parse(bytes), Status::parse(bytes), Limits::parse(bytes));
    let _ = (parse_maps(bytes), parse_smaps(bytes), parse_mountinfo(bytes));
    let _ = FdInfo::parse(bytes);
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes: Vec<u8>) {
        parse_all(&bytes);
    }

    #[test]
    fn no_damage_makes_a_parser_panic(
        smaps in damaged(SMAPS),
        fdinfo in damaged(FDINFO),
        mountinfo in damaged(MOUNTINFO),
    ) {
        parse_all(&smaps);
        parse_all(&fdinfo);
        parse_all(&mountinfo);
    }

    /// As the kernel escapes it, a path comes back as it was. (It cannot if
    /// the path itself has the four characters of the escape in it, which
    /// the kernel leaves alone.)
    #[test]
    fn a_path_comes_back(mut path: Vec<u8>) {
        path.retain(|&byte| byte != 0 && byte != b'\\');
        path.insert(0, b'/');
        let mut line = b"1000-2000 r--p 00000000 fe:00 5                        ".to_vec();
        for &byte in &path {
            if byte == b'\n' { line.extend(b"\\012") } else { line.push(byte) }
        }
        line.push(b'\n');
        let vmas = parse_maps(&line).unwrap();
        let VmaName::Path(parsed) = &vmas[0].name else { panic!("no path") };
        assert_eq!(parsed.as_os_str().as_bytes(), path);
    }

    /// The same for mount points, in which more is escaped, the backslash too.
    #[test]
    fn a_mount_point_comes_back(mut path: Vec<u8>) {
        path.retain(|&byte| byte != 0);
        path.insert(0, b'/');
        let mut line = b"42 27 254:0 / ".to_vec();
        for &byte in &path {
            if b" \t\n\\".contains(&byte) {
                line.extend(format!("\\{byte:03o}").bytes());
            } else {
                line.push(byte);
            }
        }
        line.extend(b" rw - ext4 /dev/vda rw\n");
        let mounts = parse_mountinfo(&line).unwrap();
        assert_eq!(mounts[0].mount_point.as_os_str().as_bytes(), path);
    }
}
