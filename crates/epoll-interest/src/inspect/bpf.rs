//! The three `bpf(2)` objects that reading kernel memory takes.
//!
//! # Safety
//! Every call hands the kernel pointers to live buffers together with their
//! lengths, and the kernel keeps none of them past the call. The program is
//! checked by the kernel's verifier and only ever reads.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_PERCPU_ARRAY: u32 = 6;
const PROG_TYPE_SYSCALL: u32 = 31;
const F_SLEEPABLE: u32 = 1 << 4;

/// An instruction: its code, two registers, an offset and a number.
///
/// Truth from: `Documentation/bpf/standardization/instruction-set.rst`.
pub(super) fn op(code: u64, dst: u64, src: u64, offset: i16, imm: i32) -> u64 {
    let (offset, imm) = (u64::from(offset as u16), u64::from(imm as u32));
    code | dst << 8 | src << 12 | offset << 16 | imm << 32
}

/// `union bpf_attr`, the members used here, padded to one length: the kernel
/// wants the rest zero.
#[repr(C)]
#[derive(Clone, Copy)]
union Attr {
    map: MapCreate,
    element: Element,
    load: Load,
    run: Run,
    whole: [u64; 16],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Element {
    map_fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Load {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Run {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<Attr>() == 128);
    assert!(offset_of!(Load, prog_flags) == 44);
    assert!(offset_of!(Run, ctx_in) == 48);
    assert!(offset_of!(Element, flags) == 24);
};

impl Attr {
    fn zeroed() -> Self {
        Self { whole: [0; 16] }
    }
}

/// # Safety
/// The pointers in `attr` that `command` uses are good for the lengths that
/// stand beside them.
unsafe fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<RawFd> {
    // SAFETY: `attr` is a live, wholly initialised buffer of the length given;
    // what it points to is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<Attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// # Safety
/// As [`bpf`], and `command` is one that gives a new descriptor.
unsafe fn bpf_fd(command: libc::c_int, attr: &mut Attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise is that of `bpf`.
    let raw = unsafe { bpf(command, attr) }?;
    // SAFETY: the kernel has just given this descriptor to this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A map of one value, which program and caller both see.
pub(super) struct Value {
    map: OwnedFd,
    len: usize,
}

impl Value {
    /// `len` is in bytes, and a multiple of 8.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        Self::of_type(MAP_TYPE_ARRAY, len)
    }

    /// One word for each processor, for programs only.
    pub(super) fn of_each_processor() -> io::Result<Self> {
        Self::of_type(MAP_TYPE_PERCPU_ARRAY, 8)
    }

    fn of_type(map_type: u32, len: usize) -> io::Result<Self> {
        let value_size = u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut attr = Attr::zeroed();
        attr.map = MapCreate { map_type, key_size: 4, value_size, max_entries: 1 };
        // SAFETY: this command takes no pointers and gives a descriptor.
        let map = unsafe { bpf_fd(MAP_CREATE, &mut attr) }?;
        Ok(Self { map, len })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.map.as_raw_fd()
    }

    pub(super) fn store(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the kernel only reads through this pointer.
        unsafe { self.element(MAP_UPDATE_ELEM, bytes.as_ptr().cast_mut(), bytes.len()) }
    }

    pub(super) fn load(&self, bytes: &mut [u8]) -> io::Result<()> {
        // SAFETY: the kernel writes `len` bytes into a buffer held exclusively.
        unsafe { self.element(MAP_LOOKUP_ELEM, bytes.as_mut_ptr(), bytes.len()) }
    }

    /// # Safety
    /// `bytes` is good for `len` bytes, for writing if `command` looks up.
    unsafe fn element(&self, command: libc::c_int, bytes: *mut u8, len: usize) -> io::Result<()> {
        assert_eq!(len, self.len, "the kernel moves one whole value");
        let key = 0_u32;
        let mut attr = Attr::zeroed();
        attr.element = Element {
            map_fd: self.map.as_raw_fd() as u64,
            key: std::ptr::from_ref(&key) as u64,
            value: bytes as u64,
            flags: 0,
        };
        // SAFETY: the key is 4 bytes as the map's keys are and outlives the
        // call; the value's length was compared above.
        unsafe { bpf(command, &mut attr) }.map(drop)
    }
}

/// A program that runs when it is told to, in the context of its caller
/// (`BPF_PROG_TYPE_SYSCALL`, Linux 5.14).
pub(super) struct Program(OwnedFd);

impl Program {
    pub(super) fn load(insns: &[u64], license: &CStr) -> io::Result<Self> {
        let mut attr = Attr::zeroed();
        attr.load = Load {
            prog_type: PROG_TYPE_SYSCALL,
            insn_count: insns.len() as u32,
            insns: insns.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: F_SLEEPABLE,
        };
        // SAFETY: the instructions are 8 bytes each and counted above, the
        // licence ends in a NUL, both outlive the call.
        unsafe { bpf_fd(PROG_LOAD, &mut attr) }.map(Self)
    }

    /// Runs once, with `context` as the program's context.
    pub(super) fn run(&self, mut context: [u32; 2]) -> io::Result<()> {
        let mut attr = Attr::zeroed();
        attr.run = Run {
            prog_fd: self.0.as_raw_fd() as u32,
            retval: 0,
            data_size_in: 0,
            data_size_out: 0,
            data_in: 0,
            data_out: 0,
            repeat: 0,
            duration: 0,
            ctx_size_in: size_of_val(&context) as u32,
            ctx_size_out: 0,
            ctx_in: context.as_mut_ptr() as u64,
            ctx_out: 0,
        };
        // SAFETY: the context is of the length given, writable (the kernel
        // copies it back) and outlives the call.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }.map(drop)
    }
}
