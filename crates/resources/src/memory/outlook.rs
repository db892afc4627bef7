//! What a process has asked for with respect to all memory it maps from now on.
//!
//! **Kernel object**: `mm->def_flags` and `MMF_VM_MERGE_ANY`.
//!
//! **Truth from**: what the puppet has mapped for its batches, which is locked if `MCL_FUTURE` is
//! set (`msync(MS_INVALIDATE)` answers `EBUSY`), and is there before it was touched unless
//! `MCL_ONFAULT` is; `PR_GET_MEMORY_MERGE`.
//!
//! **Image**: fields of its own in `mm-PID.img`.
//!
//! **Create**: `mlockall(2)` and `PR_SET_MEMORY_MERGE`, when all memory is mapped.
//!
//! **Kernel needed**: 6.4 for merging, whose setting takes `CAP_SYS_RESOURCE`.
//!
//! **Scenarios**: `memory::locked_future`.

use dormouse_image::proto::mm::MmEntry;
use dormouse_kernel::{AddrRange, Errno, PAGE_SIZE};
use dormouse_puppet::{Batch, OutSlot, Replies, Slot};

use super::error::MappingProblem;
use super::vma::Lock;

const PR_SET_MEMORY_MERGE: i32 = 67;
const PR_GET_MEMORY_MERGE: i32 = 68;

/// What becomes of memory that is mapped from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// `mlockall(MCL_FUTURE)`.
    lock: Lock,
    /// `PR_SET_MEMORY_MERGE`: the kernel may merge equal pages.
    merge: bool,
}

/// The questions of a process.
#[derive(Debug)]
pub struct OutlookAsked {
    locked: Slot,
    resident: OutSlot,
    merge: Slot,
}

impl Outlook {
    /// Asks about memory that has just been mapped, and was not touched at its end.
    pub fn ask(batch: &mut Batch, fresh: AddrRange) -> OutlookAsked {
        let last = fresh.end().as_raw() - PAGE_SIZE;
        let page = [last.into(), PAGE_SIZE.into()];
        let [at, len] = page;
        let resident = batch.out(8);
        batch.may_fail(libc::SYS_mincore, [at, len, (&resident).into()]);
        let locked = batch.may_fail(libc::SYS_msync, [at, len, libc::MS_INVALIDATE.into()]);
        let none = || 0.into();
        let args = [PR_GET_MEMORY_MERGE.into(), none(), none(), none(), none()];
        OutlookAsked { locked, resident, merge: batch.may_fail(libc::SYS_prctl, args) }
    }

    /// Reads the answers.
    #[must_use]
    pub fn collect(replies: &Replies, asked: &OutlookAsked) -> Self {
        let locked = replies.result(&asked.locked) == Err(Errno::BUSY);
        let resident = replies.bytes(&asked.resident)[0] & 1 != 0;
        let lock = match (locked, resident) {
            (false, _) => Lock::None,
            (true, true) => Lock::All,
            (true, false) => Lock::OnFault,
        };
        // An older kernel knows no merging.
        Self { lock, merge: replies.result(&asked.merge) == Ok(1) }
    }

    /// Fills in its fields.
    pub(super) fn encode(self, entry: &mut MmEntry) {
        let Self { lock, merge } = self;
        entry.future_locks = match lock {
            Lock::None => None,
            Lock::All => Some(libc::MCL_FUTURE.unsigned_abs()),
            Lock::OnFault => Some((libc::MCL_FUTURE | libc::MCL_ONFAULT).unsigned_abs()),
        };
        entry.merge = merge.then_some(true);
    }

    /// Reads its fields.
    pub(super) fn decode(entry: &MmEntry) -> Result<Self, MappingProblem> {
        const ALL: u32 = libc::MCL_FUTURE.unsigned_abs();
        const ON_FAULT: u32 = (libc::MCL_FUTURE | libc::MCL_ONFAULT).unsigned_abs();
        let lock = match entry.future_locks {
            None => Lock::None,
            Some(ALL) => Lock::All,
            Some(ON_FAULT) => Lock::OnFault,
            Some(other) => return Err(MappingProblem::Flags(other)),
        };
        Ok(Self { lock, merge: entry.merge.unwrap_or(false) })
    }

    /// Adds the calls that make it so.
    pub(super) fn set(self, batch: &mut Batch) {
        let Self { lock, merge } = self;
        let flags = match lock {
            Lock::None => 0,
            Lock::All => libc::MCL_FUTURE,
            Lock::OnFault => libc::MCL_FUTURE | libc::MCL_ONFAULT,
        };
        if flags != 0 {
            batch.call(libc::SYS_mlockall, [flags.into()]);
        }
        if merge {
            let none = || 0.into();
            let args = [PR_SET_MEMORY_MERGE.into(), 1.into(), none(), none(), none()];
            batch.call(libc::SYS_prctl, args);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_reads_back() {
        for lock in [Lock::None, Lock::All, Lock::OnFault] {
            for merge in [false, true] {
                let outlook = Outlook { lock, merge };
                let mut entry = MmEntry::default();
                outlook.encode(&mut entry);
                assert_eq!(Outlook::decode(&entry), Ok(outlook));
            }
        }
        let entry = MmEntry { future_locks: Some(1), ..MmEntry::default() };
        assert_eq!(Outlook::decode(&entry), Err(MappingProblem::Flags(1)));
    }
}
