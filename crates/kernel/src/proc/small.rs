//! Files of a line or two.

use super::scan::{ParseError, Scan};
use crate::{Addr, HostPid};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// `task/TID/children`: pids, each with a blank behind it.
pub(super) fn parse_children(bytes: &[u8]) -> Result<Vec<HostPid>, ParseError> {
    let mut scan = Scan::new(bytes);
    let mut children = Vec::new();
    while !scan.is_empty() {
        let Some(pid) = HostPid::from_raw(scan.dec("a pid")?) else {
            return scan.error("a positive pid");
        };
        children.push(pid);
        scan.blanks();
    }
    Ok(children)
}

/// One number and a line end, or not even that.
pub(super) fn parse_number<T>(
    bytes: &[u8],
    number: impl FnOnce(&mut Scan<'_>) -> Result<T, ParseError>,
) -> Result<T, ParseError> {
    let mut scan = Scan::new(bytes);
    let value = number(&mut scan)?;
    scan.end_line();
    scan.end();
    Ok(value)
}

/// `autogroup`: `/autogroup-NUMBER nice NICE`, or nothing.
pub(super) fn parse_autogroup(bytes: &[u8]) -> Result<Option<i32>, ParseError> {
    let mut scan = Scan::new(bytes);
    if scan.is_empty() {
        return Ok(None);
    }
    scan.expect("/autogroup-")?;
    let _: u64 = scan.dec("a number")?;
    scan.expect(" nice ")?;
    let nice = scan.signed("a nice value")?;
    scan.end_line();
    scan.end();
    Ok(Some(nice))
}

/// `cmdline` and `environ`: strings, each with a zero byte behind it (of
/// which the last may be missing, for a task that wrote over them).
pub(super) fn parse_strings(bytes: &[u8]) -> Vec<OsString> {
    let Some(inner) = bytes.strip_suffix(b"\0").or((!bytes.is_empty()).then_some(bytes)) else {
        return Vec::new();
    };
    inner.split(|&byte| byte == 0).map(|string| OsString::from_vec(string.to_vec())).collect()
}

/// One pair of the auxiliary vector, see `getauxval(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuxEntry {
    /// `AT_*`.
    pub kind: u64,
    /// Depends on the kind.
    pub value: u64,
}

/// `auxv`, up to and without `AT_NULL`.
pub(super) fn parse_auxv(bytes: &[u8]) -> Result<Vec<AuxEntry>, ParseError> {
    let (words, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || !words.len().is_multiple_of(2) {
        return Err(ParseError { offset: bytes.len(), expected: "pairs of words" });
    }
    let words = words.iter().map(|&word| u64::from_ne_bytes(word));
    let mut entries: Vec<_> = words
        .clone()
        .step_by(2)
        .zip(words.skip(1).step_by(2))
        .map(|(kind, value)| AuxEntry { kind, value })
        .collect();
    if let Some(end) = entries.iter().position(|entry| entry.kind == 0) {
        entries.truncate(end);
    }
    Ok(entries)
}

/// What a task is doing in the kernel (`/proc/PID/syscall`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockedIn {
    /// Nothing: it runs, or is ready to.
    Running,
    /// It is blocked, but not in a system call (a page fault, say).
    Elsewhere {
        /// Stack pointer.
        sp: Addr,
        /// Where it was in user mode.
        pc: Addr,
    },
    /// It is blocked in a system call, or stopped on its way in or out.
    Syscall {
        /// Which.
        number: u64,
        /// Its arguments, as far as the registers still hold them.
        args: [u64; 6],
        /// Stack pointer.
        sp: Addr,
        /// Where it was in user mode.
        pc: Addr,
    },
}

pub(super) fn parse_syscall(bytes: &[u8]) -> Result<BlockedIn, ParseError> {
    let mut scan = Scan::new(bytes);
    let scan = &mut scan;
    if scan.eat(b"running") {
        scan.end_line();
        return Ok(BlockedIn::Running);
    }
    let number: i64 = scan.signed("a system call")?;
    let word = |scan: &mut Scan<'_>| -> Result<u64, ParseError> {
        scan.blanks();
        scan.expect("0x")?;
        scan.hex("a word")
    };
    let mut args = [0; 6];
    if number >= 0 {
        for arg in &mut args {
            *arg = word(scan)?;
        }
    }
    let sp = Addr::from_raw(word(scan)?);
    let pc = Addr::from_raw(word(scan)?);
    scan.end_line();
    Ok(match u64::try_from(number) {
        Ok(number) => BlockedIn::Syscall { number, args, sp, pc },
        Err(_) => BlockedIn::Elsewhere { sp, pc },
    })
}

/// `se.exec_start` of `sched`: `None` if the kernel was built without it.
pub(super) fn parse_exec_start(bytes: &[u8]) -> Result<Option<Duration>, ParseError> {
    let mut scan = Scan::new(bytes);
    while !scan.is_empty() {
        if !scan.eat(b"se.exec_start") {
            scan.line();
            continue;
        }
        scan.label(":")?;
        let millis: u64 = scan.dec("milliseconds")?;
        scan.expect(".")?;
        let nanos: u64 = scan.dec("nanoseconds")?;
        scan.end_line();
        let total = Duration::from_millis(millis).checked_add(Duration::from_nanos(nanos));
        return match total {
            Some(total) => Ok(Some(total)),
            None => scan.error("milliseconds"),
        };
    }
    Ok(None)
}

/// A line of `uid_map` or `gid_map`: ids from `inside` on are those from
/// `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMapping {
    /// The first id in the user namespace of the task.
    pub inside: u32,
    /// The same one, in the user namespace of the reader; if that is the
    /// task's own, in its parent.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

pub(super) fn parse_id_map(bytes: &[u8]) -> Result<Vec<IdMapping>, ParseError> {
    let mut scan = Scan::new(bytes);
    let mut map = Vec::new();
    while !scan.is_empty() {
        map.push(IdMapping {
            inside: scan.next_dec("an id")?,
            outside: scan.next_dec("an id")?,
            count: scan.next_dec("a count")?,
        });
        scan.end_line();
    }
    Ok(map)
}

/// What a time namespace adds to the clocks, in seconds and nanoseconds; the
/// latter are never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeOffsets {
    /// To `CLOCK_MONOTONIC`.
    pub monotonic: (i64, u32),
    /// To `CLOCK_BOOTTIME`.
    pub boottime: (i64, u32),
}

pub(super) fn parse_time_offsets(bytes: &[u8]) -> Result<TimeOffsets, ParseError> {
    let mut scan = Scan::new(bytes);
    let mut line = |label| -> Result<_, ParseError> {
        scan.expect(label)?;
        let offset = (scan.next_signed("seconds")?, scan.next_dec("nanoseconds")?);
        scan.end_line();
        Ok(offset)
    };
    Ok(TimeOffsets { monotonic: line("monotonic")?, boottime: line("boottime")? })
}

/// The inode of a namespace, out of the link `KIND:[INODE]`.
pub(super) fn parse_namespace(link: &[u8]) -> Result<u64, ParseError> {
    let mut scan = Scan::new(link);
    scan.until(b'[');
    let inode = scan.dec("an inode")?;
    scan.expect("]")?;
    scan.end();
    Ok(inode)
}

#[cfg(test)]
mod tests {
    use super::{
        AuxEntry, BlockedIn, IdMapping, TimeOffsets, parse_autogroup, parse_auxv, parse_children,
        parse_exec_start, parse_id_map, parse_namespace, parse_strings, parse_syscall,
        parse_time_offsets,
    };
    use crate::Addr;
    use std::time::Duration;

    #[test]
    fn children() {
        let pids = parse_children(b"12 34 ").unwrap();
        assert_eq!(pids.iter().map(|pid| pid.as_raw()).collect::<Vec<_>>(), [12, 34]);
        assert!(parse_children(b"").unwrap().is_empty());
        assert!(parse_children(b"0 ").is_err());
    }

    #[test]
    fn autogroups() {
        assert_eq!(parse_autogroup(b"/autogroup-34410 nice -3\n").unwrap(), Some(-3));
        assert_eq!(parse_autogroup(b"").unwrap(), None);
        assert!(parse_autogroup(b"/user nice 0\n").is_err());
    }

    #[test]
    fn strings() {
        assert_eq!(parse_strings(b"sleep\x001000\0"), ["sleep", "1000"]);
        assert_eq!(parse_strings(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(parse_strings(b"title"), ["title"]);
        assert_eq!(parse_strings(b"\0"), [""]);
        assert!(parse_strings(b"").is_empty());
    }

    #[test]
    fn auxv() {
        let words = [33u64, 0x7ffd_1000, 6, 4096, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let entries = parse_auxv(&bytes).unwrap();
        assert_eq!(
            entries,
            [AuxEntry { kind: 33, value: 0x7ffd_1000 }, AuxEntry { kind: 6, value: 4096 }]
        );
        assert!(parse_auxv(&bytes[..40]).is_err());
    }

    #[test]
    fn system_calls() {
        let blocked = parse_syscall(
            b"0 0x3 0x7f4200f45000 0x20000 0x7f4200fd8b60 0xffffffff 0x0 0x7ffd2e620d68 \
              0x7f42010c12ad\n",
        );
        assert_eq!(
            blocked.unwrap(),
            BlockedIn::Syscall {
                number: 0,
                args: [3, 0x7f42_00f4_5000, 0x20000, 0x7f42_00fd_8b60, 0xffff_ffff, 0],
                sp: Addr::from_raw(0x7ffd_2e62_0d68),
                pc: Addr::from_raw(0x7f42_010c_12ad),
            }
        );
        assert_eq!(parse_syscall(b"running\n").unwrap(), BlockedIn::Running);
        assert_eq!(
            parse_syscall(b"-1 0x10 0x20\n").unwrap(),
            BlockedIn::Elsewhere { sp: Addr::from_raw(16), pc: Addr::from_raw(32) }
        );
    }

    #[test]
    fn exec_start() {
        let text = b"cat (10624, #threads: 1)\n\
                     -------------------------------------------------------------------\n\
                     se.exec_start                                :       1614765.081446\n\
                     se.vruntime                                  :           125.027148\n";
        assert_eq!(parse_exec_start(text).unwrap(), Some(Duration::from_nanos(1_614_765_081_446)));
        assert_eq!(parse_exec_start(b"cat\n---\n").unwrap(), None);
    }

    #[test]
    fn id_maps_and_offsets() {
        assert_eq!(
            parse_id_map(b"         0          0 4294967295\n         5       1000          1\n")
                .unwrap(),
            [
                IdMapping { inside: 0, outside: 0, count: u32::MAX },
                IdMapping { inside: 5, outside: 1000, count: 1 }
            ]
        );
        assert_eq!(
            parse_time_offsets(
                b"monotonic         -5         7\nboottime            0         0\n"
            )
            .unwrap(),
            TimeOffsets { monotonic: (-5, 7), boottime: (0, 0) }
        );
        assert_eq!(parse_namespace(b"pid:[4026531836]").unwrap(), 4_026_531_836);
        assert!(parse_namespace(b"pid").is_err());
    }
}
