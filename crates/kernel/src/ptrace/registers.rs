//! The general registers of x86_64.

/// `struct user_regs_struct`: the general registers with their segments, as
/// `PTRACE_GETREGSET` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are the processor's")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The number of the system call the task is in; -1 when it is in none.
    /// Only when it is not -1 does the kernel look at `rax` for the need to
    /// make the call once more.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Registers {
    /// In bytes. The registers of a 32-bit task take 68.
    pub const SIZE: usize = 27 * 8;

    /// `orig_rax` outside of system calls.
    pub const NO_SYSCALL: u64 = u64::MAX;

    /// The number of the system call the task is in.
    #[must_use]
    pub const fn syscall(&self) -> Option<u64> {
        if self.orig_rax.cast_signed() < 0 { None } else { Some(self.orig_rax) }
    }
}

const _: () = assert!(size_of::<Registers>() == Registers::SIZE);
const _: () = assert!(size_of::<Registers>() == size_of::<libc::user_regs_struct>());
const _: () = {
    use std::mem::offset_of;
    assert!(
        offset_of!(Registers, orig_rax) == offset_of!(libc::user_regs_struct, orig_rax)
            && offset_of!(Registers, rip) == offset_of!(libc::user_regs_struct, rip)
            && offset_of!(Registers, rflags) == offset_of!(libc::user_regs_struct, eflags)
            && offset_of!(Registers, rsp) == offset_of!(libc::user_regs_struct, rsp)
            && offset_of!(Registers, fs_base) == offset_of!(libc::user_regs_struct, fs_base)
            && offset_of!(Registers, gs) == offset_of!(libc::user_regs_struct, gs)
    );
};
