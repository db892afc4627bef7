//! `semop` for a System V semaphore that is zero.
//!
//! Verified: it stays blocked until it is raised, and then returns 0; blocked signals are as before.
//! CRIU: returns `EINTR`.

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    // SAFETY: plain numbers.
    let id = sys_v("semget", unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) });
    let change = move |by: i16| {
        let mut operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: 0 };
        // SAFETY: one operation, which lives over the call.
        outcome(unsafe { libc::syscall(libc::SYS_semop, id, &raw mut operation, 1) })
    };
    until_woken(
        cx,
        libc::SYS_semop,
        &Ok(0),
        move || change(-1),
        |_| {
            check_eq!(change(1), Ok(0), "raising the semaphore");
        },
    );
    // SAFETY: plain numbers.
    sys_v("IPC_RMID", unsafe { libc::semctl(id, 0, libc::IPC_RMID) });
}

fn sys_v(what: &str, result: i32) -> i32 {
    check!(result >= 0, "{what}: {}", std::io::Error::last_os_error());
    result
}
