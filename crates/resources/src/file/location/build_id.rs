//! The build ID of a program or library: which build of it a file is (`--file-validation=buildid`).
//!
//! Truth from: `elf(5)`: a note of the name `GNU` and type 3 in a segment of type `PT_NOTE`.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// As images have it: in words, padded with zeroes.
pub(super) type BuildId = Vec<u32>;

const NOTES: u32 = 4;
const BUILD_ID: u32 = 3;
/// No program has more headers, or longer ones.
const MOST_HEADERS: u16 = 1024;
/// More than all notes of a program take, in bytes.
const MOST_NOTES: u64 = 1 << 20;
/// More than any build ID has, in words.
pub(super) const MOST_WORDS: usize = 1024;

/// Where things are in files for machines of 32 and 64 bits.
struct Layout {
    is_wide: bool,
    headers: usize,
    header_size: usize,
    header_count: usize,
    offset: usize,
    size: usize,
    alignment: usize,
}

const NARROW: Layout = Layout {
    is_wide: false,
    headers: 28,
    header_size: 42,
    header_count: 44,
    offset: 4,
    size: 16,
    alignment: 28,
};
const WIDE: Layout = Layout {
    is_wide: true,
    headers: 32,
    header_size: 54,
    header_count: 56,
    offset: 8,
    size: 32,
    alignment: 48,
};

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Layout {
    fn number(&self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.is_wide {
            return word(bytes, at).map(u64::from);
        }
        Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
    }
}

/// That of a file; `None` if it has none, or is no program or library of this kind of machine.
pub(super) fn of(file: &File) -> Option<BuildId> {
    let mut start = [0; 64];
    file.read_exact_at(&mut start, 0).ok()?;
    let layout = match &start[..6] {
        b"\x7fELF\x01\x01" => NARROW,
        b"\x7fELF\x02\x01" => WIDE,
        _ => return None,
    };
    let count = half(&start, layout.header_count)?.min(MOST_HEADERS);
    let size = usize::from(half(&start, layout.header_size)?.min(MOST_HEADERS));
    let mut headers = vec![0; size * usize::from(count)];
    file.read_exact_at(&mut headers, layout.number(&start, layout.headers)?).ok()?;
    let notes = |header: &[u8]| {
        if word(header, 0)? != NOTES {
            return None;
        }
        let mut notes = vec![0; layout.number(header, layout.size)?.min(MOST_NOTES) as usize];
        file.read_exact_at(&mut notes, layout.number(header, layout.offset)?).ok()?;
        find(&notes, if layout.number(header, layout.alignment)? == 8 { 8 } else { 4 })
    };
    headers.chunks_exact(size.max(1)).find_map(notes)
}

/// The build ID among notes, whose parts begin at such multiples.
fn find(mut notes: &[u8], alignment: usize) -> Option<BuildId> {
    const HEAD: usize = 12;
    loop {
        let (name, len) = (word(notes, 0)? as usize, word(notes, 4)? as usize);
        let begin = HEAD.checked_add(name)?.checked_next_multiple_of(alignment)?;
        let end = begin.checked_add(len)?;
        let what = notes.get(begin..end)?;
        if word(notes, 8)? == BUILD_ID && notes.get(HEAD..HEAD + name)? == b"GNU\0" {
            let words = what.chunks(4).map(|some| {
                let mut bytes = [0; 4];
                bytes[..some.len()].copy_from_slice(some);
                u32::from_le_bytes(bytes)
            });
            return Some(words.collect()).filter(|id: &BuildId| id.len() <= MOST_WORDS);
        }
        notes = notes.get(end.checked_next_multiple_of(alignment)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, what: &[u8]) -> Vec<u8> {
        let head = [name.len() as u32, what.len() as u32, kind].map(u32::to_le_bytes).concat();
        let mut bytes = [&head, name].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(what);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn it_is_found_among_notes() {
        let notes = [note(b"GNU\0", 1, &[9; 16]), note(b"GNU\0", 3, &[1, 2, 3, 4, 5])].concat();
        assert_eq!(find(&notes, 4), Some(vec![0x0403_0201, 5]));
        for len in 0..notes.len() {
            // Cut short there is none, unless only padding is gone.
            assert_eq!(find(&notes[..len], 4).is_some(), len >= notes.len() - 3, "{len}");
        }
        assert_eq!(find(&note(b"Go\0\0", 3, b"x"), 4), None);
        assert_eq!(find(&[255; 64], 4), None);
    }

    #[test]
    fn programs_have_one() {
        let own = File::open("/proc/self/exe").unwrap();
        let shell = File::open("/bin/sh").unwrap();
        assert!([own, shell].iter().any(|file| of(file).is_some_and(|id| !id.is_empty())));
        assert_eq!(of(&File::open("/proc/self/maps").unwrap()), None);
    }
}
