//! Redirecting the functions of one vDSO to those of another.
//!
//! The first instructions of each function give way to a jump, or where there is nothing to jump
//! to, to the system call that the function stands for.

use dormouse_kernel::{Addr, AddrRange};

use super::elf::{functions, plain};

/// A vDSO that calls go to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) code: &'a [u8],
    /// Where it is, or will be.
    pub(super) at: Addr,
}

/// `code` with all its functions redirected. `None` if that cannot be: it is no vDSO, or has a
/// function of which nothing is known.
pub(super) fn redirect(code: &[u8], target: Option<Target<'_>>) -> Option<Vec<u8>> {
    let functions = functions(code)?;
    let mut redirected = code.to_vec();
    for (&start, name) in &functions {
        let Some(entry) = Entry::of(plain(name), target)? else { continue };
        let bytes = entry.bytes();
        let end = start.checked_add(bytes.len())?;
        if functions.range(start + 1..end).next().is_some() {
            return None;
        }
        redirected.get_mut(start..end)?.copy_from_slice(&bytes);
    }
    (!functions.is_empty()).then_some(redirected)
}

/// Whether `code` was redirected to a vDSO in `target`.
pub(super) fn is_redirected(code: &[u8], target: AddrRange) -> bool {
    let Some(functions) = functions(code) else { return false };
    let jumps = functions.keys().filter(|&&start| {
        code.get(start..).and_then(Entry::read).is_some_and(|at| target.contains(at))
    });
    jumps.count() > 0
}

/// What a function begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Jump(Addr),
    Call(i32),
}

impl Entry {
    /// `Some(None)` for a function that works with any kernel as it is.
    fn of(name: &[u8], target: Option<Target<'_>>) -> Option<Option<Self>> {
        // It uses nothing of the kernel's.
        const SELF_CONTAINED: &[u8] = b"sgx_enter_enclave";
        // The state it has for each thread is laid out by the kernel that was asked for its size.
        const STATEFUL: &[u8] = b"getrandom";
        let jump = || {
            let Target { code, at } = target?;
            let functions = functions(code)?;
            let (&start, _) = functions.iter().find(|(_, found)| plain(found) == name)?;
            at.checked_add(start as u64).map(Self::Jump)
        };
        let found = if name == STATEFUL { None } else { jump() };
        match found.or_else(|| call(name).map(Self::Call)) {
            Some(entry) => Some(Some(entry)),
            None => (name == SELF_CONTAINED).then_some(None),
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            // mov $target, %rax; jmp *%rax
            Self::Jump(to) => [&b"\x48\xb8"[..], &to.as_raw().to_le_bytes(), b"\xff\xe0"].concat(),
            // mov $number, %eax; syscall; ret
            Self::Call(number) => [&b"\xb8"[..], &number.to_le_bytes(), b"\x0f\x05\xc3"].concat(),
        }
    }

    /// Where a function that begins like this jumps to.
    fn read(code: &[u8]) -> Option<Addr> {
        let rest = code.strip_prefix(b"\x48\xb8")?;
        let (to, rest) = rest.split_first_chunk()?;
        rest.starts_with(b"\xff\xe0").then(|| Addr::from_raw(u64::from_le_bytes(*to)))
    }
}

/// The system call that takes the same arguments and answers the same.
fn call(name: &[u8]) -> Option<i32> {
    let number = match name {
        b"clock_gettime" => libc::SYS_clock_gettime,
        b"gettimeofday" => libc::SYS_gettimeofday,
        b"time" => libc::SYS_time,
        b"clock_getres" => libc::SYS_clock_getres,
        b"getcpu" => libc::SYS_getcpu,
        b"getrandom" => libc::SYS_getrandom,
        _ => return None,
    };
    i32::try_from(number).ok()
}
