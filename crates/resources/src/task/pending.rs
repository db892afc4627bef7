//! Signals that wait to be delivered, to a process as a whole or to one
//! thread.
//!
//! - Kernel object: `struct sigpending` of the thread and of the process
//! - Truth from: `PTRACE_PEEKSIGINFO`, which takes nothing out of the queues; it looks for each signal
//!   from the front (`ptrace_peek_siginfo` in `kernel/ptrace.c`), however many are asked for at once, so
//!   the time grows with the square of their number: 0.04 s for 5000, 0.7 s for 20000
//! - Image: `core-PID.img`, `tc.signals_s`; `core-TID.img`,
//!   `thread_core.signals_p`; the 128 bytes of `siginfo_t` each, in order
//! - Not preserved: that a signal was queued without its siginfo for want of
//!   memory

use dormouse_image::proto::core::CoreEntry;
use dormouse_image::proto::signal::{SiginfoEntry, SignalQueueEntry};
use dormouse_kernel::ptrace::{Queue, Stopped};
use dormouse_kernel::signal::SigInfo;
use dormouse_puppet::{Batch, Replies};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// Signals pending for a process as a whole, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessPending(Vec<SigInfo>);

/// Signals pending for one thread, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPending(Vec<SigInfo>);

impl ProcessPending {
    /// Looks into the queue of a stopped task.
    pub fn peek(task: &Stopped) -> Result<Self> {
        Ok(Self(task.queued_signals(Queue::Process)?))
    }

    /// The signals, oldest first.
    #[must_use]
    pub fn signals(&self) -> &[SigInfo] {
        &self.0
    }
}

impl ThreadPending {
    /// Looks into the queue of a stopped task.
    pub fn peek(task: &Stopped) -> Result<Self> {
        Ok(Self(task.queued_signals(Queue::Thread)?))
    }

    /// The signals, oldest first.
    #[must_use]
    pub fn signals(&self) -> &[SigInfo] {
        &self.0
    }
}

fn encode(signals: &[SigInfo]) -> SignalQueueEntry {
    SignalQueueEntry {
        signals: signals
            .iter()
            .map(|info| SiginfoEntry { siginfo: info.as_bytes().to_vec() })
            .collect(),
    }
}

fn decode(queue: Option<&SignalQueueEntry>) -> Result<Vec<SigInfo>> {
    queue
        .map_or(&[][..], |queue| &queue.signals)
        .iter()
        .map(|entry| {
            let bytes = entry.siginfo.as_slice().try_into().ok();
            bytes
                .map(SigInfo::from_bytes)
                .filter(|info| info.signal().is_some())
                .ok_or_else(|| corrupt_core("pending signals", "not a siginfo_t"))
        })
        .collect()
}

impl Property for ProcessPending {
    const NAME: &'static str = "signals pending for the process";
    type Asked = ();

    fn ask(_: &mut Batch) -> Self::Asked {}

    fn collect(task: &TaskProbe<'_>, _: &Replies, (): Self::Asked) -> Result<Self> {
        Self::peek(task.stopped)
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().signals_s = Some(encode(&self.0));
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        decode(core.tc.as_ref().and_then(|tc| tc.signals_s.as_ref())).map(Self)
    }

    /// A process may queue any siginfo to itself.
    fn apply(&self, batch: &mut Batch) {
        if self.0.is_empty() {
            return;
        }
        let pid = batch.call(libc::SYS_getpid, []);
        for info in &self.0 {
            let signal = info.signal().expect("checked when it was read");
            let info = batch.data(info.as_bytes());
            batch.call(
                libc::SYS_rt_sigqueueinfo,
                [(&pid).into(), signal.as_raw().into(), info.into()],
            );
        }
    }
}

impl Property for ThreadPending {
    const NAME: &'static str = "signals pending for the thread";
    type Asked = ();

    fn ask(_: &mut Batch) -> Self::Asked {}

    fn collect(task: &TaskProbe<'_>, _: &Replies, (): Self::Asked) -> Result<Self> {
        Self::peek(task.stopped)
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().signals_p = Some(encode(&self.0));
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        decode(core.thread_core.as_ref().and_then(|thread| thread.signals_p.as_ref())).map(Self)
    }

    /// Comes earlier, by [`ThreadPending::queue`].
    fn apply(&self, _: &mut Batch) {}
}

impl ThreadPending {
    /// A thread may queue any siginfo to itself, as long as it has no limit: after the actions of the
    /// process, which can take signals out of the queue, and before its limits.
    pub fn queue(&self, batch: &mut Batch) {
        if self.0.is_empty() {
            return;
        }
        let pid = batch.call(libc::SYS_getpid, []);
        let tid = batch.call(libc::SYS_gettid, []);
        for info in &self.0 {
            let signal = info.signal().expect("checked when it was read");
            let info = batch.data(info.as_bytes());
            batch.call(
                libc::SYS_rt_tgsigqueueinfo,
                [(&pid).into(), (&tid).into(), signal.as_raw().into(), info.into()],
            );
        }
    }
}
