//! `PTRACE_O_*`.

use bitflags::bitflags;

bitflags! {
    /// `PTRACE_O_*`, given with `PTRACE_SEIZE`. Tasks that are attached
    /// because their parent is inherit them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Options: u32 {
        /// Stops at system calls can be told from a real `SIGTRAP`. This
        /// module needs it wherever such stops are asked for.
        const TRACESYSGOOD = 0x01;
        /// Children from `fork(2)` are attached; reports [`Event::Fork`](super::Event::Fork).
        const TRACEFORK = 0x02;
        /// Children from `vfork(2)` are attached; reports [`Event::Vfork`](super::Event::Vfork).
        const TRACEVFORK = 0x04;
        /// Threads and other children are attached; reports [`Event::Clone`](super::Event::Clone).
        const TRACECLONE = 0x08;
        /// Reports [`Event::Exec`](super::Event::Exec).
        const TRACEEXEC = 0x10;
        /// Reports [`Event::VforkDone`](super::Event::VforkDone).
        const TRACEVFORKDONE = 0x20;
        /// Reports [`Event::Exit`](super::Event::Exit).
        const TRACEEXIT = 0x40;
        /// Reports [`Event::Seccomp`](super::Event::Seccomp).
        const TRACESECCOMP = 0x80;
        /// The task is killed when its tracer ends.
        const EXITKILL = 1 << 20;
        /// Seccomp filters do not run while the task is traced. Needs
        /// `CAP_SYS_ADMIN`, and a tracer that has no filter itself.
        const SUSPEND_SECCOMP = 1 << 21;
    }
}
