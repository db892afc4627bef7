//! How tracing fails.

use crate::{Errno, HostPid};
use std::fmt;
use thiserror::Error;

/// What was asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// `PTRACE_SEIZE`.
    Seize,
    /// `PTRACE_INTERRUPT`.
    Interrupt,
    /// `PTRACE_CONT`.
    Resume,
    /// `PTRACE_SYSCALL`.
    ResumeToSyscall,
    /// `PTRACE_LISTEN`.
    Listen,
    /// `PTRACE_DETACH`.
    Detach,
    /// `PTRACE_GETEVENTMSG`.
    EventMessage,
    /// `PTRACE_GETREGSET` of the general registers.
    GetRegisters,
    /// `PTRACE_SETREGSET` of the general registers.
    SetRegisters,
    /// `PTRACE_GETREGSET` of the extended state.
    GetXstate,
    /// `PTRACE_SETREGSET` of the extended state.
    SetXstate,
    /// `PTRACE_GETSIGMASK`.
    GetSigmask,
    /// `PTRACE_SETSIGMASK`.
    SetSigmask,
    /// `PTRACE_GETSIGINFO`.
    GetSiginfo,
    /// `PTRACE_SETSIGINFO`.
    SetSiginfo,
    /// `PTRACE_PEEKSIGINFO`.
    PeekSiginfo,
    /// `PTRACE_GET_RSEQ_CONFIGURATION`.
    GetRseq,
    /// `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`.
    GetSyscallUserDispatch,
    /// `PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG`.
    SetSyscallUserDispatch,
    /// `PTRACE_GET_THREAD_AREA`.
    GetThreadArea,
    /// `PTRACE_SET_THREAD_AREA`.
    SetThreadArea,
    /// `PTRACE_SECCOMP_GET_FILTER`.
    GetSeccompFilter,
    /// `PTRACE_SECCOMP_GET_METADATA`.
    GetSeccompMetadata,
    /// `wait4(2)`.
    Wait,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seize => "PTRACE_SEIZE",
            Self::Interrupt => "PTRACE_INTERRUPT",
            Self::Resume => "PTRACE_CONT",
            Self::ResumeToSyscall => "PTRACE_SYSCALL",
            Self::Listen => "PTRACE_LISTEN",
            Self::Detach => "PTRACE_DETACH",
            Self::EventMessage => "PTRACE_GETEVENTMSG",
            Self::GetRegisters => "PTRACE_GETREGSET(NT_PRSTATUS)",
            Self::SetRegisters => "PTRACE_SETREGSET(NT_PRSTATUS)",
            Self::GetXstate => "PTRACE_GETREGSET(NT_X86_XSTATE)",
            Self::SetXstate => "PTRACE_SETREGSET(NT_X86_XSTATE)",
            Self::GetSigmask => "PTRACE_GETSIGMASK",
            Self::SetSigmask => "PTRACE_SETSIGMASK",
            Self::GetSiginfo => "PTRACE_GETSIGINFO",
            Self::SetSiginfo => "PTRACE_SETSIGINFO",
            Self::PeekSiginfo => "PTRACE_PEEKSIGINFO",
            Self::GetRseq => "PTRACE_GET_RSEQ_CONFIGURATION",
            Self::GetSyscallUserDispatch => "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG",
            Self::SetSyscallUserDispatch => "PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG",
            Self::GetThreadArea => "PTRACE_GET_THREAD_AREA",
            Self::SetThreadArea => "PTRACE_SET_THREAD_AREA",
            Self::GetSeccompFilter => "PTRACE_SECCOMP_GET_FILTER",
            Self::GetSeccompMetadata => "PTRACE_SECCOMP_GET_METADATA",
            Self::Wait => "wait4",
        })
    }
}

/// Why a task could not be traced, looked into or changed.
#[derive(Debug, Error)]
pub enum Error {
    /// The task is dead or dying (`ESRCH`), or was never there. Whoever traced
    /// it has to [`reap`](super::reap) it.
    #[error("task {tid} has died")]
    Died {
        /// The task.
        tid: HostPid,
    },
    /// The task runs 32-bit code at present, so its registers are other ones.
    #[error("task {tid} runs 32-bit code")]
    Ia32 {
        /// The task.
        tid: HostPid,
    },
    /// The kernel reported a change of state that no option asked for.
    #[error("wait status {status:#x} of task {tid} is not known")]
    UnknownStatus {
        /// The task.
        tid: HostPid,
        /// As `wait4(2)` gave it.
        status: i32,
    },
    /// The kernel refused.
    #[error("{request} of task {tid}")]
    Refused {
        /// What was asked.
        request: Request,
        /// Of which task.
        tid: HostPid,
        /// Why not.
        source: Errno,
    },
}

impl Error {
    /// The task that this is about.
    #[must_use]
    pub const fn tid(&self) -> HostPid {
        match self {
            Self::Died { tid }
            | Self::Ia32 { tid }
            | Self::UnknownStatus { tid, .. }
            | Self::Refused { tid, .. } => *tid,
        }
    }

    /// Whether the task is dead.
    #[must_use]
    pub const fn is_death(&self) -> bool {
        matches!(self, Self::Died { .. })
    }
}
