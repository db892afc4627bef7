//! The symbols of a vDSO: an ELF file of 64 bits, little-endian (`elf(5)`).

use std::collections::BTreeMap;

/// Names and values of the dynamic symbols.
pub(super) fn symbols(elf: &[u8]) -> Option<BTreeMap<&[u8], u64>> {
    Some(dynamic(elf)?.map(|symbol| (symbol.name, symbol.value)).collect())
}

/// Where which function begins. One that has several names goes by one of them.
pub(super) fn functions(elf: &[u8]) -> Option<BTreeMap<usize, &[u8]>> {
    let functions = dynamic(elf)?.filter(|symbol| symbol.is_function);
    functions.map(|symbol| Some((usize::try_from(symbol.value).ok()?, symbol.name))).collect()
}

/// The name of a function without what some of its names begin with.
pub(super) fn plain(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"__vdso_").unwrap_or(name)
}

struct Symbol<'a> {
    name: &'a [u8],
    value: u64,
    is_function: bool,
}

/// Ends early where the table makes no sense.
fn dynamic(elf: &[u8]) -> Option<impl Iterator<Item = Symbol<'_>>> {
    const SHT_DYNSYM: u64 = 11;
    const SYMBOL_LEN: usize = 24;
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (sections, size) = (word(elf, 0x28)?, number(elf, 0x3a, 2)? as usize);
    let count = number(elf, 0x3c, 2)? as usize;
    let section = |index: usize| sections.checked_add(index.checked_mul(size)?);
    let dynsym = (0..count)
        .filter_map(section)
        .find(|&at| at.checked_add(4).and_then(|at| number(elf, at, 4)) == Some(SHT_DYNSYM))?;
    let table = word(elf, dynsym.checked_add(0x18)?)?;
    let len = word(elf, dynsym.checked_add(0x20)?)?;
    let strings = section(number(elf, dynsym.checked_add(0x28)?, 4)? as usize)?;
    let strings = word(elf, strings.checked_add(0x18)?)?;
    let end = table.checked_add(len)?.min(elf.len());
    Some((table..end).step_by(SYMBOL_LEN).map_while(move |at| symbol(elf, at, strings)))
}

fn symbol(elf: &[u8], at: usize, strings: usize) -> Option<Symbol<'_>> {
    const STT_FUNC: u64 = 2;
    let name = elf.get(strings.checked_add(number(elf, at, 4)? as usize)?..)?;
    let name = name.split(|&byte| byte == 0).next()?;
    let kind = number(elf, at.checked_add(4)?, 1)? & 0xf;
    let defined = number(elf, at.checked_add(6)?, 2)? != 0;
    let value = number(elf, at.checked_add(8)?, 8)?;
    Some(Symbol { name, value, is_function: kind == STT_FUNC && defined })
}

fn number(elf: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = elf.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte)))
}

fn word(elf: &[u8], at: usize) -> Option<usize> {
    number(elf, at, 8).and_then(|word| usize::try_from(word).ok())
}
