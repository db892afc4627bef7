//! Safe wrappers of the raw calls that several scenarios make.

mod aio;
pub(crate) mod io_uring;
pub(crate) mod key;
pub(crate) mod landlock;
mod memory;
mod mqueue;
mod process;
mod seccomp;
mod signal;
mod timer;
mod untold;
pub(crate) mod userfault;

pub(crate) use aio::Aio;
pub(crate) use memory::{Area, PAGE, page_frames, present, write_protected};
pub(crate) use mqueue::{Queue, no_queues, queue_name, unlink_queue};
pub(crate) use process::{
    CPath, Clone3, IDENTITY, become_subreaper, begin, capture_status, clone_vm, clone3, close,
    credentials, dup2, exit, exit_thread, fork, gettid, is_subreaper, lower_limits, nap,
    no_thread_pidfds, own_pid, parent, run_last, set_errno, sleeps_in, state, status_of,
    wait_siginfo, wait_status, wait_user,
};
pub(crate) use seccomp::{
    KILL_PROCESS, LOG, NEW_LISTENER, TSYNC, USER_NOTIF, allow_only, bare_call, deny, error,
    no_new_privs,
};
pub(crate) use signal::{
    Action, SigInfo, altstack, block, blocked, default, handle, ignore, kill, no_altstack, pending,
    queue, raise, rt_sigaction, set_altstack, sigset, take_signal,
};
pub(crate) use timer::{
    Ask, Expected, itimer, set_itimer, timer_create, timer_delete, timer_left, timer_overrun,
    timer_start,
};
pub(crate) use untold::untold;

use std::io;

/// The result of a raw libc call: `errno` where it is -1.
pub(crate) fn done(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}
