//! The address space of a process, and what the kernel keeps with it.

use dormouse_image::ImageName;
use dormouse_image::proto::mm::{MmEntry, VmaEntry};
use dormouse_kernel::proc::MemoryLayout;
use dormouse_kernel::{Addr, AddrRange, FdNum};
use dormouse_puppet::Batch;

use super::aio;
use super::encode;
use super::error::{Error, MappingProblem, Result};
use super::outlook::Outlook;
use super::vma::{Backing, Vma};
use crate::file::FileId;

/// An address space (`struct mm_struct`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mm {
    /// Where code, data, heap, stack, arguments and environment are, or were at the start.
    pub layout: MemoryLayout,
    /// The end of the heap: what `brk(0)` answers.
    pub brk: Addr,
    /// `/proc/PID/auxv`, tags and values in turn.
    pub auxv: Vec<u64>,
    /// `/proc/PID/exe`.
    pub exe: FileId,
    /// `PR_GET_DUMPABLE`.
    pub dumpable: Dumpable,
    /// `PR_GET_THP_DISABLE`.
    pub huge_pages: TransparentHugePages,
    /// What becomes of memory mapped from now on.
    pub outlook: Outlook,
    /// All mappings, in ascending order.
    pub vmas: Vec<Vma>,
    /// Guard pages (`MADV_GUARD_INSTALL`), in ascending order, none touching.
    pub guards: Vec<AddrRange>,
}

/// Where a process may have transparent huge pages (`PR_SET_THP_DISABLE(2const)`), as far as it
/// has a say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransparentHugePages {
    /// Everywhere.
    #[default]
    Anywhere,
    /// In memory that is advised to have them. From Linux 6.18 on.
    IfAdvised,
    /// Nowhere.
    Nowhere,
}

impl TransparentHugePages {
    /// `PR_THP_DISABLE_EXCEPT_ADVISED`.
    const EXCEPT_ADVISED: u32 = 1 << 1;

    /// From what `PR_GET_THP_DISABLE` answers: the flags, and one more bit if they are disabled.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        match raw {
            0 => Some(Self::Anywhere),
            1 => Some(Self::Nowhere),
            3 => Some(Self::IfAdvised),
            _ => None,
        }
    }

    /// Adds the call that makes it so.
    pub(super) fn set(self, batch: &mut Batch) {
        let (disable, flags) = match self {
            Self::Anywhere => (0, 0),
            Self::IfAdvised => (1, Self::EXCEPT_ADVISED),
            Self::Nowhere => (1, 0),
        };
        let args = [libc::PR_SET_THP_DISABLE.into(), disable.into(), flags.into()];
        batch.call(libc::SYS_prctl, args);
    }
}

/// Who may trace a process and read its core dump (`PR_SET_DUMPABLE(2const)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dumpable {
    /// Only who may do anything.
    No,
    /// Its user.
    Yes,
    /// As [`No`](Self::No), and core dumps belong to root. Nobody can choose this: the kernel does
    /// when credentials change, if `fs.suid_dumpable` is 2.
    AsRoot,
}

impl Dumpable {
    /// From what `PR_GET_DUMPABLE` answers.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Option<Self> {
        match raw {
            0 => Some(Self::No),
            1 => Some(Self::Yes),
            2 => Some(Self::AsRoot),
            _ => None,
        }
    }

    /// As `PR_GET_DUMPABLE` answers.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        match self {
            Self::No => 0,
            Self::Yes => 1,
            Self::AsRoot => 2,
        }
    }
}

/// More words than any kernel has room for in `mm->saved_auxv`.
const AUXV_MAX: usize = 128;

impl Mm {
    /// The message of `mm-PID.img`.
    #[must_use]
    pub fn encode(&self) -> MmEntry {
        let Self { layout, brk, auxv, exe, dumpable, huge_pages, outlook, vmas, guards } = self;
        let MemoryLayout { code, data, start_brk, start_stack, args, env } = *layout;
        let mut entry = MmEntry {
            mm_start_code: code.0.as_raw(),
            mm_end_code: code.1.as_raw(),
            mm_start_data: data.0.as_raw(),
            mm_end_data: data.1.as_raw(),
            mm_start_stack: start_stack.as_raw(),
            mm_start_brk: start_brk.as_raw(),
            mm_brk: brk.as_raw(),
            mm_arg_start: args.0.as_raw(),
            mm_arg_end: args.1.as_raw(),
            mm_env_start: env.0.as_raw(),
            mm_env_end: env.1.as_raw(),
            exe_file_id: exe.as_raw(),
            mm_saved_auxv: auxv.clone(),
            vmas: vmas
                .iter()
                .map(Vma::encode)
                .chain(guards.iter().copied().map(encode::encode_guard))
                .collect(),
            dumpable: Some(dumpable.as_raw()),
            aios: aio::encode(vmas),
            thp_disabled: Some(*huge_pages != TransparentHugePages::Anywhere),
            future_locks: None,
            merge: None,
            thp_if_advised: (*huge_pages == TransparentHugePages::IfAdvised).then_some(true),
        };
        outlook.encode(&mut entry);
        entry
    }

    /// Reads the message of `mm-PID.img` back, and judges it: bounds, order and kinds of all
    /// mappings are as the kernel could have made them.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn decode(image: ImageName, entry: &MmEntry) -> Result<Self> {
        let corrupt = |at| move |problem| Error::Corrupt { image, at: Addr::from_raw(at), problem };
        let pair = |start, end, ordered: bool| {
            if !ordered {
                return Err(corrupt(start)(MappingProblem::Layout));
            }
            Ok((Addr::from_raw(start), Addr::from_raw(end)))
        };
        let up = |start, end| pair(start, end, start <= end);
        let layout = MemoryLayout {
            code: pair(
                entry.mm_start_code,
                entry.mm_end_code,
                entry.mm_start_code < entry.mm_end_code,
            )?,
            data: up(entry.mm_start_data, entry.mm_end_data)?,
            start_brk: up(entry.mm_start_brk, entry.mm_brk)?.0,
            start_stack: Addr::from_raw(entry.mm_start_stack),
            args: up(entry.mm_arg_start, entry.mm_arg_end)?,
            env: up(entry.mm_env_start, entry.mm_env_end)?,
        };
        let auxv = entry.mm_saved_auxv.clone();
        if !auxv.len().is_multiple_of(2) || auxv.len() > AUXV_MAX {
            return Err(corrupt(0)(MappingProblem::Auxv));
        }
        let dumpable = entry.dumpable.unwrap_or(1);
        let dumpable = Dumpable::from_raw(dumpable)
            .ok_or_else(|| corrupt(0)(MappingProblem::Dumpable(dumpable)))?;
        let (mut vmas, guards) = mappings(&entry.vmas, |at, problem| corrupt(at)(problem))?;
        aio::decode(&entry.aios, &mut vmas).map_err(|(at, problem)| corrupt(at)(problem))?;
        Ok(Self {
            layout,
            brk: Addr::from_raw(entry.mm_brk),
            auxv,
            exe: FileId::from_raw(entry.exe_file_id),
            dumpable,
            huge_pages: match (entry.thp_disabled, entry.thp_if_advised) {
                (Some(true), Some(true)) => TransparentHugePages::IfAdvised,
                (Some(true), _) => TransparentHugePages::Nowhere,
                (_, _) => TransparentHugePages::Anywhere,
            },
            outlook: Outlook::decode(entry).map_err(corrupt(0))?,
            vmas,
            guards,
        })
    }
}

impl Mm {
    /// Adds a call of `PR_SET_MM_MAP` (`struct prctl_mm_map` in `linux/prctl.h`), which sets all
    /// addresses, auxv and, given a descriptor of it, the file the process runs.
    pub(super) fn set(&self, batch: &mut Batch, exe: Option<FdNum>) {
        let MemoryLayout { code, data, start_brk, start_stack, args, env } = self.layout;
        let brk = self.brk;
        let heap = [start_brk, brk, start_stack];
        let addresses = [code.0, code.1, data.0, data.1]
            .into_iter()
            .chain(heap)
            .chain([args.0, args.1, env.0, env.1]);
        let mut map: Vec<u8> = addresses.flat_map(|addr| addr.as_raw().to_ne_bytes()).collect();
        let auxv: Vec<u8> = self.auxv.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let pointer = map.len();
        map.extend(0u64.to_ne_bytes());
        let auxv_len = u32::try_from(auxv.len()).expect("it was checked");
        map.extend(auxv_len.to_ne_bytes());
        map.extend(exe.map_or(u32::MAX, FdNum::as_raw).to_ne_bytes());
        let len = map.len() as u64;
        let map = batch.data(&map);
        let auxv = batch.data(&auxv);
        batch.point(map, pointer, auxv);
        let args =
            [libc::PR_SET_MM.into(), libc::PR_SET_MM_MAP.into(), map.into(), len.into(), 0.into()];
        batch.call(libc::SYS_prctl, args);
    }
}

fn mappings(
    entries: &[VmaEntry],
    corrupt: impl Fn(u64, MappingProblem) -> Error,
) -> Result<(Vec<Vma>, Vec<AddrRange>)> {
    let mut vmas: Vec<Vma> = Vec::with_capacity(entries.len());
    let mut guards: Vec<AddrRange> = Vec::new();
    for entry in entries {
        let fail = |problem| corrupt(entry.start, problem);
        if let Some(guard) = encode::decode_guard(entry).map_err(fail)? {
            if guards.last().is_some_and(|last| guard.start() < last.end()) {
                return Err(fail(MappingProblem::Order));
            }
            guards.push(guard);
        } else if let Some(vma) = Vma::decode(entry).map_err(fail)? {
            if !guards.is_empty()
                || vmas.last().is_some_and(|last| vma.range.start() < last.range.end())
            {
                return Err(fail(MappingProblem::Order));
            }
            vmas.push(vma);
        }
    }
    for kind in [Backing::Vdso, Backing::Vvar] {
        if let Some(vma) = vmas.iter().filter(|vma| vma.backing == kind).nth(1) {
            return Err(corrupt(vma.range.start().as_raw(), MappingProblem::Vdso));
        }
    }
    if let Some(guard) = guards.iter().find(|guard| !covered(&vmas, **guard)) {
        return Err(corrupt(guard.start().as_raw(), MappingProblem::Guard));
    }
    Ok((vmas, guards))
}

/// Whether mappings that follow each other without a gap, none of them the kernel's own, hold all
/// of `range`.
fn covered(vmas: &[Vma], range: AddrRange) -> bool {
    let mut at = range.start();
    let first = vmas.partition_point(|vma| vma.range.end() <= at);
    for vma in &vmas[first..] {
        if vma.range.start() > at || vma.is_special() {
            return false;
        }
        at = vma.range.end();
        if at >= range.end() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
