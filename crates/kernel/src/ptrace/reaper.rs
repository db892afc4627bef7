//! Takes note of ends while the tracer itself cannot.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::HostPid;

/// A thread that reaps traced tasks as they end, until it is dropped.
///
/// Who calls `execve(2)` waits for the end of all other threads of its process,
/// and those that are traced have ended only when they are reaped. It holds
/// `cred_guard_mutex` meanwhile, for which `PTRACE_SEIZE` of one more thread
/// waits (`de_thread` in `fs/exec.c`, `ptrace_attach` in `kernel/ptrace.c`): a
/// tracer with no such helper and that program would wait for each other for
/// ever.
///
/// The tracer finds some of its tasks reaped: [`Error::Died`](super::Error::Died).
#[derive(Debug)]
pub struct Reaper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    /// How far the tracer is.
    steps: AtomicU64,
    tasks: Mutex<Vec<Pid>>,
}

impl Reaper {
    /// How long the tracer has to stand still until it looks.
    const INTERVAL: Duration = Duration::from_millis(10);

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = Builder::new().name("reaper".into()).stack_size(1 << 16).spawn(move || {
            let mut before = None;
            while !theirs.is_over.load(Ordering::Acquire) {
                std::thread::park_timeout(Self::INTERVAL);
                let now = Some(theirs.steps.load(Ordering::Relaxed));
                if std::mem::replace(&mut before, now) == now {
                    theirs.tasks().retain(|&task| !reap_ended(task));
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has it reap the task too, which is traced.
    pub fn add(&self, tid: HostPid) {
        self.step();
        self.shared.tasks().extend(Pid::from_raw(tid.as_raw()));
    }

    /// Tells it that the tracer does not stand still.
    pub fn step(&self) {
        self.shared.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn tasks(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the task has ended; leaves alone what is to be reported about others.
fn reap_ended(task: Pid) -> bool {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    // Without NOWAIT, this takes reports of stops from the tracer.
    match waitid(WaitId::Pid(task), ended | WaitIdOptions::NOWAIT) {
        Ok(Some(status)) if status.exited() || status.killed() || status.dumped() => {
            // The tracer may have been quicker.
            let _ = waitid(WaitId::Pid(task), ended);
            true
        }
        Ok(_) => false,
        Err(_) => true,
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to panic about.
            let _ = thread.join();
        }
    }
}
