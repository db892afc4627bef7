//! The x87 stack, its control and status words, SSE registers and MXCSR.
//!
//! Verified: the `FXSAVE` image (Intel SDM volume 1, table 10-2) before and after is the same: control,
//! status and tag words, MXCSR, all eight x87 registers, all sixteen SSE registers.
//! CRIU: works.

use std::arch::asm;

use super::spin::{FLAG, over_checkpoint};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// The 512 bytes `FXSAVE` writes; the last 96 are the program's own.
#[repr(C, align(64))]
struct Image([u8; 512]);

/// Round up, double precision, all exceptions masked.
const CONTROL: u16 = 0x0a7f;

/// Flush to zero, denormals are zero, round down, all masked, the precision flag raised.
const MXCSR: u32 = 0xbfe0;

fn run(cx: &mut Context) {
    let (mut before, mut after) = (Image([0; 512]), Image([0; 512]));
    let integers: [u64; 6] = [1, 1 << 40, 0x7fff_ffff_ffff_ffff, 12345, 99, 7];
    let vectors: [[u64; 2]; 16] =
        std::array::from_fn(|i| [0x0111_0222_0333_0444 * (i as u64 + 1), !(i as u64)]);
    over_checkpoint(cx, || {
        // SAFETY: loads from arrays of the sizes used, stores to the two images, all of which live
        // over the block; every register it changes is declared, and x87 and MXCSR are reset.
        unsafe {
            asm!(
                "fninit",
                "fldcw word ptr [{control}]",
                "ldmxcsr dword ptr [{mxcsr}]",
                "fild qword ptr [{integers}]; fild qword ptr [{integers} + 8]",
                "fild qword ptr [{integers} + 16]; fild qword ptr [{integers} + 24]",
                "fild qword ptr [{integers} + 32]; fild qword ptr [{integers} + 40]",
                // Two free registers, a non-zero top of stack, condition codes from a compare.
                "fldpi; fsqrt; ftst",
                "movdqu xmm0, [{vectors}]; movdqu xmm1, [{vectors} + 16]",
                "movdqu xmm2, [{vectors} + 32]; movdqu xmm3, [{vectors} + 48]",
                "movdqu xmm4, [{vectors} + 64]; movdqu xmm5, [{vectors} + 80]",
                "movdqu xmm6, [{vectors} + 96]; movdqu xmm7, [{vectors} + 112]",
                "movdqu xmm8, [{vectors} + 128]; movdqu xmm9, [{vectors} + 144]",
                "movdqu xmm10, [{vectors} + 160]; movdqu xmm11, [{vectors} + 176]",
                "movdqu xmm12, [{vectors} + 192]; movdqu xmm13, [{vectors} + 208]",
                "movdqu xmm14, [{vectors} + 224]; movdqu xmm15, [{vectors} + 240]",
                "fxsave64 [{before}]",
                "2: cmp qword ptr [rip + {flag}], 0",
                "je 2b",
                "fxsave64 [{after}]",
                "fninit",
                "ldmxcsr dword ptr [{usual}]",
                control = in(reg) &CONTROL,
                mxcsr = in(reg) &MXCSR,
                usual = in(reg) &0x1f80u32,
                integers = in(reg) &integers,
                vectors = in(reg) &vectors,
                before = in(reg) &mut before,
                after = in(reg) &mut after,
                flag = sym FLAG,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            );
        }
    });
    check_eq!(before.0[..2], CONTROL.to_le_bytes(), "control word as set");
    check_eq!(before.0[24..28], MXCSR.to_le_bytes(), "MXCSR as set");
    check_eq!(after.0[..8], before.0[..8], "control, status, tag and opcode words");
    check_eq!(after.0[24..28], before.0[24..28], "MXCSR");
    check!(after.0[32..160] == before.0[32..160], "x87 registers differ");
    check!(after.0[160..416] == before.0[160..416], "SSE registers differ");
}
