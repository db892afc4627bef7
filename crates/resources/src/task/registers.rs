//! The processor's registers of a thread (x86_64).
//!
//! - Kernel object: `pt_regs`, `thread_struct.{fsbase, gsbase}`, the XSAVE area
//! - Truth from: `PTRACE_GETREGS`, `PTRACE_GETREGSET` with `NT_X86_XSTATE`
//! - Image: `core-TID.img`, `thread_info.{gpregs, fpregs}`. Components of the
//!   XSAVE area that CRIU has no field for go into an extension.
//! - Not preserved: supervisor components (shadow stack), which ptrace shows
//!   apart

use std::arch::x86_64::__cpuid_count;
use std::ops::Range;
use std::sync::LazyLock;

use dormouse_image::proto::core::x86::{
    UserX86FpregsEntry, UserX86RegsEntry, UserX86RegsMode, UserX86XsaveEntry, XsaveComponentEntry,
};
use dormouse_image::proto::core::{CoreEntry, Machine};
use dormouse_kernel::ptrace::Registers;

use crate::Result;
use crate::corrupt::corrupt_core;

/// Everything a thread has in the processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The general registers, segment bases included.
    pub registers: Registers,
    /// The XSAVE area in the standard format, as ptrace gives and takes it.
    pub xstate: Vec<u8>,
}

/// Size of the legacy (FXSAVE) area in bytes; the XSAVE header follows.
const LEGACY: usize = 512;
/// Where the first extended component may start.
const EXTENDED: usize = 576;

/// Where the extended components lie in the XSAVE area on this processor
/// (CPUID leaf 13), by number, as far as it has them and ptrace shows them.
/// Asked once: a virtual machine is left for every answer.
static COMPONENTS: LazyLock<[Option<Range<usize>>; 64]> = LazyLock::new(|| {
    let leaf = __cpuid_count(13, 0);
    let had = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    std::array::from_fn(|index| {
        let extended = index >= 2 && had & 1 << index != 0;
        let leaf = extended.then(|| __cpuid_count(13, index as u32))?;
        let supervisor = leaf.ecx & 1 != 0;
        (leaf.eax != 0 && !supervisor).then(|| {
            let start = leaf.ebx as usize;
            start..start + leaf.eax as usize
        })
    })
});

fn component(index: u32) -> Option<Range<usize>> {
    COMPONENTS.get(index as usize)?.clone()
}

/// Numbers of the components that CRIU has fields for.
mod number {
    pub(super) const YMM: u32 = 2;
    pub(super) const BNDREGS: u32 = 3;
    pub(super) const BNDCSR: u32 = 4;
    pub(super) const OPMASK: u32 = 5;
    pub(super) const ZMM_HI256: u32 = 6;
    pub(super) const HI16_ZMM: u32 = 7;
    pub(super) const PKRU: u32 = 9;
    /// All others, up to the last that XCR0 can name.
    pub(super) const OTHERS: [u32; 54] = {
        let mut others = [0; 54];
        others[0] = 8;
        let mut index = 1;
        while index < others.len() {
            others[index] = 9 + index as u32;
            index += 1;
        }
        others
    };
}

impl Cpu {
    /// Writes the registers to the image of the task.
    pub fn encode(&self, core: &mut CoreEntry) {
        core.mtype = Machine::X8664.into();
        let info = core.thread_info.get_or_insert_default();
        let regs = &self.registers;
        info.gpregs = UserX86RegsEntry {
            r15: regs.r15,
            r14: regs.r14,
            r13: regs.r13,
            r12: regs.r12,
            bp: regs.rbp,
            bx: regs.rbx,
            r11: regs.r11,
            r10: regs.r10,
            r9: regs.r9,
            r8: regs.r8,
            ax: regs.rax,
            cx: regs.rcx,
            dx: regs.rdx,
            si: regs.rsi,
            di: regs.rdi,
            orig_ax: regs.orig_rax,
            ip: regs.rip,
            cs: regs.cs,
            flags: regs.rflags,
            sp: regs.rsp,
            ss: regs.ss,
            fs_base: regs.fs_base,
            gs_base: regs.gs_base,
            ds: regs.ds,
            es: regs.es,
            fs: regs.fs,
            gs: regs.gs,
            mode: Some(UserX86RegsMode::Native.into()),
        };
        info.fpregs = self.encode_xstate();
    }

    fn encode_xstate(&self) -> UserX86FpregsEntry {
        let area = &self.xstate;
        let u16_at = |at: usize| u32::from(u16::from_ne_bytes([area[at], area[at + 1]]));
        let words32 = |range: Range<usize>| -> Vec<u32> {
            let (words, _) = area[range].as_chunks::<4>();
            words.iter().map(|word| u32::from_ne_bytes(*word)).collect()
        };
        let words64 = |range: Range<usize>| -> Vec<u64> {
            let (words, _) = area[range].as_chunks::<8>();
            words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
        };
        // A component the area is too short for is one this task has not.
        let shown = |index| component(index).filter(|range| range.end <= area.len());
        let narrow = |index| shown(index).map(words32).unwrap_or_default();
        let wide = |index| shown(index).map(words64).unwrap_or_default();
        let xsave = (area.len() > EXTENDED).then(|| UserX86XsaveEntry {
            xstate_bv: words64(LEGACY..LEGACY + 8)[0],
            ymmh_space: narrow(number::YMM),
            bndreg_state: wide(number::BNDREGS),
            bndcsr_state: wide(number::BNDCSR),
            opmask_reg: wide(number::OPMASK),
            zmm_upper: wide(number::ZMM_HI256),
            hi16_zmm: wide(number::HI16_ZMM),
            pkru: narrow(number::PKRU),
            cet: None,
            others: number::OTHERS
                .into_iter()
                .filter_map(|index| {
                    let range = shown(index)?;
                    Some(XsaveComponentEntry { index, contents: area[range].to_vec() })
                })
                .collect(),
        });
        UserX86FpregsEntry {
            cwd: u16_at(0),
            swd: u16_at(2),
            twd: u16_at(4),
            fop: u16_at(6),
            rip: words64(8..16)[0],
            rdp: words64(16..24)[0],
            mxcsr: words32(24..28)[0],
            mxcsr_mask: words32(28..32)[0],
            st_space: words32(32..160),
            xmm_space: words32(160..416),
            padding: vec![0; 24],
            xsave,
        }
    }

    /// Reads the registers back and lays the XSAVE area out as this
    /// processor has it.
    pub fn decode(core: &CoreEntry) -> Result<Self> {
        const OBJECT: &str = "registers";
        if core.mtype != i32::from(Machine::X8664) {
            return Err(corrupt_core(OBJECT, "not of an x86_64 task"));
        }
        let info = core.thread_info.as_ref().ok_or_else(|| corrupt_core(OBJECT, "missing"))?;
        let regs = &info.gpregs;
        if regs.mode.is_some_and(|mode| mode != i32::from(UserX86RegsMode::Native)) {
            return Err(corrupt_core(OBJECT, "of a 32-bit task"));
        }
        let registers = Registers {
            r15: regs.r15,
            r14: regs.r14,
            r13: regs.r13,
            r12: regs.r12,
            rbp: regs.bp,
            rbx: regs.bx,
            r11: regs.r11,
            r10: regs.r10,
            r9: regs.r9,
            r8: regs.r8,
            rax: regs.ax,
            rcx: regs.cx,
            rdx: regs.dx,
            rsi: regs.si,
            rdi: regs.di,
            orig_rax: regs.orig_ax,
            rip: regs.ip,
            cs: regs.cs,
            rflags: regs.flags,
            rsp: regs.sp,
            ss: regs.ss,
            fs_base: regs.fs_base,
            gs_base: regs.gs_base,
            ds: regs.ds,
            es: regs.es,
            fs: regs.fs,
            gs: regs.gs,
        };
        Ok(Self { registers, xstate: decode_xstate(&info.fpregs)? })
    }
}

fn decode_xstate(entry: &UserX86FpregsEntry) -> Result<Vec<u8>> {
    const OBJECT: &str = "floating-point registers";
    let size = __cpuid_count(13, 0).ebx as usize;
    let mut area = vec![0; size.max(EXTENDED)];
    let mut put = |range: Range<usize>, bytes: &[u8]| {
        if bytes.len() != range.len() {
            return Err(corrupt_core(OBJECT, "a component of the wrong size"));
        }
        area.get_mut(range)
            .ok_or_else(|| corrupt_core(OBJECT, "a component this processor has not"))?
            .copy_from_slice(bytes);
        Ok(())
    };
    for (at, value) in [(0, entry.cwd), (2, entry.swd), (4, entry.twd), (6, entry.fop)] {
        let value = u16::try_from(value)
            .map_err(|_| corrupt_core(OBJECT, "a control word of more than 16 bits"))?;
        put(at..at + 2, &value.to_ne_bytes())?;
    }
    put(8..16, &entry.rip.to_ne_bytes())?;
    put(16..24, &entry.rdp.to_ne_bytes())?;
    put(24..28, &entry.mxcsr.to_ne_bytes())?;
    put(28..32, &entry.mxcsr_mask.to_ne_bytes())?;
    put(32..160, &bytes32(&entry.st_space))?;
    put(160..416, &bytes32(&entry.xmm_space))?;
    let Some(xsave) = &entry.xsave else {
        // x87 and SSE: what an FXSAVE area holds.
        put(LEGACY..LEGACY + 8, &3_u64.to_ne_bytes())?;
        return Ok(area);
    };
    put(LEGACY..LEGACY + 8, &xsave.xstate_bv.to_ne_bytes())?;
    let mut components = vec![
        (number::YMM, bytes32(&xsave.ymmh_space)),
        (number::BNDREGS, bytes64(&xsave.bndreg_state)),
        (number::BNDCSR, bytes64(&xsave.bndcsr_state)),
        (number::OPMASK, bytes64(&xsave.opmask_reg)),
        (number::ZMM_HI256, bytes64(&xsave.zmm_upper)),
        (number::HI16_ZMM, bytes64(&xsave.hi16_zmm)),
        (number::PKRU, bytes32(&xsave.pkru)),
    ];
    for other in &xsave.others {
        if !number::OTHERS.contains(&other.index) {
            return Err(corrupt_core(OBJECT, "a component under a number that has a field"));
        }
        components.push((other.index, other.contents.clone()));
    }
    for (index, bytes) in components {
        let in_use = xsave.xstate_bv & (1 << index) != 0;
        match component(index) {
            Some(range) if !bytes.is_empty() => {
                // A processor may pad a component; CRIU keeps its contents.
                let contents = range.start..range.start + bytes.len().min(range.len());
                put(contents, &bytes[..bytes.len().min(range.len())])?;
            }
            None if in_use => {
                return Err(corrupt_core(OBJECT, "in use, and this processor has them not"));
            }
            _ => {}
        }
    }
    Ok(area)
}

fn bytes32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn bytes64(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
