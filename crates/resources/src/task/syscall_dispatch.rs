//! System calls of a thread that its program handles itself.
//!
//! - Kernel object: `task_struct.syscall_dispatch`
//! - Truth from: `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`
//! - Image: `core-TID.img`, `thread_core.dispatch`, an extension
//! - Create: `PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG`, once the thread makes
//!   no more calls for dormouse
//! - Not preserved: that of a thread stopped while its selector blocks calls,
//!   which is refused: it could make none for dormouse, nor go back by itself
//! - Kernel needed: 6.4; before, nothing tells
//! - Scenarios: `threads::syscall_dispatch`, `refusals::syscall_dispatch`

use dormouse_image::proto::core::{CoreEntry, SyscallDispatchEntry};
use dormouse_kernel::ptrace::{self, Stopped, SyscallUserDispatch};
use dormouse_kernel::{Addr, Errno, remote_memory};

use super::refusal::Refusal;
use crate::Result;
use crate::corrupt::corrupt_core;

/// `None` if it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallDispatch(Option<SyscallUserDispatch>);

/// `SYSCALL_DISPATCH_FILTER_ALLOW`.
const ALLOW: u8 = 0;

impl SyscallDispatch {
    /// Reads it, of a thread that makes no calls yet.
    pub fn collect(task: &Stopped) -> Result<Self> {
        let dispatch = match task.syscall_user_dispatch() {
            Err(ptrace::Error::Refused { source: Errno::IO, .. }) => None,
            other => other?,
        };
        let Some(dispatch) = dispatch else { return Ok(Self(None)) };
        let mut selector = [u8::MAX];
        let allows = dispatch.selector != Addr::NULL
            && remote_memory::read_exact(task.tid(), dispatch.selector, &mut selector).is_ok()
            && selector == [ALLOW];
        if !allows {
            return Err(Refusal::SyscallDispatch.error(format!("of tid {}", task.tid())));
        }
        Ok(Self(Some(dispatch)))
    }

    /// Writes it to the image of the thread.
    pub fn encode(self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().dispatch =
            self.0.map(|SyscallUserDispatch { selector, offset, len }| SyscallDispatchEntry {
                selector: selector.as_raw(),
                offset,
                len,
            });
    }

    /// Reads it back and judges it.
    pub fn decode(core: &CoreEntry) -> Result<Self> {
        /// The end of what a process can map.
        const END: u64 = 1 << 47;
        let entry = core.thread_core.as_ref().and_then(|thread| thread.dispatch.as_ref());
        let Some(&SyscallDispatchEntry { selector, offset, len }) = entry else {
            return Ok(Self(None));
        };
        if selector == 0 || selector >= END {
            return Err(corrupt_core("syscall user dispatch", "no selector"));
        }
        Ok(Self(Some(SyscallUserDispatch { selector: Addr::from_raw(selector), offset, len })))
    }

    /// Gives it to a thread.
    pub fn set(self, task: &mut Stopped) -> Result<()> {
        match self.0 {
            Some(dispatch) => Ok(task.set_syscall_user_dispatch(dispatch)?),
            None => Ok(()),
        }
    }
}
