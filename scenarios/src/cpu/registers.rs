//! General-purpose registers and flags, of a thread that makes no system call.
//!
//! Verified: all of rax, rbx, rdx, rsi, rdi, rbp, r8 to r15, and the flags CF, PF, AF, ZF, SF, DF and
//! OF; rsp and rip by the program going on; rcx takes part in the loop. The ID flag is left
//! out: neither ptrace nor `rt_sigreturn` can set it.
//! CRIU: works.

use super::spin::{FLAG, over_checkpoint};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// In the order the assembly has them.
const NAMES: [&str; 15] = [
    "rax", "rbx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rflags",
];

type Registers = [u64; 15];

/// Loads the registers, spins while [`FLAG`] is zero, and stores them.
#[unsafe(naked)]
unsafe extern "C" fn hold_registers(values: *mut Registers) {
    std::arch::naked_asm!(
        "push rbx; push rbp; push r12; push r13; push r14; push r15",
        "push rdi",
        "push qword ptr [rdi + 112]",
        "mov rax, [rdi]; mov rbx, [rdi + 8]; mov rdx, [rdi + 16]; mov rsi, [rdi + 24]",
        "mov rbp, [rdi + 40]",
        "mov r8, [rdi + 48]; mov r9, [rdi + 56]; mov r10, [rdi + 64]; mov r11, [rdi + 72]",
        "mov r12, [rdi + 80]; mov r13, [rdi + 88]; mov r14, [rdi + 96]; mov r15, [rdi + 104]",
        "mov rdi, [rdi + 32]",
        "popfq",
        // mov and jrcxz leave the flags alone.
        "2: mov rcx, qword ptr [rip + {flag}]",
        "jrcxz 2b",
        "pushfq",
        "mov rcx, [rsp + 8]",
        "mov [rcx], rax; mov [rcx + 8], rbx; mov [rcx + 16], rdx; mov [rcx + 24], rsi",
        "mov [rcx + 32], rdi; mov [rcx + 40], rbp",
        "mov [rcx + 48], r8; mov [rcx + 56], r9; mov [rcx + 64], r10; mov [rcx + 72], r11",
        "mov [rcx + 80], r12; mov [rcx + 88], r13; mov [rcx + 96], r14; mov [rcx + 104], r15",
        "pop rax",
        "mov [rcx + 112], rax",
        "pop rdi",
        // Rust wants DF clear, and reads words where it pleases.
        "push 0x202",
        "popfq",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "ret",
        flag = sym FLAG,
    );
}

/// CF, PF, AF, ZF, SF, DF, OF, and those that are always set: bit 1, IF.
pub(super) const FLAGS: u64 = 0xcd5 | 0x202;

fn run(cx: &mut Context) {
    hold(cx, FLAGS);
}

/// Holds a pattern in the registers, and these flags, over the checkpoint.
pub(super) fn hold(cx: &Context, flags: u64) {
    let mut expected: Registers =
        std::array::from_fn(|i| 0xfeed_0000_dead_0000 + 0x0101_0101_0101 * i as u64);
    expected[14] = flags;
    let mut values = expected;
    // SAFETY: the assembly keeps the C ABI: it puts back every register a callee must keep and
    // the direction flag, and touches only `values`, which lives over the call.
    over_checkpoint(cx, || unsafe { hold_registers(&raw mut values) });
    for ((name, found), expected) in NAMES.iter().zip(values).zip(expected) {
        check_eq!(format!("{found:#x}"), format!("{expected:#x}"), "{name}");
    }
}
