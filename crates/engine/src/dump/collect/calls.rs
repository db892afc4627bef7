//! The calls that tasks were stopped in.

use std::collections::BTreeMap;
use std::time::Duration;

use dormouse_kernel::ptrace::Registers;
use dormouse_kernel::{Addr, HostPid, remote_memory};
use dormouse_puppet::{Interruption, interruption, remainder};

use crate::dump::restart_block::{Remembered, RestartBlocks};
use crate::dump::sleepers::Deadline;
use crate::dump::waits::Wait;

/// What is known of interrupted calls.
pub(super) struct Calls {
    /// From before.
    pub(super) waits: BTreeMap<HostPid, Wait>,
    /// Likewise, of those whose `EINTR` is hidden.
    pub(super) deadlines: BTreeMap<HostPid, Deadline>,
    /// The turns of those who wait in epolls with others.
    pub(super) turns: BTreeMap<HostPid, u32>,
    /// In the kernel, when somebody has asked.
    pub(super) blocks: Option<RestartBlocks>,
}

/// How a task was interrupted in a call, what is left of the call's time-out,
/// and registers that make it again.
pub(super) fn interrupted_call(
    tid: HostPid,
    registers: Registers,
    Calls { waits, deadlines, blocks, .. }: &mut Calls,
) -> (Option<Interruption>, Option<Duration>, Registers) {
    if let Some(deadline) = deadlines.get(&tid) {
        let again = Interruption::call_again(&registers);
        return (Some(Interruption::Interrupted), Some(deadline.left()), again);
    }
    // An `EINTR` that was not hidden when the task was stopped is the program's own.
    let Some(interrupted) = interruption(&registers, true) else {
        return (None, None, registers);
    };
    let again = Interruption::call_again(&registers);
    let wait = waits.get(&tid);
    if interrupted != Interruption::RestartBlock {
        return (Some(interrupted), None, again);
    }
    let blocks = blocks.get_or_insert_with(RestartBlocks::read);
    match blocks.of(tid, &registers) {
        Some(Remembered { number, time_left }) => {
            let left = time_left.or_else(|| told_remainder(tid, number, &registers));
            if let Some(wait) = wait {
                wait.forget_remainder(tid, &registers, number);
            }
            (Some(interrupted), left, Registers { rax: number, ..again })
        }
        None => (Some(interrupted), None, again),
    }
}

/// What an interrupted sleep has told its program of the time left.
fn told_remainder(tid: HostPid, number: u64, registers: &Registers) -> Option<Duration> {
    let Registers { rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
    let at = remainder(number.cast_signed(), &[rdi, rsi, rdx, r10, r8, r9])?;
    let mut bytes = [0; 16];
    remote_memory::read_exact(tid, Addr::from_raw(at), &mut bytes).ok()?;
    let (words, _) = bytes.as_chunks::<8>();
    let nanos = u32::try_from(u64::from_ne_bytes(words[1])).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(u64::from_ne_bytes(words[0]), nanos))
}
