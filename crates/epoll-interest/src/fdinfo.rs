//! The items of an epoll as `/proc/PID/fdinfo/N` lists them.
//!
//! Truth from: `ep_show_fdinfo`, `fs/eventpoll.c`. One line an item, in the
//! order of the kernel's tree: by address of the open file, then by number.

use thiserror::Error;

use crate::event::{Events, FdNumber};

/// One `tfd:` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The number in the item's key.
    pub fd: FdNumber,
    /// The mask as the kernel holds it now.
    pub events: Events,
    /// What `epoll_wait` hands back with an event.
    pub data: u64,
    /// The target's file offset, in bytes.
    pub pos: i64,
    /// The target's inode number. All anonymous inodes (eventfd, timerfd,
    /// signalfd, epoll, ...) share one.
    pub ino: u64,
    /// The device of that inode, as the kernel numbers it internally
    /// (`major << 20 | minor`), which is not what `stat` gives.
    pub dev: u32,
}

/// A line that is not what `ep_show_fdinfo` prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("line {line} of the fdinfo is no epoll item: its field `{field}` does not parse")]
pub struct ParseError {
    /// Which line, from 1.
    pub line: usize,
    /// The name of the field that is missing or not a number.
    pub field: &'static str,
}

/// Reads every item out of the text of a fdinfo file; other lines (`pos:`,
/// `flags:`, ...) are passed over.
///
/// # Errors
/// [`ParseError`] if a `tfd:` line is not in the kernel's form.
pub fn parse(text: &[u8]) -> Result<Vec<Entry>, ParseError> {
    let lines = text.split(|&byte| byte == b'\n').enumerate();
    lines.filter_map(|(index, line)| of_line(index, line)).collect()
}

/// The item in the line with this index, if it is about one.
fn of_line(index: usize, line: &[u8]) -> Option<Result<Entry, ParseError>> {
    let at = |field| ParseError { line: index + 1, field };
    line.starts_with(b"tfd:").then(|| entry(line).map_err(at))
}

fn entry(line: &[u8]) -> Result<Entry, &'static str> {
    let mut rest = line;
    let entry = Entry {
        fd: FdNumber::from_raw(number(&mut rest, "tfd", 10)?),
        events: Events::from_bits_retain(number(&mut rest, "events", 16)?),
        data: number(&mut rest, "data", 16)?,
        pos: number(&mut rest, "pos", 10)?,
        ino: number(&mut rest, "ino", 16)?,
        dev: number(&mut rest, "sdev", 16)?,
    };
    if rest.trim_ascii().is_empty() { Ok(entry) } else { Err("sdev") }
}

/// Takes `name:`, blanks and a number off the front of `rest`.
fn number<N: Radix>(rest: &mut &[u8], name: &'static str, radix: u32) -> Result<N, &'static str> {
    let after = rest.trim_ascii_start().strip_prefix(name.as_bytes()).ok_or(name)?;
    let digits = after.strip_prefix(b":").ok_or(name)?.trim_ascii_start();
    let end = digits.iter().position(u8::is_ascii_whitespace).unwrap_or(digits.len());
    let (digits, left) = digits.split_at(end);
    *rest = left;
    let digits = std::str::from_utf8(digits).map_err(|_| name)?;
    N::parse(digits, radix).ok_or(name)
}

trait Radix: Sized {
    fn parse(digits: &str, radix: u32) -> Option<Self>;
}

macro_rules! radix {
    ($($type:ty),*) => {$(
        impl Radix for $type {
            fn parse(digits: &str, radix: u32) -> Option<Self> {
                Self::from_str_radix(digits, radix).ok()
            }
        }
    )*};
}
radix!(u32, u64, i64);

#[cfg(test)]
mod tests {
    use super::{Entry, ParseError, parse};
    use crate::event::{Events, FdNumber};

    const CAPTURED: &[u8] = b"pos:\t0\nflags:\t02\nmnt_id:\t16\nino:\t1058\n\
        tfd:        5 events:       19 data:                5  pos:0 ino:422 sdev:10\n\
        tfd:     1023 events: c0000000 data: ffffffffffffffff  pos:-1 ino:2b8a sdev:fe00001\n";

    #[test]
    fn captured_lines_parse() {
        let entries = parse(CAPTURED).unwrap();
        assert_eq!(
            entries,
            [
                Entry {
                    fd: FdNumber::from_raw(5),
                    events: Events::IN | Events::ERR | Events::HUP,
                    data: 5,
                    pos: 0,
                    ino: 0x422,
                    dev: 0x10,
                },
                Entry {
                    fd: FdNumber::from_raw(1023),
                    events: Events::ET | Events::ONESHOT,
                    data: u64::MAX,
                    pos: -1,
                    ino: 0x2b8a,
                    dev: 0xfe0_0001,
                },
            ]
        );
    }

    #[test]
    fn a_cut_line_is_an_error_that_names_line_and_field() {
        let cut = b"pos:\t0\ntfd:        5 events:       19 data:  \n";
        assert_eq!(parse(cut), Err(ParseError { line: 2, field: "data" }));
        let tail = b"tfd: 5 events: 19 data: 5  pos:0 ino:422 sdev:10 more\n";
        assert_eq!(parse(tail), Err(ParseError { line: 1, field: "sdev" }));
    }
}
