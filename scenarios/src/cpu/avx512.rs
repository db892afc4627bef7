//! AVX-512: the upper halves of zmm0 to zmm15, all of zmm16 to zmm31, the mask registers.
//!
//! Verified: 512 bits of a register of each of the three banks, and eight mask registers of 64 bits.
//! CRIU: works.

use std::arch::asm;

use super::spin::{FLAG, over_checkpoint};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(|| {
    let there = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    (!there).then(|| "the CPU has no AVX-512".into())
});

fn run(cx: &mut Context) {
    let values: [[u64; 8]; 8] = std::array::from_fn(|i| {
        std::array::from_fn(|j| 0xfedc_ba98_7654_3211 ^ ((8 * i + j) as u64) << 31)
    });
    let masks: [u64; 8] =
        std::array::from_fn(|i| 0x8040_2010_0804_0201u64.rotate_left(i as u32) | 1 << i);
    let (mut found, mut found_masks) = ([[0u64; 8]; 8], [0u64; 8]);
    over_checkpoint(cx, || {
        // SAFETY: the CPU has AVX-512 F and BW (`missing`); loads and stores stay within the four
        // arrays, which live over the block; every register it changes is declared.
        unsafe {
            asm!(
                "vmovdqu64 zmm0, [{values}]; vmovdqu64 zmm7, [{values} + 64]",
                "vmovdqu64 zmm8, [{values} + 128]; vmovdqu64 zmm15, [{values} + 192]",
                "vmovdqu64 zmm16, [{values} + 256]; vmovdqu64 zmm23, [{values} + 320]",
                "vmovdqu64 zmm24, [{values} + 384]; vmovdqu64 zmm31, [{values} + 448]",
                "kmovq k0, [{masks}]; kmovq k1, [{masks} + 8]; kmovq k2, [{masks} + 16]",
                "kmovq k3, [{masks} + 24]; kmovq k4, [{masks} + 32]; kmovq k5, [{masks} + 40]",
                "kmovq k6, [{masks} + 48]; kmovq k7, [{masks} + 56]",
                "2: cmp qword ptr [rip + {flag}], 0",
                "je 2b",
                "vmovdqu64 [{found}], zmm0; vmovdqu64 [{found} + 64], zmm7",
                "vmovdqu64 [{found} + 128], zmm8; vmovdqu64 [{found} + 192], zmm15",
                "vmovdqu64 [{found} + 256], zmm16; vmovdqu64 [{found} + 320], zmm23",
                "vmovdqu64 [{found} + 384], zmm24; vmovdqu64 [{found} + 448], zmm31",
                "kmovq [{found_masks}], k0; kmovq [{found_masks} + 8], k1",
                "kmovq [{found_masks} + 16], k2; kmovq [{found_masks} + 24], k3",
                "kmovq [{found_masks} + 32], k4; kmovq [{found_masks} + 40], k5",
                "kmovq [{found_masks} + 48], k6; kmovq [{found_masks} + 56], k7",
                "vzeroupper",
                values = in(reg) &values,
                masks = in(reg) &masks,
                found = in(reg) &mut found,
                found_masks = in(reg) &mut found_masks,
                flag = sym FLAG,
                out("zmm0") _, out("zmm7") _, out("zmm8") _, out("zmm15") _,
                out("zmm16") _, out("zmm23") _, out("zmm24") _, out("zmm31") _,
                out("k0") _, out("k1") _, out("k2") _, out("k3") _,
                out("k4") _, out("k5") _, out("k6") _, out("k7") _,
                // vzeroupper clears the upper part of the rest of the first sixteen.
                out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
                out("zmm6") _, out("zmm9") _, out("zmm10") _, out("zmm11") _, out("zmm12") _,
                out("zmm13") _, out("zmm14") _,
            );
        }
    });
    check_eq!(found, values, "zmm registers");
    check_eq!(found_masks, masks, "mask registers");
}
