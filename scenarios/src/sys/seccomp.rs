//! Seccomp filters.

use std::io;

use super::done;

/// `SECCOMP_FILTER_FLAG_TSYNC`.
pub(crate) const TSYNC: u64 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`.
pub(crate) const LOG: u64 = 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub(crate) const NEW_LISTENER: u64 = 8;

/// What becomes of calls that are not let through.
pub(crate) const USER_NOTIF: u32 = 0x7fc0_0000;
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Makes a call answer with an error.
pub(crate) fn error(errno: i32) -> u32 {
    ERRNO | errno as u32
}

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Installs a filter that does `to_them` to the calls listed, and `to_others` to all others.
fn filter(flags: u64, calls: &[i64], to_them: u32, to_others: u32) -> io::Result<i64> {
    // The number of the call is the first word of `struct seccomp_data`.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (index, &call) in calls.iter().enumerate() {
        program.push(libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: (calls.len() - index) as u8,
            jf: 0,
            k: call as u32,
        });
    }
    program.push(statement(libc::BPF_RET, to_others));
    program.push(statement(libc::BPF_RET, to_them));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel reads the program during the call.
    done(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) })
}

/// Installs a filter that does something to some calls.
pub(crate) fn deny(flags: u64, calls: &[i64], action: u32) -> io::Result<i64> {
    filter(flags, calls, action, ALLOW)
}

/// Installs a filter that does something to all calls but some.
pub(crate) fn allow_only(calls: &[i64], action: u32) -> io::Result<i64> {
    filter(0, calls, ALLOW, action)
}

/// Lets an ordinary user install filters.
pub(crate) fn no_new_privs() {
    // SAFETY: plain numbers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).expect("no_new_privs");
}

/// Makes a call without arguments: its result, or `errno`.
pub(crate) fn bare_call(number: i64) -> Result<i64, i32> {
    // SAFETY: only used with calls that take no arguments.
    done(unsafe { libc::syscall(number) }).map_err(|error| error.raw_os_error().unwrap_or(0))
}
