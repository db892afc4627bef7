//! Processes: forking, waiting, identities, and what `/proc` tells of them.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::done;
use super::signal::{default, no_altstack};
use crate::User;

/// Starts a scenario: a session of its own if it `leads`, else a group; no descriptor but the first three, and the user it
/// runs as. What Rust's runtime has set up for itself and other programs do not have, an
/// alternate stack and an ignored SIGPIPE, is taken back.
pub(crate) fn begin(user: User, leads: bool) {
    // SAFETY: nothing has been opened yet, so what is closed came from outside.
    done(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }).expect("close_range");
    let own = match leads {
        true => rustix::process::setsid().map(drop),
        false => rustix::process::setpgid(None, None),
    };
    own.expect("the harness started us with fork, so we lead no group");
    default(libc::SIGPIPE);
    no_altstack();
    if user == User::Root {
        return;
    }
    let groups = [User::GID, User::GID + 7];
    // SAFETY: `groups` has the stated length; the other calls take plain numbers.
    let results = unsafe {
        [
            libc::setgroups(groups.len(), groups.as_ptr()),
            libc::setresgid(User::GID, User::GID, User::GID),
            libc::setresuid(User::UID, User::UID, User::UID),
            // As exec would have left it had the user started the program.
            libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
        ]
    };
    assert_eq!(results, [0; 4], "becoming an ordinary user: {}", std::io::Error::last_os_error());
}

/// Ends this process at once, without running any destructor.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Ends this thread alone, without running any destructor.
pub(crate) fn exit_thread(status: i32) -> ! {
    // SAFETY: `exit` has no preconditions; what the thread has borrowed to others stays where it is,
    // as its stack does.
    unsafe { libc::syscall(libc::SYS_exit, status) };
    unreachable!("it has ended")
}

/// `clone(2)` with `CLONE_VM`: makes a process that has its memory in common with this one, and
/// ends with what `body` gives. Even its thread-local memory is that of its maker, so it must make
/// plain calls only, and not at the same time.
pub(crate) fn clone_vm<T: Sync + 'static>(
    flags: i32,
    body: fn(&T) -> i32,
    with: &'static T,
) -> i32 {
    struct Life<T: 'static>(fn(&T) -> i32, &'static T);
    extern "C" fn live<T: 'static>(life: *mut libc::c_void) -> i32 {
        // SAFETY: it is what was given below, and lives for ever.
        let Life(body, with) = unsafe { &*life.cast::<Life<T>>() };
        body(with)
    }
    const STACK: usize = 64 << 10;
    let stack = vec![0_u8; STACK].leak();
    let life: *mut Life<T> = Box::leak(Box::new(Life(body, with)));
    let flags = flags | libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the stack is the child's for ever.
    let pid =
        unsafe { libc::clone(live::<T>, stack.as_mut_ptr().add(STACK).cast(), flags, life.cast()) };
    done(pid).expect("clone");
    pid
}

/// `fork(2)`: 0 in the child, the child's pid in the parent.
///
/// The child of a process with several threads must not take locks; glibc's
/// allocator is kept usable by its own fork handlers.
pub(crate) fn fork() -> i32 {
    // SAFETY: the child goes on in this very program, with its copy of all memory; the locks
    // a lost thread might hold are those of the scenario, which minds them.
    let pid = unsafe { libc::fork() };
    done(pid).expect("fork");
    pid
}

/// What `clone3(2)` is asked for beyond a plain fork.
#[derive(Default)]
pub(crate) struct Clone3 {
    /// `CLONE_*`; none that share memory.
    pub(crate) flags: u64,
    /// The pid the child must get; 0 for any.
    pub(crate) pid: i32,
    /// The signal its end sends to the parent.
    pub(crate) exit_signal: i32,
}

/// `clone3(2)` without a stack of its own: like fork, with more said.
pub(crate) fn clone3(ask: &Clone3) -> std::io::Result<i32> {
    assert_eq!(ask.flags & (libc::CLONE_VM as u64 | libc::CLONE_THREAD as u64), 0);
    let set_tid = [ask.pid];
    let args = libc::clone_args {
        flags: ask.flags,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: ask.exit_signal as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: if ask.pid == 0 { 0 } else { set_tid.as_ptr() as u64 },
        set_tid_size: u64::from(ask.pid != 0),
        cgroup: 0,
    };
    // SAFETY: `args` and `set_tid` live over the call; without CLONE_VM the child has its own
    // copy of this stack, as after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    done(pid).map(|pid| pid as i32)
}

/// This thread's id.
pub(crate) fn gettid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// This process's parent, 0 if it is outside the pid namespace.
pub(crate) fn parent() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// This process.
pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// One `nanosleep(2)`, which a signal cuts short.
pub(crate) fn nap(time: Duration) {
    let time =
        libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: `time` lives over the call.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

/// The state letter of a task in `/proc/PID/stat`, `None` if there is no such task.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.iter().rposition(|&b| b == b')')?;
    stat.get(after + 2).map(|&b| b.into())
}

/// Whether a task sleeps in the syscall. One that was just woken is told to be in its call still, but
/// not to sleep: `TASK_WAKING` is a state like any other to `task_current_syscall` in `lib/syscall.c`.
pub(crate) fn sleeps_in(tid: i32, syscall: libc::c_long) -> bool {
    let call = || fs::read_to_string(format!("/proc/{tid}/syscall"));
    state(tid) == Some('S') && call().is_ok_and(|call| call.starts_with(&format!("{syscall} ")))
}

/// `waitpid(2)`: the raw status.
pub(crate) fn wait_status(pid: i32) -> Result<i32, i32> {
    let mut status = 0;
    // SAFETY: `status` lives over the call.
    match unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        _ => Ok(status),
    }
}

/// `waitid(2)` for one child with these `W*` flags: (`si_code`, `si_status`).
pub(crate) fn wait_siginfo(pid: i32, flags: i32) -> std::io::Result<(i32, i32)> {
    // SAFETY: all zeros is a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` lives over the call.
    done(unsafe { libc::waitid(libc::P_PID, pid as u32, &raw mut info, flags) })?;
    // SAFETY: waitid filled in the SIGCHLD form.
    Ok((info.si_code, unsafe { info.si_status() }))
}

/// The same, for the real user id of the child (`si_uid`).
pub(crate) fn wait_user(pid: i32, flags: i32) -> std::io::Result<u32> {
    // SAFETY: all zeros is a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` lives over the call.
    done(unsafe { libc::waitid(libc::P_PID, pid as u32, &raw mut info, flags) })?;
    // SAFETY: waitid filled in the SIGCHLD form.
    Ok(unsafe { info.si_uid() })
}

/// The named fields of this thread's `/proc/thread-self/status`, one line each.
pub(crate) fn capture_status(fields: &[&str]) -> Vec<String> {
    status_of("thread-self", fields)
}

/// The same of the task whose directory in `/proc` this is.
pub(crate) fn status_of(task: &str, fields: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{task}/status")).expect("status");
    text.lines()
        .filter(|l| fields.iter().any(|f| l.split(':').next() == Some(f)))
        .map(Into::into)
        .collect()
}

/// What `status` tells of a task's identity: uids, gids, groups, capability sets, no_new_privs.
pub(crate) const IDENTITY: [&str; 9] =
    ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];

/// This thread's identity.
pub(crate) fn credentials() -> Vec<String> {
    capture_status(&IDENTITY)
}

/// A path ready for the kernel, so that using it allocates nothing.
pub(crate) struct CPath(CString);

impl CPath {
    pub(crate) fn new(path: &Path) -> Self {
        Self(CString::new(path.as_os_str().as_bytes()).expect("paths have no NUL"))
    }

    /// Is there something at the path?
    pub(crate) fn exists(&self) -> bool {
        // SAFETY: the string ends in NUL and lives over the call.
        unsafe { libc::access(self.0.as_ptr(), libc::F_OK) == 0 }
    }
}

/// `dup2(2)` to a number that stays open for good.
pub(crate) fn dup2(fd: i32, number: i32) {
    // SAFETY: scenarios only name numbers that no object of theirs owns.
    done(unsafe { libc::dup2(fd, number) }).expect("dup2");
}

/// Sets this thread's `errno`.
pub(crate) fn set_errno(value: i32) {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() = value };
}

/// Makes this process the one its orphaned descendants are given to.
pub(crate) fn become_subreaper() {
    // SAFETY: a plain number.
    done(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
        .expect("PR_SET_CHILD_SUBREAPER");
}

/// Is it?
pub(crate) fn is_subreaper() -> bool {
    let mut is = -1;
    // SAFETY: the kernel writes one `int`.
    done(unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is, 0, 0, 0) })
        .expect("PR_GET_CHILD_SUBREAPER");
    is != 0
}

/// `close(2)` of a number whose owner will not use it again in this process.
pub(crate) fn close(number: i32) {
    // SAFETY: the caller's duty, which is a scenario's own business: at worst it fails.
    done(unsafe { libc::close(number) }).expect("close");
}

/// Why there are no pidfds of threads here, by which alone one gets at an fd table of a thread's
/// own: Linux 6.9.
pub(crate) fn no_thread_pidfds() -> Option<String> {
    const THREAD: i32 = libc::O_EXCL;
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, gettid(), THREAD) };
    if fd < 0 {
        return Some("this kernel has no pidfds of threads".to_owned());
    }
    close(fd as i32);
    None
}

/// Lowers soft limits (`setrlimit(2)`), as far as the hard ones are not lower.
pub(crate) fn lower_limits(limits: &[(libc::__rlimit_resource_t, libc::rlim_t)]) {
    for &(resource, soft) in limits {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls are given a limit that outlives them.
        unsafe {
            libc::getrlimit(resource, &raw mut limit);
            limit.rlim_cur = limit.rlim_max.min(soft);
            libc::setrlimit(resource, &raw const limit);
        }
    }
}

/// Has this process run on the first processor alone, behind others, and last at disks.
pub(crate) fn run_last() {
    const BEST_EFFORT_LAST: i32 = 2 << 13 | 7;
    let batch = libc::sched_param { sched_priority: 0 };
    let first_processor = 1_u64;
    // SAFETY: the calls change how this process is scheduled, and read what is given to them.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const batch);
        libc::syscall(libc::SYS_sched_setaffinity, 0, 8, &raw const first_processor);
        libc::syscall(libc::SYS_ioprio_set, 1, 0, BEST_EFFORT_LAST);
    }
}
