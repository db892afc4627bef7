//! x86_64.
//!
//! The code has two entries. *Boot* makes one system call that is in the
//! registers already, for while no memory can be written. *Walk* goes
//! through an array of calls in memory. Both end with `tgkill` of a harmless
//! signal to the task itself: to a tracer that is a stop. If nobody traces
//! the task any more, it goes on into the *escape*, which gives the task its
//! own signal mask and registers back from a [`Context`]. The memory for batches
//! is unmapped before that, by the last of the tasks that use it.

#![allow(unsafe_code)]

use std::arch::global_asm;

use dormouse_kernel::Addr;
use dormouse_kernel::ptrace::Registers;
use dormouse_kernel::signal::{SigSet, Signal};

/// Memory for the batches of a borrowed task, in bytes.
pub(crate) const SCRATCH: u64 = 256 << 10;
/// Where batches begin in it. Before that is the number of tasks that use it
/// beside the one that has mapped it.
pub(crate) const BATCHES: u64 = 64;
/// Bytes of one call in memory: number, six arguments, result, flags.
pub(crate) const ENTRY: usize = 72;
/// Where the result is in it.
pub(crate) const RESULT: usize = 56;
/// Flag: an error does not end the batch.
pub(crate) const MAY_FAIL: u64 = 1;
/// Flag of argument `n` (0 to 5), shifted left by `n`: the argument is the
/// address of the value.
pub(crate) const INDIRECT: u64 = 1 << 8;

// Registers that system calls preserve: r12 the next entry, r13 how many are
// left (after boot: the result), r14 the context or zero, rbx and rbp the
// task's tgid and tid, r15 the signal and, in the bits of a page's address, the
// memory for batches or zero. Boot has a mask in r12: which bits of the result
// are that memory. So wherever the tracer dies, the memory is unmapped exactly
// if it is there.
global_asm!(
    ".pushsection .text.dormouse_puppet,\"ax\",@progbits",
    ".balign 16",
    ".globl dormouse_puppet_code",
    ".hidden dormouse_puppet_code",
    "dormouse_puppet_code:",
    // Boot, at offset 0.
    "syscall",
    "mov r13, rax",
    "and rax, r12",
    "or r15, rax",
    "jmp 30f",
    // Walk.
    ".balign 32, 0x90",
    "10:",
    "test r13, r13",
    "jz 30f",
    "mov rcx, [r12 + 64]",
    ".macro dormouse_arg reg, at, bit",
    "mov \\reg, [r12 + \\at]",
    "bt ecx, \\bit",
    "jnc 1f",
    "mov \\reg, [\\reg]",
    "1:",
    ".endm",
    "dormouse_arg rdi, 8, 8",
    "dormouse_arg rsi, 16, 9",
    "dormouse_arg rdx, 24, 10",
    "dormouse_arg r10, 32, 11",
    "dormouse_arg r8, 40, 12",
    "dormouse_arg r9, 48, 13",
    "mov rax, [r12]",
    "syscall",
    "mov [r12 + 56], rax",
    "cmp rax, -4095",
    "jb 20f",
    "test byte ptr [r12 + 64], 1",
    "jz 30f",
    "20:",
    "add r12, 72",
    "dec r13",
    "jmp 10b",
    // The end of either: tgkill(tgid, tid, signal).
    "30:",
    "mov eax, 234",
    "mov rdi, rbx",
    "mov rsi, rbp",
    "mov rdx, r15",
    "and edx, 0xfff",
    "syscall",
    ".globl dormouse_puppet_done",
    ".hidden dormouse_puppet_done",
    "dormouse_puppet_done:",
    // Nobody stopped us. Without a context there is nothing to go back to.
    "test r14, r14",
    "jz 40f",
    // munmap(memory, SCRATCH), unless others use it. Of a failed mmap, this is
    // the last page there can be.
    "mov rdi, r15",
    "and rdi, -4096",
    "jz 35f",
    "cmp rdi, -4096",
    "je 35f",
    "lock dec qword ptr [rdi]",
    "jns 35f",
    "mov eax, 11",
    "mov esi, {scratch}",
    "syscall",
    "35:",
    // rt_sigprocmask(SIG_SETMASK, context, NULL, 8).
    "mov eax, 14",
    "mov edi, 2",
    "mov rsi, r14",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "mov r15, [r14 + 8]",
    "mov r13, [r14 + 24]",
    "mov r12, [r14 + 32]",
    "mov rbp, [r14 + 40]",
    "mov rbx, [r14 + 48]",
    "mov r11, [r14 + 56]",
    "mov r10, [r14 + 64]",
    "mov r9,  [r14 + 72]",
    "mov r8,  [r14 + 80]",
    "mov rax, [r14 + 88]",
    "mov rcx, [r14 + 96]",
    "mov rdx, [r14 + 104]",
    "mov rsi, [r14 + 112]",
    "mov rdi, [r14 + 120]",
    // What iretq takes: rip, cs, rflags, rsp, ss.
    "lea rsp, [r14 + 128]",
    "mov r14, [r14 + 16]",
    "iretq",
    "40:",
    "mov eax, 231",
    "mov edi, 1",
    "syscall",
    "jmp 40b",
    ".globl dormouse_puppet_end",
    ".hidden dormouse_puppet_end",
    "dormouse_puppet_end:",
    ".purgem dormouse_arg",
    ".popsection",
    scratch = const SCRATCH,
);

unsafe extern "C" {
    static dormouse_puppet_code: [u8; 0];
    static dormouse_puppet_done: [u8; 0];
    static dormouse_puppet_end: [u8; 0];
}

/// Where *walk* begins in the code.
const WALK: u64 = 32;
/// The bits of the address of a page.
const PAGE_BITS: u64 = !0xfff;

/// The code, position-independent and without relocations.
pub struct Code;

/// The code that puppets run.
pub const CODE: Code = Code;

impl Code {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &'static [u8] {
        let start = (&raw const dormouse_puppet_code).cast::<u8>();
        let end = (&raw const dormouse_puppet_end).cast::<u8>();
        // SAFETY: both symbols are in the one block of code above,
        // the second behind the first; nothing ever writes there.
        unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
    }
}

/// Where a task is, from the beginning of the code, when it has signalled itself.
#[must_use]
pub(crate) fn done() -> u64 {
    let start = (&raw const dormouse_puppet_code).cast::<u8>();
    let done = (&raw const dormouse_puppet_done).cast::<u8>();
    // SAFETY: both symbols are in the one block of code above, the second
    // behind the first.
    unsafe { done.offset_from_unsigned(start) as u64 }
}

/// What a task was before it became a puppet, as the escape reads it.
#[derive(Clone, Copy, Debug)]
pub struct Context([u64; 21]);

impl Context {
    /// Its size in memory, in bytes.
    pub const SIZE: usize = 21 * 8;

    /// A task that had this mask, and is to go on with these registers.
    #[must_use]
    pub fn new(mask: SigSet, r: &Registers) -> Self {
        Self([
            mask.as_raw(),
            r.r15,
            r.r14,
            r.r13,
            r.r12,
            r.rbp,
            r.rbx,
            r.r11,
            r.r10,
            r.r9,
            r.r8,
            r.rax,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rip,
            r.cs,
            r.rflags,
            r.rsp,
            r.ss,
        ])
    }

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Where a puppet runs, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The code.
    pub code: Addr,
    /// The context, or null if there is no going back.
    pub context: Addr,
    /// The task's own view of its process.
    pub tgid: i32,
    /// The task's own view of itself.
    pub tid: i32,
    /// What it signals itself when it is done.
    pub signal: Signal,
    /// The memory for batches that the escape has to unmap, or null.
    pub scratch: Addr,
    /// It is stopped before it signals itself, and does not.
    pub quiet: bool,
}

impl Place {
    fn registers(&self, base: &Registers, at: u64) -> Registers {
        Registers {
            rip: self.code.as_raw() + at,
            r14: self.context.as_raw(),
            rbx: self.tgid as u64,
            rbp: self.tid as u64,
            r15: self.scratch.as_raw() | self.signal.as_raw() as u64,
            orig_rax: Registers::NO_SYSCALL,
            // No single steps, no alignment checks; string instructions go up.
            rflags: base.rflags & !(0x100 | 0x400 | 0x4_0000),
            ..*base
        }
    }
}

/// Registers for one call.
#[must_use]
pub fn boot(place: &Place, base: &Registers, number: i64, args: [u64; 6]) -> Registers {
    let [rdi, rsi, rdx, r10, r8, r9] = args;
    let r12 = 0;
    Registers { rax: number as u64, rdi, rsi, rdx, r10, r8, r9, r12, ..place.registers(base, 0) }
}

/// Registers for the call that maps the memory for batches.
#[must_use]
pub(crate) fn map_scratch(place: &Place, base: &Registers) -> Registers {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    // Shared, so that it does not merge with a neighbour.
    let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64;
    let args = [0, SCRATCH, prot, flags, u64::MAX, 0];
    Registers { r12: PAGE_BITS, ..boot(place, base, libc::SYS_mmap, args) }
}

/// The result of the call that [`boot`] made.
pub(crate) fn boot_result(registers: &Registers) -> i64 {
    registers.r13 as i64
}

/// Registers for a batch of `count` calls at `entries`.
#[must_use]
pub fn walk(place: &Place, base: &Registers, entries: Addr, count: u64) -> Registers {
    Registers { r12: entries.as_raw(), r13: count, ..place.registers(base, WALK) }
}

/// How many calls of a batch were not made, the failed one included.
pub(crate) fn left(registers: &Registers) -> u64 {
    registers.r13
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk_is_where_it_is_said_to_be() {
        let code = CODE.bytes();
        assert_eq!(code[..2], [0x0f, 0x05], "boot begins with its call");
        // test r13, r13
        assert_eq!(code[WALK as usize..][..3], [0x4d, 0x85, 0xed]);
        assert_eq!(code[done() as usize - 2..][..2], [0x0f, 0x05], "a call before it is done");
        assert!(code.len() <= 512, "{} bytes", code.len());
    }
}
