//! The system calls.
//!
//! # Safety
//!
//! `ptrace(2)` works on another task: the calling process's own memory is in
//! play only where the kernel reads or writes the `data` argument. Each
//! function here gives it memory of the length that the request takes.
#![allow(unsafe_code)]

use super::error::{Error, Request};
use super::registers::Registers;
use crate::signal::SigInfo;
use crate::sys::check;
use crate::{Errno, HostPid};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// `NT_PRSTATUS`, `NT_X86_XSTATE`: `include/uapi/linux/elf.h`.
const NT_PRSTATUS: usize = 1;
const NT_X86_XSTATE: usize = 0x202;

/// # Safety
///
/// `data` must be what the request takes: valid for the kernel to read or
/// write as many bytes as it does for this request and `addr`.
unsafe fn ptrace(
    request: libc::c_uint,
    name: Request,
    tid: HostPid,
    addr: usize,
    data: *mut libc::c_void,
) -> Result<u64, Error> {
    // SAFETY: the caller vouches for `data`. The raw system call is used as
    // the C library's function gives some requests another form.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, tid.as_raw(), addr, data) };
    check(result).map_err(|errno| refusal(name, tid, errno))
}

pub(super) fn refusal(request: Request, tid: HostPid, source: Errno) -> Error {
    match source {
        Errno::SRCH => Error::Died { tid },
        source => Error::Refused { request, tid, source },
    }
}

/// A request whose `data` is a plain number.
pub(super) fn plain(
    request: libc::c_uint,
    name: Request,
    tid: HostPid,
    data: usize,
) -> Result<(), Error> {
    // SAFETY: only called with requests for which `data` is no address:
    // SEIZE, INTERRUPT, CONT, SYSCALL, LISTEN, DETACH.
    unsafe { ptrace(request, name, tid, 0, std::ptr::without_provenance_mut(data)) }.map(drop)
}

pub(super) fn event_message(tid: HostPid) -> Result<u64, Error> {
    let mut message: libc::c_ulong = 0;
    let data = (&raw mut message).cast();
    // SAFETY: this request writes one unsigned long.
    unsafe { ptrace(libc::PTRACE_GETEVENTMSG, Request::EventMessage, tid, 0, data) }?;
    Ok(message)
}

pub(super) fn registers(tid: HostPid) -> Result<Registers, Error> {
    let mut registers = Registers::default();
    let mut iov =
        libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    let data = (&raw mut iov).cast();
    // SAFETY: the request writes at most `iov_len` bytes to `iov_base`, which
    // are `registers`, where any bytes are a value; and updates `iov`.
    unsafe {
        ptrace(libc::PTRACE_GETREGSET, Request::GetRegisters, tid, NT_PRSTATUS, data)?;
    }
    if iov.iov_len == size_of::<Registers>() { Ok(registers) } else { Err(Error::Ia32 { tid }) }
}

pub(super) fn set_registers(tid: HostPid, registers: &Registers) -> Result<(), Error> {
    let mut iov = libc::iovec {
        iov_base: std::ptr::from_ref(registers).cast_mut().cast(),
        iov_len: size_of::<Registers>(),
    };
    let data = (&raw mut iov).cast();
    // SAFETY: the request only reads `iov_len` bytes from `iov_base`, which
    // are `registers`; and updates `iov`.
    unsafe { ptrace(libc::PTRACE_SETREGSET, Request::SetRegisters, tid, NT_PRSTATUS, data) }
        .map(drop)
}

/// Fills `bytes` from the start and says how many there were.
pub(super) fn xstate(tid: HostPid, bytes: &mut [u8]) -> Result<usize, Error> {
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let data = (&raw mut iov).cast();
    // SAFETY: the request writes at most `iov_len` bytes to `iov_base`, which
    // are `bytes`; and updates `iov`.
    unsafe { ptrace(libc::PTRACE_GETREGSET, Request::GetXstate, tid, NT_X86_XSTATE, data) }?;
    Ok(iov.iov_len)
}

pub(super) fn set_xstate(tid: HostPid, bytes: &[u8]) -> Result<(), Error> {
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let data = (&raw mut iov).cast();
    // SAFETY: the request only reads `iov_len` bytes from `iov_base`, which
    // are `bytes`; and updates `iov`.
    unsafe { ptrace(libc::PTRACE_SETREGSET, Request::SetXstate, tid, NT_X86_XSTATE, data) }
        .map(drop)
}

pub(super) fn sigmask(tid: HostPid) -> Result<u64, Error> {
    let mut mask = 0_u64;
    let data = (&raw mut mask).cast();
    // SAFETY: the request writes the 8 bytes that `addr` says.
    unsafe { ptrace(libc::PTRACE_GETSIGMASK, Request::GetSigmask, tid, size_of::<u64>(), data) }?;
    Ok(mask)
}

pub(super) fn set_sigmask(tid: HostPid, mut mask: u64) -> Result<(), Error> {
    let data = (&raw mut mask).cast();
    // SAFETY: the request reads the 8 bytes that `addr` says.
    unsafe { ptrace(libc::PTRACE_SETSIGMASK, Request::SetSigmask, tid, size_of::<u64>(), data) }
        .map(drop)
}

pub(super) fn siginfo(tid: HostPid) -> Result<SigInfo, Error> {
    let mut info = SigInfo::zeroed();
    let data = (&raw mut info).cast();
    // SAFETY: the request writes a siginfo_t, whose size `SigInfo` has.
    unsafe { ptrace(libc::PTRACE_GETSIGINFO, Request::GetSiginfo, tid, 0, data) }?;
    Ok(info)
}

pub(super) fn set_siginfo(tid: HostPid, info: &SigInfo) -> Result<(), Error> {
    let data = std::ptr::from_ref(info).cast_mut().cast();
    // SAFETY: the request only reads a siginfo_t, whose size `SigInfo` has.
    unsafe { ptrace(libc::PTRACE_SETSIGINFO, Request::SetSiginfo, tid, 0, data) }.map(drop)
}

/// Copies queued signals from the `from`th on into `infos`, and says how many
/// there were.
pub(super) fn peek_siginfo(
    tid: HostPid,
    shared: bool,
    from: u64,
    infos: &mut [SigInfo],
) -> Result<usize, Error> {
    let mut args = libc::ptrace_peeksiginfo_args {
        off: from,
        flags: if shared { libc::PTRACE_PEEKSIGINFO_SHARED } else { 0 },
        nr: i32::try_from(infos.len()).unwrap_or(i32::MAX),
    };
    let data = infos.as_mut_ptr().cast();
    let addr = (&raw mut args).expose_provenance();
    // SAFETY: the request reads the arguments at `addr`, and writes at most
    // `nr` siginfo_t to `data`, which are `infos`.
    let copied =
        unsafe { ptrace(libc::PTRACE_PEEKSIGINFO, Request::PeekSiginfo, tid, addr, data) }?;
    Ok(usize::try_from(copied).unwrap_or(0))
}

/// # Safety
///
/// `T` has no padding, any bytes are a value of it, and it is the structure
/// that the request writes when `addr` is its size.
unsafe fn sized<T>(request: libc::c_uint, name: Request, tid: HostPid) -> Result<T, Error> {
    let mut value = MaybeUninit::<T>::zeroed();
    let data = value.as_mut_ptr().cast();
    // SAFETY: the caller vouches that the request writes at most a `T`.
    unsafe { ptrace(request, name, tid, size_of::<T>(), data) }?;
    // SAFETY: it was zeroed, and any bytes are a value.
    Ok(unsafe { value.assume_init() })
}

/// `struct ptrace_rseq_configuration`.
#[repr(C)]
pub(super) struct RseqConfiguration {
    pub(super) pointer: u64,
    pub(super) size: u32,
    pub(super) signature: u32,
    pub(super) flags: u32,
    pad: u32,
}

pub(super) fn rseq(tid: HostPid) -> Result<RseqConfiguration, Error> {
    // SAFETY: the request copies out as many bytes of that structure as
    // `addr` says, and it is plain integers with no padding.
    unsafe { sized(libc::PTRACE_GET_RSEQ_CONFIGURATION, Request::GetRseq, tid) }
}

/// `struct ptrace_sud_config`.
#[repr(C)]
pub(super) struct SudConfig {
    pub(super) mode: u64,
    pub(super) selector: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`, Linux 6.4.
const GET_SUD_CONFIG: libc::c_uint = 0x4211;

pub(super) fn syscall_user_dispatch(tid: HostPid) -> Result<SudConfig, Error> {
    // SAFETY: the request takes exactly the size of that structure, which is
    // plain integers with no padding.
    unsafe { sized(GET_SUD_CONFIG, Request::GetSyscallUserDispatch, tid) }
}

/// `PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG`, Linux 6.4.
const SET_SUD_CONFIG: libc::c_uint = 0x4210;

pub(super) fn set_syscall_user_dispatch(tid: HostPid, config: &SudConfig) -> Result<(), Error> {
    let data = std::ptr::from_ref(config).cast_mut().cast();
    let name = Request::SetSyscallUserDispatch;
    // SAFETY: the request only reads as many bytes as `addr` says, which are
    // `config`.
    unsafe { ptrace(SET_SUD_CONFIG, name, tid, size_of::<SudConfig>(), data) }.map(drop)
}

/// `struct user_desc`.
#[repr(C)]
pub(super) struct UserDesc {
    pub(super) entry: u32,
    pub(super) base: u32,
    pub(super) limit: u32,
    pub(super) flags: u32,
}

const PTRACE_GET_THREAD_AREA: libc::c_uint = 25;
const PTRACE_SET_THREAD_AREA: libc::c_uint = 26;

pub(super) fn thread_area(tid: HostPid, entry: u32) -> Result<UserDesc, Error> {
    let mut desc = UserDesc { entry, base: 0, limit: 0, flags: 0 };
    let data = (&raw mut desc).cast();
    // SAFETY: the request writes one `struct user_desc`, which is plain integers with no padding.
    unsafe { ptrace(PTRACE_GET_THREAD_AREA, Request::GetThreadArea, tid, entry as usize, data) }?;
    Ok(desc)
}

pub(super) fn set_thread_area(tid: HostPid, desc: &UserDesc) -> Result<(), Error> {
    let data = std::ptr::from_ref(desc).cast_mut().cast();
    let (name, entry) = (Request::SetThreadArea, desc.entry as usize);
    // SAFETY: the request only reads one `struct user_desc`.
    unsafe { ptrace(PTRACE_SET_THREAD_AREA, name, tid, entry, data) }.map(drop)
}

const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const PTRACE_SECCOMP_GET_METADATA: libc::c_uint = 0x420d;
/// `BPF_MAXINSNS`, of `struct sock_filter` with eight bytes each.
const MOST_INSTRUCTIONS: usize = 4096;

/// The instructions of a seccomp filter; `ENOENT` if the task has fewer.
pub(super) fn seccomp_filter(tid: HostPid, index: usize) -> Result<Vec<u8>, Error> {
    let mut program = vec![0_u8; MOST_INSTRUCTIONS * 8];
    let data = program.as_mut_ptr().cast();
    // SAFETY: the request writes the instructions of one filter, of which the
    // kernel takes no more than there is room for.
    let count =
        unsafe { ptrace(PTRACE_SECCOMP_GET_FILTER, Request::GetSeccompFilter, tid, index, data) }?;
    program.truncate(usize::try_from(count).unwrap_or(0) * 8);
    Ok(program)
}

/// `SECCOMP_FILTER_FLAG_*` of a seccomp filter, as far as the kernel tells.
pub(super) fn seccomp_flags(tid: HostPid, index: usize) -> Result<u64, Error> {
    // `struct seccomp_metadata`: which filter, and its flags.
    let mut metadata = [index as u64, 0];
    let data = metadata.as_mut_ptr().cast();
    let size = size_of_val(&metadata);
    // SAFETY: the request reads and writes as many bytes as `addr` says.
    unsafe { ptrace(PTRACE_SECCOMP_GET_METADATA, Request::GetSeccompMetadata, tid, size, data) }?;
    Ok(metadata[1])
}

/// `wait4(2)` for one task, of any kind of parent. `None` if `hang` is not
/// set and nothing has happened.
pub(super) fn wait(tid: HostPid, hang: bool) -> Result<Option<i32>, Error> {
    let options = libc::__WALL | if hang { 0 } else { libc::WNOHANG };
    loop {
        let mut status = 0_i32;
        // SAFETY: the kernel writes one int to `status`.
        let result = check(unsafe {
            libc::syscall(
                libc::SYS_wait4,
                tid.as_raw(),
                &raw mut status,
                options,
                null_mut::<libc::rusage>(),
            )
        });
        match result {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(status)),
            Err(Errno::INTR) => {}
            // Not traced (any more), and no child: it was reaped, or another
            // thread of its process took over its number by execve(2).
            Err(Errno::CHILD) => return Err(Error::Died { tid }),
            Err(source) => return Err(refusal(Request::Wait, tid, source)),
        }
    }
}
