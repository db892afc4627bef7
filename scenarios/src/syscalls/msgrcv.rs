//! `msgrcv` from an empty System V queue.
//!
//! Verified: it stays blocked until a message of its type is sent, and then returns it; blocked signals are as before.
//! CRIU: works.

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

#[repr(C)]
struct Message {
    kind: i64,
    text: [u8; 8],
}

fn run(cx: &mut Context) {
    // SAFETY: plain numbers.
    let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
    check!(id >= 0, "msgget: {}", std::io::Error::last_os_error());
    let wait = move || {
        let mut message = Message { kind: 0, text: [0; 8] };
        // SAFETY: room for eight bytes of text.
        let result = unsafe { libc::syscall(libc::SYS_msgrcv, id, &raw mut message, 8, 5, 0) };
        (outcome(result), message.kind, message.text)
    };
    until_woken(cx, libc::SYS_msgrcv, &(Ok(8), 5, *b"type 5 !"), wait, |_| {
        for message in
            [Message { kind: 4, text: *b"type 4 !" }, Message { kind: 5, text: *b"type 5 !" }]
        {
            // SAFETY: eight bytes of text.
            check_eq!(unsafe { libc::msgsnd(id, (&raw const message).cast(), 8, 0) }, 0, "msgsnd");
        }
    });
    // SAFETY: no buffer is needed to remove it.
    check_eq!(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) }, 0, "IPC_RMID");
}
