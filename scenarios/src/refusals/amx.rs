//! A tile of AMX, which a process must ask to use.
//!
//! Verified: the dump is refused, naming process and kind; the target goes on and has its tile.
//! CRIU: dumps, and fails to restore.

use std::arch::asm;

use crate::cpu::spin::{FLAG, over_checkpoint};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("a tile of AMX in use").missing(|| {
        let mut features = 0_u64;
        // SAFETY: the kernel writes one word.
        let asked =
            unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &raw mut features) };
        let there = asked == 0 && features & 1 << TILES != 0;
        (!there).then(|| "the CPU has no AMX".into())
    });

const ARCH_GET_XCOMP_SUPP: i32 = 0x1021;
const ARCH_REQ_XCOMP_PERM: i32 = 0x1023;
const TILES: u64 = 18;
const ROWS: usize = 16;
const ROW: usize = 64;

fn run(cx: &mut Context) {
    // SAFETY: plain numbers.
    let asked = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILES) };
    check_eq!(asked, 0, "ARCH_REQ_XCOMP_PERM");
    // Palette 1; the first tile has 16 rows of 64 bytes.
    let mut config = [0_u8; 64];
    (config[0], config[16], config[48]) = (1, ROW as u8, ROWS as u8);
    let values: [u8; ROWS * ROW] = std::array::from_fn(|i| (i * 7 % 251) as u8);
    let mut found = [0_u8; ROWS * ROW];
    over_checkpoint(cx, || {
        // SAFETY: the CPU has AMX (`missing`) and the process may use it; loads and stores stay
        // within the three arrays, and the tiles are declared.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tileloadd tmm0, [{values} + {row}]",
                "2: cmp qword ptr [rip + {flag}], 0",
                "je 2b",
                "tilestored [{found} + {row}], tmm0",
                "tilerelease",
                config = in(reg) &config,
                values = in(reg) &values,
                found = in(reg) &mut found,
                row = in(reg) ROW,
                flag = sym FLAG,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            );
        }
    });
    check_eq!(found, values, "the tile");
}
