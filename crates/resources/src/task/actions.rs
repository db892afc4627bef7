//! Signal actions of a process.
//!
//! - Kernel object: `struct sighand_struct`, 64 `struct k_sigaction`
//! - Truth from: `rt_sigaction(2)` asked of the process itself; `/proc` tells
//!   only which signals are caught or ignored
//! - Image: `core-PID.img`, `tc.sigactions`, 62 entries in the order of the
//!   signals, SIGKILL and SIGSTOP left out
//! - Not preserved: nothing

use dormouse_image::proto::core::CoreEntry;
use dormouse_image::proto::signal::SaEntry;
use dormouse_kernel::signal::{KernelSigaction, Signal};
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// The actions of all signals that can have one, in the order of the
/// signals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions(Vec<KernelSigaction>);

/// The size of the kernel's `sigset_t`, which signal calls want to be told.
pub(super) const SIGSET_SIZE: u64 = 8;

pub(super) fn with_action() -> impl Iterator<Item = Signal> {
    Signal::all().filter(|&signal| signal != Signal::KILL && signal != Signal::STOP)
}

impl Property for Actions {
    const NAME: &'static str = "signal actions";
    type Asked = Vec<OutSlot>;

    fn ask(batch: &mut Batch) -> Self::Asked {
        with_action()
            .map(|signal| {
                let action = batch.out(KernelSigaction::SIZE);
                batch.call(
                    libc::SYS_rt_sigaction,
                    [signal.as_raw().into(), 0.into(), (&action).into(), SIGSET_SIZE.into()],
                );
                action
            })
            .collect()
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(
            asked.iter().map(|slot| KernelSigaction::from_bytes(replies.array(slot))).collect(),
        ))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().sigactions = self
            .0
            .iter()
            .map(|&KernelSigaction { handler, flags, restorer, mask }| SaEntry {
                sigaction: handler,
                flags,
                restorer,
                mask: mask.as_raw(),
                compat_sigaction: None,
                mask_extended: None,
            })
            .collect();
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let entries = core.tc.as_ref().map_or(&[][..], |tc| &tc.sigactions);
        if entries.len() != with_action().count() {
            return Err(corrupt_core(Self::NAME, "not one entry per signal"));
        }
        if entries.iter().any(|entry| entry.compat_sigaction == Some(true)) {
            return Err(corrupt_core(Self::NAME, "of a 32-bit process"));
        }
        Ok(Self(
            entries
                .iter()
                .map(|entry| KernelSigaction {
                    handler: entry.sigaction,
                    flags: entry.flags,
                    restorer: entry.restorer,
                    mask: dormouse_kernel::signal::SigSet::from_raw(entry.mask),
                })
                .collect(),
        ))
    }

    fn apply(&self, batch: &mut Batch) {
        let default = KernelSigaction::default();
        for (signal, action) in with_action().zip(&self.0) {
            if *action == default {
                continue;
            }
            let action = batch.data(&action.to_bytes());
            batch.call(
                libc::SYS_rt_sigaction,
                [signal.as_raw().into(), action.into(), 0.into(), SIGSET_SIZE.into()],
            );
        }
    }
}
