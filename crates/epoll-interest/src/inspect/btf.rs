//! Where the members of kernel structures lie, out of the kernel's own type
//! information.
//!
//! Truth from: `Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`. Pure:
//! takes the bytes of `/sys/kernel/btf/vmlinux`.

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// The type information is not there, or not as `btf.rst` describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BtfError {
    /// The bytes are no BTF, or end too early.
    #[error("the kernel's type information is malformed at byte {0}")]
    Malformed(usize),
    /// A kind of type this reader does not know the length of.
    #[error("the kernel's type information has a type of the unknown kind {0}")]
    UnknownKind(u32),
    /// No such structure in this kernel.
    #[error("this kernel has no struct {0}")]
    NoStruct(&'static str),
    /// The structure has no such member.
    #[error("struct {0} of this kernel has no member {1}")]
    NoMember(&'static str, &'static str),
}

/// The structures of a kernel. Parsed from `/sys/kernel/btf/vmlinux`.
pub struct Btf<'a> {
    strings: &'a [u8],
    records: &'a [u8],
    /// Where the record of each type starts, by type id less one: 0 is void.
    starts: Vec<u32>,
    /// The ids of the structures, few among all types.
    structures: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    info: u32,
    size: u32,
    /// Member records of a structure or union, 12 bytes each.
    members: &'a [u8],
}

impl<'a> Type<'a> {
    /// The record that starts at byte `at`, and where the next one does.
    fn measure(records: &'a [u8], at: usize) -> Result<(Self, usize), BtfError> {
        let head: [u8; 12] = array(records, at)?;
        let field = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
        let (name, info, size) = (field(0), field(4), field(8));
        let tail = at + head.len();
        let next = tail + tail_length((info >> 24) & 0x1f, (info & 0xffff) as usize)?;
        let members = records.get(tail..next).ok_or(BtfError::Malformed(tail))?;
        Ok((Self { name, info, size, members }, next))
    }

    fn kind(&self) -> u32 {
        (self.info >> 24) & 0x1f
    }
}

struct Member {
    name: u32,
    type_id: u32,
    bytes: usize,
}

impl<'a> Btf<'a> {
    /// Reads the type information in `bytes`.
    ///
    /// # Errors
    ///
    /// It is malformed, or newer than this reader.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        if u16::from_le_bytes(array(bytes, 0)?) != MAGIC {
            return Err(BtfError::Malformed(0));
        }
        let header = word(bytes, 4)? as usize;
        let section = |offset: usize| {
            let start = header + word(bytes, offset)? as usize;
            let end = start + word(bytes, offset + 4)? as usize;
            bytes.get(start..end).ok_or(BtfError::Malformed(start))
        };
        let (records, strings) = (section(8)?, section(16)?);
        let (mut starts, mut structures) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < records.len() {
            let (kind, next) = Type::measure(records, at)?;
            starts.push(at as u32);
            if kind.kind() == KIND_STRUCT {
                structures.push(starts.len() as u32);
            }
            at = next;
        }
        Ok(Self { strings, records, starts, structures })
    }

    fn type_of(&self, id: u32) -> Option<Type<'a>> {
        let &start = self.starts.get(id.checked_sub(1)? as usize)?;
        // All records were measured when they were parsed.
        Type::measure(self.records, start as usize).ok().map(|(kind, _)| kind)
    }

    /// The structure called `name`.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoStruct`].
    pub fn structure(&self, name: &'static str) -> Result<Struct<'_>, BtfError> {
        let mut structures = self.structures.iter().filter_map(|&id| self.type_of(id));
        let found = structures.find(|kind| self.is_called(kind.name, name));
        found.map(|kind| Struct { btf: self, name, kind }).ok_or(BtfError::NoStruct(name))
    }

    fn is_called(&self, at: u32, name: &str) -> bool {
        let tail = self.strings.get(at as usize..).unwrap_or_default();
        tail.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Offset and type of `name` in `kind`, looking through anonymous members.
    fn member(&self, kind: Type<'_>, name: &str) -> Option<(usize, u32)> {
        members(kind).find_map(|member| {
            if self.is_called(member.name, name) {
                return Some((member.bytes, member.type_id));
            }
            let inner = self.type_of(member.type_id)?;
            let aggregate = matches!(inner.kind(), KIND_STRUCT | KIND_UNION);
            if !aggregate || !self.is_called(member.name, "") {
                return None;
            }
            let (offset, type_id) = self.member(inner, name)?;
            Some((member.bytes + offset, type_id))
        })
    }
}

/// One structure of the kernel.
pub struct Struct<'a> {
    btf: &'a Btf<'a>,
    name: &'static str,
    kind: Type<'a>,
}

impl Struct<'_> {
    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.kind.size as usize
    }

    /// Offset of a member, in bytes.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoMember`].
    pub fn offset(&self, member: &'static str) -> Result<usize, BtfError> {
        let found = self.btf.member(self.kind, member);
        found.map(|(offset, _)| offset).ok_or(BtfError::NoMember(self.name, member))
    }

    /// A member that is itself a structure, with its offset in bytes.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoMember`] if there is none.
    pub fn member(&self, member: &'static str) -> Result<(usize, Self), BtfError> {
        let missing = BtfError::NoMember(self.name, member);
        let (offset, type_id) = self.btf.member(self.kind, member).ok_or(missing)?;
        let kind = self.btf.type_of(type_id);
        let kind = kind.filter(|kind| kind.kind() == KIND_STRUCT).ok_or(missing)?;
        Ok((offset, Struct { btf: self.btf, name: member, kind }))
    }
}

fn members(kind: Type<'_>) -> impl Iterator<Item = Member> {
    // With the kind flag set the upper byte of an offset is a bit-field width.
    let mask = if kind.info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
    kind.members.chunks_exact(12).filter_map(move |record| {
        Some(Member {
            name: word(record, 0).ok()?,
            type_id: word(record, 4).ok()?,
            bytes: ((word(record, 8).ok()? & mask) / 8) as usize,
        })
    })
}

/// Bytes that follow the common 12 of a type record.
fn tail_length(kind: u32, entries: usize) -> Result<usize, BtfError> {
    Ok(match kind {
        // Pointer, forward, typedef, volatile, const, restrict, function,
        // float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Enumeration, function prototype.
        6 | 13 => 8 * entries,
        // Structure, union, data section, 64-bit enumeration.
        4 | 5 | 15 | 19 => 12 * entries,
        other => return Err(BtfError::UnknownKind(other)),
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], BtfError> {
    let tail = bytes.get(at..).ok_or(BtfError::Malformed(at))?;
    tail.first_chunk().copied().ok_or(BtfError::Malformed(at))
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    array(bytes, at).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::{Btf, BtfError};

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// `struct outer { int a; union { int b; }; }`
    fn outer() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0";
        let types = words(&[
            1,
            1 << 24,
            4,
            32, // 1: int
            0,
            5 << 24 | 1,
            4,
            13,
            1,
            0, // 2: union { int b; }
            5,
            4 << 24 | 2,
            8,
            11,
            1,
            0,
            0,
            2,
            32, // 3: struct outer
        ]);
        let header = words(&[0x0001_eb9f, 24, 0, types.len() as u32, types.len() as u32, 15]);
        [header, types, strings.to_vec()].concat()
    }

    #[test]
    fn members_are_found_through_anonymous_unions() {
        let bytes = outer();
        let btf = Btf::parse(&bytes).unwrap();
        let outer = btf.structure("outer").unwrap();
        assert_eq!((outer.size(), outer.offset("a"), outer.offset("b")), (8, Ok(0), Ok(4)));
        assert_eq!(outer.offset("c"), Err(BtfError::NoMember("outer", "c")));
        assert_eq!(btf.structure("int").err(), Some(BtfError::NoStruct("int")));
    }

    #[test]
    fn cut_type_information_is_an_error() {
        let bytes = outer();
        for length in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
