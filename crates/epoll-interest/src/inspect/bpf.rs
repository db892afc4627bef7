//! The three `bpf(2)` objects that reading kernel memory takes.
//!
//! # Safety
//! Every call hands the kernel pointers to live buffers together with their
//! lengths, and the kernel keeps none of them past the call. The program is
//! checked by the kernel's verifier and only ever reads. A value that is mapped
//! is copied to and from, with its bounds checked, and never borrowed; programs
//! write to it only while a call runs them.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_PERCPU_ARRAY: u32 = 6;
const PROG_TYPE_SYSCALL: u32 = 31;
const F_SLEEPABLE: u32 = 1 << 4;
const F_MMAPABLE: u32 = 1 << 10;

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
    map_flags: u32,
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
    assert!(offset_of!(MapCreate, map_flags) == 16);
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
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attr), size_of::<Attr>()) };
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

fn create_map(map_type: u32, len: usize, map_flags: u32) -> io::Result<OwnedFd> {
    let value_size = u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut attr = Attr::zeroed();
    attr.map = MapCreate { map_type, key_size: 4, value_size, max_entries: 1, map_flags };
    // SAFETY: this command takes no pointers and gives a descriptor.
    unsafe { bpf_fd(MAP_CREATE, &mut attr) }
}

/// A map of one value, which program and caller both have in their memory
/// (`BPF_F_MMAPABLE`, Linux 5.5): to pass it takes no calls.
pub(super) struct Value {
    map: OwnedFd,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and to no thread; programs are
// run by whoever has it.
unsafe impl Send for Value {}

impl Value {
    /// `len` is in bytes, and a multiple of 8. It begins as zeros.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let map = create_map(MAP_TYPE_ARRAY, len, F_MMAPABLE)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: nothing that is mapped is replaced.
        let start = unsafe { mmap(ptr::null_mut(), len, prot, MapFlags::SHARED, &map, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { map, start, len })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.map.as_raw_fd()
    }

    /// Where the bytes from `at` on are.
    fn place(&self, at: usize, len: usize) -> *mut u8 {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(fits, "the value ends before {at} and {len} bytes");
        // SAFETY: within the mapping, as was just compared.
        unsafe { self.start.as_ptr().add(at) }
    }

    pub(super) fn store(&mut self, at: usize, bytes: &[u8]) {
        let to = self.place(at, bytes.len());
        // SAFETY: that many bytes are mapped there, nobody borrows them, and no
        // program runs now.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    pub(super) fn load(&self, at: usize, bytes: &mut [u8]) {
        let from = self.place(at, bytes.len());
        // SAFETY: that many bytes are mapped there, and no program runs now.
        unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) }
    }

    /// The native word from `at` on.
    pub(super) fn word(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        self.load(at, &mut word);
        u64::from_ne_bytes(word)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: nobody borrows of it. It cannot fail: the range is one mapping.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A map of one word for each processor, for programs only.
pub(super) struct PerProcessor(OwnedFd);

impl PerProcessor {
    pub(super) fn new() -> io::Result<Self> {
        create_map(MAP_TYPE_PERCPU_ARRAY, 8, 0).map(Self)
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
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
