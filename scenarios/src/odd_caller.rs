//! A caller that hands down to its program all it can that is unusual, and ends in it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::sys;

/// The word on the command line that asks for it, before the program and its arguments.
pub const WORD: &str = "--oddly";

/// Signals whose being ignored is handed on; those the C library keeps for itself cannot be.
const IGNORED: [i32; 14] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCHLD,
    libc::SIGTSTP,
    libc::SIGTTOU,
    libc::SIGWINCH,
    libc::SIGURG,
    40,
];

const PR_SET_MEMORY_MERGE: i32 = 67;

/// Becomes the program; returns why not.
#[must_use]
pub fn run(program: &str, args: &[&str]) -> io::Error {
    for signal in IGNORED {
        sys::ignore(signal);
    }
    sys::block(u64::MAX);
    sys::lower_limits(&[
        (libc::RLIMIT_STACK, 1 << 20),
        (libc::RLIMIT_NOFILE, 40),
        (libc::RLIMIT_FSIZE, 100_000),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_DATA, 32 << 20),
        (libc::RLIMIT_AS, 1 << 30),
        (libc::RLIMIT_SIGPENDING, 0),
        (libc::RLIMIT_MEMLOCK, 0),
        (libc::RLIMIT_MSGQUEUE, 0),
    ]);
    sys::run_last();
    // SAFETY: the calls change properties of this process, which is about to become another program,
    // and read what is given to them.
    unsafe {
        libc::umask(0o777);
        libc::setpriority(libc::PRIO_PROCESS, 0, 7);
        let first_node = 1_u64;
        libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_INTERLEAVE, &raw const first_node, 64);
        libc::personality((libc::ADDR_NO_RANDOMIZE | libc::UNAME26) as libc::c_ulong);
        libc::setgroups(1, &4242);
        for (option, value) in [
            (libc::PR_SET_TIMERSLACK, 1_234_567),
            (libc::PR_SET_THP_DISABLE, 1),
            (libc::PR_SET_CHILD_SUBREAPER, 1),
            (PR_SET_MEMORY_MERGE, 1),
        ] {
            libc::prctl(option, value, 0, 0, 0);
        }
        libc::prctl(libc::PR_MCE_KILL, libc::PR_MCE_KILL_SET, libc::PR_MCE_KILL_EARLY, 0, 0);
        for speculation in [0, 1] {
            const PR_SET_SPECULATION_CTRL: i32 = 53;
            libc::prctl(PR_SET_SPECULATION_CTRL, speculation, libc::PR_SPEC_DISABLE, 0, 0);
        }
        for number in 3..30 {
            libc::dup2(0, number);
        }
    }
    let _ = std::fs::write("/proc/self/coredump_filter", "0x7f");
    let _ = std::fs::write("/proc/self/oom_score_adj", "300");
    Command::new(program).args(args).exec()
}
