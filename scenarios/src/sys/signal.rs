//! Signals as the kernel keeps them: 64-bit masks, raw actions.

use std::{io, mem, ptr};

use super::{Area, done};

/// A signal's action, as `rt_sigaction(2)` has it (`arch/x86/include/uapi/asm/signal.h`).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Action {
    pub(crate) handler: usize,
    pub(crate) flags: u64,
    pub(crate) restorer: usize,
    pub(crate) mask: u64,
}

/// What tells one queued signal from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SigInfo {
    pub(crate) signo: i32,
    pub(crate) code: i32,
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) value: usize,
}

impl From<&libc::siginfo_t> for SigInfo {
    fn from(raw: &libc::siginfo_t) -> Self {
        // SAFETY: every field of the union lies within the 128 bytes, and all are plain numbers.
        let (pid, uid, value) = unsafe { (raw.si_pid(), raw.si_uid(), raw.si_value().sival_ptr) };
        Self { signo: raw.si_signo, code: raw.si_code, pid, uid, value: value.addr() }
    }
}

/// The mask of these signals.
pub(crate) fn sigset(signals: &[i32]) -> u64 {
    signals.iter().map(|s| 1u64 << (s - 1)).sum()
}

/// `rt_sigaction(2)`: the action before; `new` replaces it.
pub(crate) fn rt_sigaction(signal: i32, new: Option<&Action>) -> Action {
    let mut old = Action::default();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both pointers are null or valid over the call; a handler that is set is a function
    // of this program (the callers') with a restorer.
    done(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, &raw mut old, 8usize) })
        .expect("rt_sigaction");
    old
}

/// Sets a handler through libc, which supplies the restorer.
pub(crate) fn handle(
    signal: i32,
    handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void),
    flags: i32,
) {
    // SAFETY: all zeros is a `sigaction`.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = flags | libc::SA_SIGINFO;
    // SAFETY: `action` lives over the call and its handler has the SA_SIGINFO form.
    done(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })
        .expect("sigaction");
}

/// Ignores the signal.
pub(crate) fn ignore(signal: i32) {
    rt_sigaction(signal, Some(&Action { handler: libc::SIG_IGN, ..Action::default() }));
}

/// Leaves the signal to the kernel.
pub(crate) fn default(signal: i32) {
    rt_sigaction(signal, Some(&Action::default()));
}

fn procmask(how: i32, mask: Option<u64>) -> u64 {
    let mut old = 0u64;
    let new = mask.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both pointers are null or valid over the call.
    done(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, new, &raw mut old, 8usize) })
        .expect("rt_sigprocmask");
    old
}

/// Adds to this thread's blocked signals.
pub(crate) fn block(mask: u64) {
    procmask(libc::SIG_BLOCK, Some(mask));
}

/// This thread's blocked signals.
pub(crate) fn blocked() -> u64 {
    procmask(libc::SIG_BLOCK, None)
}

/// Signals pending for this thread or its process.
pub(crate) fn pending() -> u64 {
    let mut set = 0u64;
    // SAFETY: `set` has the eight bytes stated.
    done(unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, 8usize) })
        .expect("rt_sigpending");
    set
}

/// Queues a signal with a payload: to the process, or to one thread of it.
pub(crate) fn queue(pid: i32, thread: Option<i32>, signal: i32, value: usize) -> io::Result<()> {
    // SAFETY: all zeros is a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    info.si_signo = signal;
    info.si_code = libc::SI_QUEUE;
    let at = (&raw mut info).cast::<u8>();
    // SAFETY: si_pid, si_uid and si_value of the 128 bytes stand at 16, 20 and 24 on 64-bit
    // machines (include/uapi/asm-generic/siginfo.h).
    unsafe {
        at.add(16).cast::<i32>().write(std::process::id() as i32);
        at.add(20).cast::<u32>().write(rustix::process::getuid().as_raw());
        at.add(24).cast::<usize>().write(value);
    }
    // SAFETY: `info` lives over the call.
    done(unsafe {
        match thread {
            Some(tid) => {
                libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal, &raw const info)
            }
            None => libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, &raw const info),
        }
    })
    .map(drop)
}

/// `sigaltstack(2)`: this area is the thread's alternate stack.
pub(crate) fn set_altstack(area: Area, flags: i32) {
    let stack =
        libc::stack_t { ss_sp: area.pointer().cast(), ss_flags: flags, ss_size: area.len() };
    // SAFETY: the area stays mapped and is used for nothing else.
    done(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) }).expect("sigaltstack");
}

/// `sigaltstack(2)`: the thread has no alternate stack.
pub(crate) fn no_altstack() {
    let stack = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: nothing runs on the one it may have had.
    done(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) }).expect("sigaltstack");
}

/// Address, flags and size of the thread's alternate stack.
pub(crate) fn altstack() -> (usize, i32, usize) {
    // SAFETY: all zeros is a `stack_t`, and the call only writes it.
    let mut stack: libc::stack_t = unsafe { mem::zeroed() };
    // SAFETY: as above.
    done(unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) }).expect("sigaltstack");
    (stack.ss_sp.addr(), stack.ss_flags, stack.ss_size)
}

/// Takes one pending signal of the set, if there is one, without waiting.
pub(crate) fn take_signal(set: u64) -> Option<SigInfo> {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: all zeros is a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: all three live over the call; the set has the eight bytes stated.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const set,
            &raw mut info,
            &raw const zero,
            8usize,
        )
    };
    (signal > 0).then(|| SigInfo::from(&info))
}

/// Sends this thread a signal; true if that worked.
pub(crate) fn raise(signal: i32) -> bool {
    // SAFETY: a plain number.
    unsafe { libc::raise(signal) == 0 }
}

/// Sends a process a signal.
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: plain numbers.
    done(unsafe { libc::kill(pid, signal) }).expect("kill");
}
