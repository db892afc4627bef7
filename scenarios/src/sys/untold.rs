//! What a thread can ask about itself and `/proc` does not tell.

use std::ptr;

use super::altstack;

const PR_GET_SPECULATION_CTRL: i32 = 52;
const PR_GET_IO_FLUSHER: i32 = 58;
const PR_GET_MDWE: i32 = 66;
const PR_GET_MEMORY_MERGE: i32 = 68;

/// What is asked of `prctl(2)`: the option, and its argument.
const ASKED: [(i32, u64); 12] = [
    (libc::PR_GET_DUMPABLE, 0),
    (libc::PR_GET_KEEPCAPS, 0),
    (libc::PR_GET_TIMERSLACK, 0),
    (libc::PR_GET_SECUREBITS, 0),
    (libc::PR_GET_THP_DISABLE, 0),
    (libc::PR_MCE_KILL_GET, 0),
    (PR_GET_IO_FLUSHER, 0),
    (PR_GET_MDWE, 0),
    (PR_GET_MEMORY_MERGE, 0),
    (PR_GET_SPECULATION_CTRL, 0),
    (PR_GET_SPECULATION_CTRL, 1),
    (PR_GET_SPECULATION_CTRL, 2),
];
/// Options that write the answer to an integer.
const WRITTEN: [i32; 3] = [libc::PR_GET_PDEATHSIG, libc::PR_GET_CHILD_SUBREAPER, libc::PR_GET_TSC];

/// All of it. What this kernel does not know, or a filter denies, is -1 before and after.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Untold {
    altstack: (usize, i32, usize),
    asked: [i32; ASKED.len()],
    written: [i32; WRITTEN.len()],
    io_priority: i64,
    memory_policy: (i64, i32, [u64; 16]),
}

/// Asks for all of it; allocates nothing.
pub(crate) fn untold() -> Untold {
    const WHO_PROCESS: i32 = 1;
    let (mut mode, mut nodes) = (0, [0_u64; 16]);
    // SAFETY: the calls only read the state of the calling thread, and write to what is given.
    unsafe {
        Untold {
            altstack: altstack(),
            asked: ASKED.map(|(option, argument)| libc::prctl(option, argument, 0, 0, 0)),
            written: WRITTEN.map(|option| {
                let mut value = -1;
                libc::prctl(option, &raw mut value, 0, 0, 0);
                value
            }),
            io_priority: libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0),
            memory_policy: {
                let bits = size_of_val(&nodes) * 8;
                let result = libc::syscall(
                    libc::SYS_get_mempolicy,
                    &raw mut mode,
                    nodes.as_mut_ptr(),
                    bits,
                    ptr::null::<u8>(),
                    0,
                );
                (result, mode, nodes)
            },
        }
    }
}
