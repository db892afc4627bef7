//! The kernel's own code and data in every process.
//!
//! A program calls the vDSO at addresses it has found out at its start, so the vDSO has to be back
//! at its place, and to be the same; or else the one it had leads to [another one](foreign). The
//! kernel maps its own with `ARCH_MAP_VDSO_64`: vvar first, the vDSO behind it.

use dormouse_kernel::proc::{ProcDir, VmaName};
use dormouse_kernel::remote_memory::Mem;
use dormouse_kernel::{Addr, AddrRange, PAGE_SIZE};

use super::contents::Contents;
use super::error::{Error, MappingProblem, Result};
use super::mm::Mm;
use super::saved::{PagesFiles, SavedMemory};
use super::steps::MapStep;
use super::vma::Backing;
use elf::symbols;

mod elf;
mod foreign;
mod redirect;

/// The vDSO of the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelVdso {
    /// What comes before the code, mapping by mapping, in bytes.
    data: Vec<u64>,
    code: Vec<u8>,
}

impl KernelVdso {
    /// Looks at that of this process; `None` if the kernel has none.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn probe() -> Result<Option<Self>> {
        let proc = ProcDir::of_self()?;
        let mut data = Vec::new();
        for vma in proc.maps()? {
            match vma.name {
                VmaName::Vvar | VmaName::VvarVclock => data.push(vma.range.len()),
                VmaName::Vdso => {
                    let mut code = vec![0; vma.range.len() as usize];
                    Mem::open(&proc)?.read_exact(vma.range.start(), &mut code)?;
                    return Ok(Some(Self { data, code }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn data_len(&self) -> u64 {
        self.data.iter().sum()
    }

    /// Makes sure that this vDSO can take the place of the one `saved` had.
    pub(super) fn check(
        kernel: Option<&Self>,
        saved: &SavedMemory,
        files: &PagesFiles,
    ) -> Result<()> {
        let Some(place) = Place::of(&saved.mm) else { return Ok(()) };
        let fail = || Error::Corrupt {
            image: saved.image,
            at: place.code.or(place.data).map_or(Addr::NULL, |range| range.start()),
            problem: MappingProblem::OtherVdso,
        };
        let kernel = kernel.ok_or_else(fail)?;
        let sizes_fit = place.data.is_none_or(|data| data.len() == kernel.data_len())
            && place.code.is_none_or(|code| code.len() == kernel.code.len() as u64);
        if !sizes_fit {
            return Err(fail());
        }
        let code = read(&saved.vdso, files)?;
        // A dump without it says no more than the size.
        if code.is_empty() || code == kernel.code || same_symbols(&code, &kernel.code) {
            Ok(())
        } else {
            Err(fail())
        }
    }

    /// Maps it at the place `mm` has it. `scratch` is free memory for it, needed if the parts are
    /// not next to each other any more.
    pub(super) fn map(&self, mm: &Mm, scratch: impl FnOnce(u64) -> AddrRange) -> Vec<MapStep> {
        let Some(place) = Place::of(mm) else { return Vec::new() };
        let len = self.data_len() + self.code.len() as u64;
        if let Place { data: Some(data), code: Some(code) } = place
            && data.end() == code.start()
        {
            let whole = AddrRange::new(data.start(), code.end()).expect("they ascend");
            return vec![MapStep::MapVdso(whole), MapStep::Expect(whole)];
        }
        let whole = scratch(len);
        let mut steps = vec![MapStep::MapVdso(whole), MapStep::Expect(whole)];
        let mut from = whole.start();
        let mut to = place.data.map(AddrRange::start);
        let code = self.code.len() as u64;
        let parts = self.data.iter().map(|&len| (len, true)).chain([(code, false)]);
        for (len, is_data) in parts {
            let part = AddrRange::with_len(from, len).expect("within the whole");
            from = part.end();
            if !is_data {
                to = place.code.map(AddrRange::start);
            }
            match to.and_then(|to| AddrRange::with_len(to, len)) {
                Some(target) => {
                    to = Some(target.end());
                    steps.push(MapStep::Move { from: part, to: target });
                }
                None => steps.push(MapStep::Unmap(part)),
            }
        }
        steps
    }
}

/// Where a process has vvar and vDSO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    data: Option<AddrRange>,
    code: Option<AddrRange>,
}

impl Place {
    fn of(mm: &Mm) -> Option<Self> {
        let find = |backing| mm.vmas.iter().find(|vma| vma.backing == backing).map(|v| v.range);
        let place = Self { data: find(Backing::Vvar), code: find(Backing::Vdso) };
        (place != Self { data: None, code: None }).then_some(place)
    }
}

fn read(contents: &Contents, files: &PagesFiles) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for run in contents.runs() {
        let start = bytes.len();
        bytes.resize(start + run.range.len() as usize, 0);
        files.read(run.source, &mut bytes[start..])?;
    }
    Ok(bytes)
}

/// Whether two vDSOs have the same functions at the same places. The code may differ, as the kernel
/// adapts it to the processor.
fn same_symbols(a: &[u8], b: &[u8]) -> bool {
    match (symbols(a), symbols(b)) {
        (Some(a), Some(b)) => !a.is_empty() && a == b,
        _ => false,
    }
}

/// The lowest free range of `len` bytes from `from` on, given what is in use, in any order.
pub(super) fn free_range(
    used: impl Iterator<Item = AddrRange>,
    from: Addr,
    len: u64,
) -> Option<AddrRange> {
    let mut used: Vec<_> = used.collect();
    used.sort_unstable_by_key(|range| range.start());
    let mut at = from;
    for range in used {
        if let Some(free) = AddrRange::with_len(at, len)
            && free.end() <= range.start()
        {
            return Some(free);
        }
        at = at.max(range.end());
    }
    AddrRange::with_len(at, len).filter(|range| range.end().as_raw() <= USER_END)
}

/// The end of what a process can map, with page tables of four levels.
pub(super) const USER_END: u64 = (1 << 47) - PAGE_SIZE;

#[cfg(test)]
mod tests;
