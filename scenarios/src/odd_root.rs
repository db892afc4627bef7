//! A root of a tree that has all that is unusual and does not keep a scenario from what it does.

use std::path::Path;

use crate::sys;

/// The word on the command line that asks for it, behind a scenario, its directory and user.
pub const WORD: &str = "oddly";

/// Signals that it ignores; dormouse would have one of them, `SIGURG`, tell when a task has made its calls.
const IGNORED: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    40,
];
/// And those that it blocks.
const BLOCKED: [i32; 3] = [libc::SIGURG, libc::SIGWINCH, 41];

/// Makes this process such a root. It has no standard input and output, no working directory any
/// more, is in the session of whoever has started it, and leads a group there.
pub(crate) fn begin(dir: &Path) {
    sys::close(0);
    sys::close(1);
    let gone = dir.join("gone");
    std::fs::create_dir(&gone).expect("mkdir");
    std::env::set_current_dir(&gone).expect("chdir");
    std::fs::remove_dir(&gone).expect("rmdir");
    for signal in IGNORED {
        sys::ignore(signal);
    }
    sys::block(BLOCKED.iter().fold(0, |set, signal| set | 1 << (signal - 1)));
    sys::lower_limits(&[
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_STACK, 2 << 20),
        (libc::RLIMIT_NOFILE, 200),
        (libc::RLIMIT_FSIZE, 64 << 20),
        (libc::RLIMIT_SIGPENDING, 1000),
        (libc::RLIMIT_MEMLOCK, 0),
        (libc::RLIMIT_RTPRIO, 0),
    ]);
    sys::run_last();
    // SAFETY: the calls change properties of this process, which has done nothing yet, and read what
    // is given to them. What one of them may not do is not odd then.
    unsafe {
        libc::umask(0o077);
        libc::alarm(5000);
        libc::setpriority(libc::PRIO_PROCESS, 0, 3);
        libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
        for (option, value) in [
            (libc::PR_SET_TIMERSLACK, 1_234_567),
            (libc::PR_SET_THP_DISABLE, 1),
            (libc::PR_SET_CHILD_SUBREAPER, 1),
            (libc::PR_SET_NO_NEW_PRIVS, 1),
            (libc::PR_SET_PDEATHSIG, libc::SIGURG as libc::c_ulong),
        ] {
            libc::prctl(option, value, 0, 0, 0);
        }
        libc::prctl(libc::PR_MCE_KILL, libc::PR_MCE_KILL_SET, libc::PR_MCE_KILL_EARLY, 0, 0);
        for module_and_raw_io in [16, 17] {
            libc::prctl(libc::PR_CAPBSET_DROP, module_and_raw_io, 0, 0, 0);
        }
    }
    let _ = std::fs::write("/proc/self/coredump_filter", "0x7f");
    let _ = std::fs::write("/proc/self/oom_score_adj", "300");
}
