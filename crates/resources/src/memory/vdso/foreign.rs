//! A process whose vDSO is that of another kernel.
//!
//! The old code stays where the program found it at its start (`AT_SYSINFO_EHDR`), as plain
//! memory, and its functions jump to those of the running kernel, which is mapped at a free place.
//! In place of the old vvar there are zeros: what still runs the old code, from the frame of a
//! signal handler, finds a clock it cannot read there and makes the system call.
//!
//! A process that has been through this once has the old code still, but never two of them: on a
//! third kernel, the code it jumps to goes, and it jumps to the new one.

use dormouse_kernel::{Addr, AddrRange};

use super::redirect::{Target, is_redirected, redirect};
use super::{KernelVdso, Place, free_range, read};
use crate::memory::contents::{ContentRun, Contents};
use crate::memory::error::{Error, MappingProblem, Result};
use crate::memory::saved::{PagesFiles, SavedMemory};
use crate::memory::vma::{Advice, Backing, Lock, ProtFlags, Traits, Vma};

/// In auxv: where the kernel said it mapped the vDSO.
const AT_SYSINFO_EHDR: u64 = libc::AT_SYSINFO_EHDR;

/// Where it is looked for room, far from the memory of programs.
const HIGH: Addr = Addr::from_raw(1 << 44);

impl SavedMemory {
    /// Makes it the memory of a process of the running kernel, if it had another vDSO. `running`
    /// is where its threads are in their code.
    ///
    /// # Errors
    ///
    /// The vDSO cannot be redirected, or a thread is in the middle of it.
    pub fn adapt_vdso(
        &mut self,
        kernel: Option<&KernelVdso>,
        running: impl IntoIterator<Item = Addr>,
        files: &mut PagesFiles,
    ) -> Result<()> {
        let Some(place) = Place::of(&self.mm) else { return Ok(()) };
        if KernelVdso::check(kernel, self, files).is_ok() {
            return Ok(());
        }
        let image = self.image;
        let at = place.code.or(place.data).map_or(Addr::NULL, AddrRange::start);
        let fail = |problem| Error::Corrupt { image, at, problem };
        let dumped = place.code.ok_or_else(|| fail(MappingProblem::OtherVdso))?;
        if dumped.len() > LONGEST {
            return Err(fail(MappingProblem::OtherVdso));
        }
        let first = self.redirected_to(dumped, files)?;
        let (entered, code) = match first {
            Some(first) => first,
            None => (dumped, read(&self.vdso, files)?),
        };
        let complete = code.len() as u64 == entered.len();
        let inside = |ip: Addr| dumped.contains(ip) || entered.contains(ip);
        if running.into_iter().any(inside) {
            return Err(fail(MappingProblem::InsideVdso));
        }

        let used: Vec<_> = self.mm.vmas.iter().map(|vma| vma.range).collect();
        let len = kernel.map_or(0, KernelVdso::len);
        let new = free_range(used.into_iter(), HIGH, len);
        let new = new.ok_or_else(|| fail(MappingProblem::OtherVdso))?;
        let target = kernel.map(|kernel| {
            let at = new.start().checked_add(kernel.data_len()).expect("within the new one");
            Target { code: &kernel.code, at }
        });
        let redirected = redirect(&code, target)
            .filter(|_| complete)
            .ok_or_else(|| fail(MappingProblem::OtherVdso))?;
        let source = files.add_made(image, redirected)?;
        let mut made = Contents::default();
        made.push(ContentRun { range: entered, source });
        self.contents = self.contents.overlaid(&made);
        self.vdso = Contents::default();
        if entered != dumped {
            self.mm.vmas.retain(|vma| !is_kernels(vma));
        } else {
            self.mm.vmas.iter_mut().filter(|vma| is_kernels(vma)).for_each(make_plain);
        }
        if let Some(kernel) = kernel {
            self.mm.vmas.extend(kernel.mappings(new));
            self.mm.vmas.sort_by_key(|vma| vma.range.start());
        }
        Ok(())
    }

    /// The vDSO the program was started with, if that is plain memory by now and jumps to `dumped`.
    fn redirected_to(
        &self,
        dumped: AddrRange,
        files: &PagesFiles,
    ) -> Result<Option<(AddrRange, Vec<u8>)>> {
        let told = self.mm.auxv.chunks_exact(2).find(|pair| pair[0] == AT_SYSINFO_EHDR);
        let Some(&[_, start]) = told else { return Ok(None) };
        let start = Addr::from_raw(start);
        let begins = |vma: &&Vma| vma.range.start() == start && is_plain(vma);
        let Some(vma) = self.mm.vmas.iter().find(begins) else { return Ok(None) };
        if vma.range.len() > LONGEST {
            return Ok(None);
        }
        let code = read(&self.contents.within(&[vma.range]), files)?;
        let whole = code.len() as u64 == vma.range.len();
        Ok((whole && is_redirected(&code, dumped)).then_some((vma.range, code)))
    }
}

/// More than any vDSO.
const LONGEST: u64 = 1 << 16;

/// What the old code is once it is redirected.
fn is_plain(vma: &Vma) -> bool {
    vma.backing == Backing::Anonymous { heap: false }
        && vma.prot == ProtFlags::READ | ProtFlags::EXEC
}

fn is_kernels(vma: &Vma) -> bool {
    matches!(vma.backing, Backing::Vdso | Backing::Vvar)
}

fn make_plain(vma: &mut Vma) {
    vma.backing = Backing::Anonymous { heap: false };
    vma.advice = Advice::empty();
    vma.traits = Traits::empty();
    vma.lock = Lock::None;
}

impl KernelVdso {
    fn len(&self) -> u64 {
        self.data_len() + self.code.len() as u64
    }

    /// What is mapped when all of it is at `whole`.
    fn mappings(&self, whole: AddrRange) -> impl Iterator<Item = Vma> {
        let parts = whole.start().checked_add(self.data_len()).and_then(|middle| {
            Some((AddrRange::new(whole.start(), middle)?, AddrRange::new(middle, whole.end())?))
        });
        let (data, code) = parts.expect("data and code are the whole");
        let code = (code, Backing::Vdso, ProtFlags::READ | ProtFlags::EXEC);
        [(data, Backing::Vvar, ProtFlags::READ), code]
            .into_iter()
            .filter(|(range, ..)| !range.is_empty())
            .map(|(range, backing, prot)| Vma {
                range,
                prot,
                backing,
                traits: Traits::empty(),
                advice: Advice::empty(),
                lock: Lock::None,
                name: None,
                huge: None,
            })
    }
}
