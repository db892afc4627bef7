//! The upper halves of the AVX registers.
//!
//! Verified: all 256 bits of ymm0 to ymm15.
//! CRIU: works.

use std::arch::asm;

use super::spin::{FLAG, over_checkpoint};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .missing(|| (!is_x86_feature_detected!("avx")).then(|| "the CPU has no AVX".into()));

fn run(cx: &mut Context) {
    let values: [[u64; 4]; 16] = std::array::from_fn(|i| {
        std::array::from_fn(|j| 0x0123_4567_89ab_cdef ^ ((4 * i + j) as u64) << 33)
    });
    let mut found = [[0u64; 4]; 16];
    over_checkpoint(cx, || {
        // SAFETY: the CPU has AVX (`missing`); loads and stores stay within the two arrays, which live
        // over the block; every register it changes is declared.
        unsafe {
            asm!(
                "vmovdqu ymm0, [{values}]; vmovdqu ymm1, [{values} + 32]",
                "vmovdqu ymm2, [{values} + 64]; vmovdqu ymm3, [{values} + 96]",
                "vmovdqu ymm4, [{values} + 128]; vmovdqu ymm5, [{values} + 160]",
                "vmovdqu ymm6, [{values} + 192]; vmovdqu ymm7, [{values} + 224]",
                "vmovdqu ymm8, [{values} + 256]; vmovdqu ymm9, [{values} + 288]",
                "vmovdqu ymm10, [{values} + 320]; vmovdqu ymm11, [{values} + 352]",
                "vmovdqu ymm12, [{values} + 384]; vmovdqu ymm13, [{values} + 416]",
                "vmovdqu ymm14, [{values} + 448]; vmovdqu ymm15, [{values} + 480]",
                "2: cmp qword ptr [rip + {flag}], 0",
                "je 2b",
                "vmovdqu [{found}], ymm0; vmovdqu [{found} + 32], ymm1",
                "vmovdqu [{found} + 64], ymm2; vmovdqu [{found} + 96], ymm3",
                "vmovdqu [{found} + 128], ymm4; vmovdqu [{found} + 160], ymm5",
                "vmovdqu [{found} + 192], ymm6; vmovdqu [{found} + 224], ymm7",
                "vmovdqu [{found} + 256], ymm8; vmovdqu [{found} + 288], ymm9",
                "vmovdqu [{found} + 320], ymm10; vmovdqu [{found} + 352], ymm11",
                "vmovdqu [{found} + 384], ymm12; vmovdqu [{found} + 416], ymm13",
                "vmovdqu [{found} + 448], ymm14; vmovdqu [{found} + 480], ymm15",
                "vzeroupper",
                values = in(reg) &values,
                found = in(reg) &mut found,
                flag = sym FLAG,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
                out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
                out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            );
        }
    });
    check_eq!(found, values, "ymm0 to ymm15");
}
