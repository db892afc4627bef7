//! What threads have said about themselves: timer slack, I/O priority, affinity, nice value and
//! policy, machine checks, time stamps, membarrier, write-execute protection, permission for AMX,
//! transparent huge pages, numbering of timers.
//!
//! Verified: every one, of the leader and of a thread that differs.
//! CRIU: keeps policy, nice value and membarrier.

use std::io;

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
const PR_TIMER_CREATE_RESTORE_IDS_ON: u64 = 1;
const PR_TIMER_CREATE_RESTORE_IDS_GET: u64 = 2;
const PR_THP_DISABLE_EXCEPT_ADVISED: u64 = 2;
const PR_GET_MDWE: i32 = 66;
const PR_SET_MDWE: i32 = 65;
const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
const MEMBARRIER_REGISTER_PRIVATE: i32 = 1 << 4;
const MEMBARRIER_GET_REGISTRATIONS: i32 = 1 << 9;
const IOPRIO_WHO_PROCESS: i32 = 1;
/// Class "best effort", level 6.
const BEST_EFFORT_6: i32 = 2 << 13 | 6;
const SCHED_BATCH: i32 = 3;
const ARCH_GET_XCOMP_PERM: u64 = 0x1022;
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
/// The tiles of AMX.
const TILES: u64 = 18;

fn call(number: libc::c_long, args: [u64; 5]) -> i64 {
    let [a, b, c, d, e] = args;
    // SAFETY: all calls here take plain numbers.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result == -1 {
        -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        result
    }
}

fn prctl(option: i32, value: u64) -> i64 {
    call(libc::SYS_prctl, [option as u64, value, 0, 0, 0])
}

/// The processors this thread may run on, of the first 64.
fn affinity() -> u64 {
    let mut set = [0u64; 16];
    // SAFETY: the set has the length stated.
    unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&set), set.as_mut_ptr()) };
    set[0]
}

/// The components of the processor's state that this process may use.
fn permissions() -> u64 {
    let mut components = 0_u64;
    // SAFETY: the kernel writes one word.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &raw mut components) };
    components
}

/// Everything that a thread has of its own.
fn own() -> [i64; 6] {
    [
        prctl(libc::PR_GET_TIMERSLACK, 0),
        call(libc::SYS_ioprio_get, [IOPRIO_WHO_PROCESS as u64, 0, 0, 0, 0]),
        affinity() as i64,
        call(libc::SYS_getpriority, [0, 0, 0, 0, 0]),
        call(libc::SYS_sched_getscheduler, [0, 0, 0, 0, 0]),
        prctl(libc::PR_MCE_KILL_GET, 0),
    ]
}

/// Changes all of it.
fn change() {
    let processor = affinity() & affinity().wrapping_neg();
    // SAFETY: the set has the length stated.
    let set = unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&processor), &raw const processor)
    };
    check_eq!(set, 0, "sched_setaffinity");
    let parameter = 0i32;
    // SAFETY: a `struct sched_param` is one int, which lives over the call.
    let policy = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, SCHED_BATCH, &raw const parameter)
    };
    check_eq!(policy, 0, "sched_setscheduler");
    check_eq!(prctl(libc::PR_SET_TIMERSLACK, 123_456), 0, "PR_SET_TIMERSLACK");
    let priority = [IOPRIO_WHO_PROCESS as u64, 0, BEST_EFFORT_6 as u64, 0, 0];
    check_eq!(call(libc::SYS_ioprio_set, priority), 0, "ioprio_set");
    check_eq!(call(libc::SYS_setpriority, [0, 0, 7, 0, 0]), 0, "setpriority");
    let early = [libc::PR_MCE_KILL as u64, libc::PR_MCE_KILL_SET as u64, 1, 0, 0];
    check_eq!(call(libc::SYS_prctl, early), 0, "PR_MCE_KILL");
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        change();
        let before = own();
        cx.arrive(crate::sys::gettid());
        crate::context::until_forever(|| cx.gone());
        (before, own())
    });
    let process = || {
        [
            prctl(PR_GET_MDWE, 0),
            call(libc::SYS_membarrier, [MEMBARRIER_GET_REGISTRATIONS as u64, 0, 0, 0, 0]),
            permissions() as i64,
            prctl(libc::PR_GET_THP_DISABLE, 0),
            prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET),
        ]
    };
    // Kernels before 6.3 have neither; then nothing is said, before and after.
    prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN);
    // Kernels before 6.18 know no flags, those before 6.15 no such numbering.
    let flags = PR_THP_DISABLE_EXCEPT_ADVISED;
    if call(libc::SYS_prctl, [libc::PR_SET_THP_DISABLE as u64, 1, flags, 0, 0]) != 0 {
        prctl(libc::PR_SET_THP_DISABLE, 1);
    }
    prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_ON);
    let register = [MEMBARRIER_REGISTER_PRIVATE as u64, 0, 0, 0, 0];
    check_eq!(call(libc::SYS_membarrier, register), 0, "membarrier");
    // A processor without tiles refuses.
    call(libc::SYS_arch_prctl, [ARCH_REQ_XCOMP_PERM, TILES, 0, 0, 0]);
    let before = (own(), process());

    cx.ready_and_wait();

    check_eq!((own(), process()), before, "what the leader and the process have");
    let (set, found) = thread.join().expect("the thread");
    check_eq!(found, set, "what the thread has");
    check!(set != before.0, "the thread does not differ");
}
