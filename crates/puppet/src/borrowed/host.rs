//! The process that tasks are borrowed of, and the place for their code in it.

use dormouse_kernel::proc::{ProcDir, Status};
use dormouse_kernel::ptrace::Stopped;
use dormouse_kernel::remote_memory::Mem;
use dormouse_kernel::rlimit::Rlimit;
use dormouse_kernel::{Addr, AddrRange, HostPid};

use super::Borrowed;
use crate::Error;
use crate::arch::{CODE, Context};

/// A process whose tasks can be borrowed: the code is in its place.
#[derive(Debug)]
pub struct Host {
    pub(super) process: HostPid,
    pub(super) mem: Mem,
    /// Where the code is; contexts follow it.
    pub(super) code: Addr,
    /// How many of them fit.
    pub(super) contexts: u64,
    /// What was there before.
    original: Vec<u8>,
    /// Its tasks are not to signal themselves.
    pub(super) quiet: bool,
}

/// Bytes of a `struct rlimit64`, behind the contexts.
const LIMIT: usize = 16;

/// More tasks than this at once are not done sooner.
const MOST_CONTEXTS: usize = 6;

impl Host {
    /// Puts the code into the padding of the vDSO of the process; if there is
    /// no vDSO, into that of another of the mappings given, which can be run
    /// and are its own.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] if there is none or it is too small.
    pub fn prepare(
        proc: &ProcDir,
        vdso: Option<AddrRange>,
        others: impl IntoIterator<Item = AddrRange>,
    ) -> Result<Self, Error> {
        let process = proc.pid();
        let size =
            |contexts| CODE.bytes().len().next_multiple_of(16) + contexts * Context::SIZE + LIMIT;
        let mem = Mem::open(proc)?;
        let vdso = match vdso {
            Some(vdso) => behind_image(&mem, vdso)?,
            None => None,
        };
        let most = |&(_, free): &(Addr, usize)| {
            (1..=MOST_CONTEXTS).rev().find(|&contexts| size(contexts) <= free)
        };
        let place = match vdso.and_then(|place| most(&place).map(|contexts| (place.0, contexts))) {
            Some(place) => Some(place),
            None => {
                let needed = size(1) as u64;
                others.into_iter().find_map(|one| at_the_end(&mem, one, needed)).map(|at| (at, 1))
            }
        };
        let Some((code, contexts)) = place else {
            return Err(Error::NoRoom { task: process, needed: size(1) });
        };
        let mut original = vec![0; size(contexts)];
        mem.read_exact(code, &mut original)?;
        mem.write_exact(code, CODE.bytes())?;
        Ok(Self { process, mem, code, contexts: contexts as u64, original, quiet: false })
    }

    /// Has its tasks stopped in another way than by their signal, which takes
    /// two stops a call: whoever watches a signalfd of the process is told of
    /// any signal at all (`signalfd_notify`, `kernel/signal.c`).
    #[must_use]
    pub fn quietly(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Where a context is.
    pub(super) fn context(&self, index: u64) -> Addr {
        let after = CODE.bytes().len().next_multiple_of(16) + index as usize * Context::SIZE;
        self.code.checked_add(after as u64).expect("within the vDSO")
    }

    /// Where its tasks can read a limit from, which is put there.
    pub(super) fn put_limit(&self, limit: Rlimit) -> Result<Addr, Error> {
        let at = self.context(self.contexts);
        self.mem.write_exact(at, [limit.soft, limit.hard].map(u64::to_ne_bytes).as_flattened())?;
        Ok(at)
    }

    /// Takes the code away again.
    ///
    /// # Errors
    ///
    /// The process has died.
    pub fn leave(self) -> Result<(), Error> {
        Ok(self.mem.write_exact(self.code, &self.original)?)
    }

    /// Borrows a task for as long as `work` runs. The task comes back
    /// stopped, as it was, whatever became of the work, unless it has died.
    ///
    /// # Errors
    ///
    /// Those of the work; or the task has died, or could not be borrowed or given back.
    pub fn borrow<R, E: From<Error>>(
        &self,
        task: Stopped,
        status: &Status,
        work: impl FnOnce(&mut Borrowed<'_>) -> Result<R, E>,
    ) -> (Option<Stopped>, Result<R, E>) {
        let seen = match self.look([(&task, status)], 0) {
            Ok(seen) => seen.into_iter().next().expect("it was looked at"),
            Err(error) => return (Some(task), Err(error.into())),
        };
        let mut borrowed = Borrowed::new(self, task, seen, 0, None);
        let begun = borrowed.begin().and_then(|()| borrowed.map());
        let result = begun.map_err(E::from).and_then(|()| work(&mut borrowed));
        let (task, given) = borrowed.give_back();
        (task, result.and_then(|done| given.map(|()| done).map_err(E::from)))
    }
}

/// The place behind the ELF image of a vDSO, and how many bytes are free there.
fn behind_image(mem: &Mem, vdso: AddrRange) -> Result<Option<(Addr, usize)>, Error> {
    let mut header = [0; 64];
    mem.read_exact(vdso.start(), &mut header)?;
    let used = image_size(&header).next_multiple_of(16);
    let free = vdso.len().saturating_sub(used) as usize;
    Ok(vdso.start().checked_add(used).map(|start| (start, free)))
}

/// The last `needed` bytes of a mapping, if they are the zeros that fill the
/// last page of a program's code, or what a tracer that was killed left there.
fn at_the_end(mem: &Mem, mapping: AddrRange, needed: u64) -> Option<Addr> {
    let offset = mapping.len().checked_sub(needed.next_multiple_of(16))?;
    let start = mapping.start().checked_add(offset)?;
    let mut bytes = vec![0xff; needed as usize];
    // What cannot be read, such as what is behind the end of a file, is no place.
    mem.read_exact(start, &mut bytes).ok()?;
    let free = bytes.starts_with(CODE.bytes()) || bytes.iter().all(|&byte| byte == 0);
    free.then_some(start)
}

/// Where the ELF image that begins with `header` ends: with its section
/// headers.
fn image_size(header: &[u8; 64]) -> u64 {
    let shoff = u64::from_ne_bytes(std::array::from_fn(|i| header[40 + i]));
    let size = u16::from_ne_bytes([header[58], header[59]]);
    let count = u16::from_ne_bytes([header[60], header[61]]);
    shoff.saturating_add(u64::from(size) * u64::from(count))
}
