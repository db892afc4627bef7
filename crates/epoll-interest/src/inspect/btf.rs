//! Where the members of kernel structures lie, out of the kernel's own type
//! information.
//!
//! Truth from: `Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`. Pure:
//! takes the bytes of `/sys/kernel/btf/vmlinux`.

use std::cell::RefCell;

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_FUNCTION: u32 = 12;

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
    /// No such function in this kernel.
    #[error("this kernel has no function {0}")]
    NoFunction(&'static str),
}

/// The structures of a kernel. Read from `/sys/kernel/btf/vmlinux` as far as is
/// needed: where a record starts is known by reading all before it, and most of
/// them, those of functions, come last.
pub struct Btf<'a> {
    strings: &'a [u8],
    records: &'a [u8],
    seen: RefCell<Seen>,
}

/// The records that have been come by.
#[derive(Default)]
struct Seen {
    /// Where each starts, by type id less one: 0 is void.
    starts: Vec<u32>,
    /// Where each structure starts, few among all types.
    structures: Vec<u32>,
    /// Where the next record starts.
    next: usize,
}

impl Seen {
    /// Comes by one more record of `records`. `None` behind the last.
    fn go_on<'a>(&mut self, records: &'a [u8]) -> Result<Option<Type<'a>>, BtfError> {
        if self.next >= records.len() {
            return Ok(None);
        }
        let (kind, next) = Type::measure(records, self.next)?;
        self.starts.push(self.next as u32);
        if kind.kind() == KIND_STRUCT {
            self.structures.push(self.next as u32);
        }
        self.next = next;
        Ok(Some(kind))
    }
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
    /// Offset in bits.
    bits: u32,
    /// Of a bit-field, in bits.
    width: u32,
}

/// Where a member is that may be a bit-field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bits {
    /// The byte with its first bit, and which of that byte's bits that is.
    pub byte: usize,
    shift: u32,
    width: u32,
}

impl Bits {
    /// Its value in a structure that has these bytes.
    ///
    /// # Panics
    ///
    /// If it ends behind them.
    #[must_use]
    pub fn of(self, structure: &[u8]) -> u64 {
        let end = self.byte + (self.shift + self.width).div_ceil(8) as usize;
        let bytes = structure[self.byte..end].iter().rev();
        let word = bytes.fold(0, |word, &byte| word << 8 | u64::from(byte));
        word >> self.shift & ((1 << self.width) - 1)
    }
}

impl<'a> Btf<'a> {
    /// The type information in `bytes`.
    ///
    /// # Errors
    ///
    /// It is malformed.
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
        Ok(Self { strings, records, seen: RefCell::default() })
    }

    /// The type with this id; `None` if there is none, or it is void.
    fn type_of(&self, id: u32) -> Result<Option<Type<'a>>, BtfError> {
        let Some(index) = id.checked_sub(1) else { return Ok(None) };
        let mut seen = self.seen.borrow_mut();
        loop {
            if let Some(&start) = seen.starts.get(index as usize) {
                return Type::measure(self.records, start as usize).map(|(kind, _)| Some(kind));
            }
            if seen.go_on(self.records)?.is_none() {
                return Ok(None);
            }
        }
    }

    /// The structure called `name`.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoStruct`], or the information is malformed, or newer than
    /// this reader.
    pub fn structure(&self, name: &'static str) -> Result<Struct<'_>, BtfError> {
        let found = |kind: Type<'a>| {
            let is_it = kind.kind() == KIND_STRUCT && self.is_called(kind.name, name);
            is_it.then_some(Struct { btf: self, name, kind })
        };
        let mut seen = self.seen.borrow_mut();
        for &start in &seen.structures {
            let (kind, _) = Type::measure(self.records, start as usize)?;
            if let Some(found) = found(kind) {
                return Ok(found);
            }
        }
        while let Some(kind) = seen.go_on(self.records)? {
            if let Some(found) = found(kind) {
                return Ok(found);
            }
        }
        Err(BtfError::NoStruct(name))
    }

    /// The type id of the function called `name`.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoFunction`], or as [`Self::structure`].
    pub fn function(&self, name: &'static str) -> Result<u32, BtfError> {
        let mut id = 1;
        while let Some(kind) = self.type_of(id)? {
            if kind.kind() == KIND_FUNCTION && self.is_called(kind.name, name) {
                return Ok(id);
            }
            id += 1;
        }
        Err(BtfError::NoFunction(name))
    }

    fn is_called(&self, at: u32, name: &str) -> bool {
        let tail = self.strings.get(at as usize..).unwrap_or_default();
        tail.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Offset, width and type of `name` in `kind`, looking through anonymous members.
    fn member(&self, kind: Type<'_>, name: &str) -> Result<Option<Member>, BtfError> {
        for member in members(kind) {
            if self.is_called(member.name, name) {
                return Ok(Some(member));
            }
            if !self.is_called(member.name, "") {
                continue;
            }
            let inner = self.type_of(member.type_id)?;
            let inner = inner.filter(|inner| matches!(inner.kind(), KIND_STRUCT | KIND_UNION));
            let Some(inner) = inner else { continue };
            if let Some(found) = self.member(inner, name)? {
                return Ok(Some(Member { bits: member.bits + found.bits, ..found }));
            }
        }
        Ok(None)
    }
}

/// One structure of the kernel.
pub struct Struct<'a> {
    btf: &'a Btf<'a>,
    name: &'static str,
    kind: Type<'a>,
}

impl Struct<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.kind.size as usize
    }

    /// Offset of a member, in bytes.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoMember`], or the information is malformed.
    pub fn offset(&self, member: &'static str) -> Result<usize, BtfError> {
        let found = self.btf.member(self.kind, member)?;
        found.map(|found| found.bits as usize / 8).ok_or(BtfError::NoMember(self.name, member))
    }

    /// Where a member is that may be a bit-field, of up to 56 bits; one that is
    /// none is taken to have 32.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoMember`], or the information is malformed.
    pub fn bits(&self, member: &'static str) -> Result<Bits, BtfError> {
        let found = self.btf.member(self.kind, member)?;
        let Member { bits, width, .. } = found.ok_or(BtfError::NoMember(self.name, member))?;
        let width = if width == 0 { 32 } else { width };
        Ok(Bits { byte: bits as usize / 8, shift: bits % 8, width })
    }

    /// A member that is itself a structure, with its offset in bytes.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoMember`] if there is none, or the information is malformed.
    pub fn member(&self, member: &'static str) -> Result<(usize, Self), BtfError> {
        let missing = BtfError::NoMember(self.name, member);
        let found = self.btf.member(self.kind, member)?.ok_or(missing)?;
        let kind = self.btf.type_of(found.type_id)?;
        let kind = kind.filter(|kind| kind.kind() == KIND_STRUCT).ok_or(missing)?;
        Ok((found.bits as usize / 8, Struct { btf: self.btf, name: member, kind }))
    }
}

fn members(kind: Type<'_>) -> impl Iterator<Item = Member> {
    // With the kind flag set the upper byte of an offset is a bit-field width.
    let mask = if kind.info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
    kind.members.chunks_exact(12).filter_map(move |record| {
        let place = word(record, 8).ok()?;
        Some(Member {
            name: word(record, 0).ok()?,
            type_id: word(record, 4).ok()?,
            bits: place & mask,
            width: (place & !mask) >> 24,
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
    fn only_what_is_needed_is_read() {
        let mut bytes = outer();
        // The last of the types, of a kind nobody knows.
        let last = bytes.len() - 15 - 36;
        bytes[last + 7] = 31;
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.structure("outer").err(), Some(BtfError::UnknownKind(31)));
        assert_eq!(btf.type_of(1).unwrap().map(|kind| kind.size), Some(4));
        assert!(btf.type_of(0).unwrap().is_none());
    }

    #[test]
    fn cut_type_information_is_an_error() {
        let bytes = outer();
        for length in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
