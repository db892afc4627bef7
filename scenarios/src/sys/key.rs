//! Keys and keyrings: `add_key(2)`, `keyctl(2)`.

use std::ffi::CStr;
use std::fs;
use std::io;

use super::done;

/// The keyrings that a thread has, by special numbers.
pub(crate) const THREAD: i32 = -1;
pub(crate) const PROCESS: i32 = -2;
pub(crate) const SESSION: i32 = -3;
pub(crate) const USER: i32 = -4;
pub(crate) const USER_SESSION: i32 = -5;

/// `KEYCTL_RESTRICT_KEYRING`.
const RESTRICT: u32 = 29;

fn keyctl<const N: usize>(operation: u32, given: [usize; N]) -> io::Result<i32> {
    let mut args = [0; 4];
    args[..N].copy_from_slice(&given);
    let [first, second, third, fourth] = args;
    // SAFETY: what is a pointer among the arguments is to memory that lives over the call, as far as
    // the operation reads or writes it.
    done(unsafe { libc::syscall(libc::SYS_keyctl, operation, first, second, third, fourth) })
        .map(|number| number as i32)
}

fn of(key: i32) -> usize {
    key as isize as usize
}

/// Why there are no keys here.
pub(crate) fn no_keys() -> Option<String> {
    let there = fs::exists("/proc/keys").unwrap_or(false);
    (!there).then(|| "the kernel keeps no keys".into())
}

/// `add_key(2)`.
pub(crate) fn add(kind: &CStr, description: &CStr, payload: &[u8], keyring: i32) -> i32 {
    let data = if payload.is_empty() { std::ptr::null() } else { payload.as_ptr() };
    let (kind, description) = (kind.as_ptr(), description.as_ptr());
    // SAFETY: both strings and the payload live over the call.
    let key = unsafe {
        libc::syscall(libc::SYS_add_key, kind, description, data, payload.len(), keyring)
    };
    done(key).expect("add_key") as i32
}

/// Joins a session keyring: a new one, or that of this name.
pub(crate) fn join_session(name: Option<&CStr>) -> i32 {
    let name = name.map_or(0, |name| name.as_ptr().expose_provenance());
    keyctl(libc::KEYCTL_JOIN_SESSION_KEYRING, [name]).expect("KEYCTL_JOIN_SESSION_KEYRING")
}

/// The number of a keyring, made if `create` and there is none.
pub(crate) fn keyring(special: i32, create: bool) -> io::Result<i32> {
    keyctl(libc::KEYCTL_GET_KEYRING_ID, [of(special), create.into()])
}

/// `KEYCTL_LINK`.
pub(crate) fn link(key: i32, keyring: i32) {
    keyctl(libc::KEYCTL_LINK, [of(key), of(keyring)]).expect("KEYCTL_LINK");
}

/// `KEYCTL_SETPERM`.
pub(crate) fn permit(key: i32, permissions: u32) {
    keyctl(libc::KEYCTL_SETPERM, [of(key), permissions as usize]).expect("KEYCTL_SETPERM");
}

/// `KEYCTL_REVOKE`.
pub(crate) fn revoke(key: i32) {
    keyctl(libc::KEYCTL_REVOKE, [of(key)]).expect("KEYCTL_REVOKE");
}

/// `KEYCTL_SET_TIMEOUT`, in seconds.
pub(crate) fn expire(key: i32, seconds: usize) {
    keyctl(libc::KEYCTL_SET_TIMEOUT, [of(key), seconds]).expect("KEYCTL_SET_TIMEOUT");
}

/// `KEYCTL_SET_REQKEY_KEYRING`; -1 only asks.
pub(crate) fn request_into(which: i32) -> i32 {
    keyctl(libc::KEYCTL_SET_REQKEY_KEYRING, [of(which)]).expect("KEYCTL_SET_REQKEY_KEYRING")
}

/// `KEYCTL_RESTRICT_KEYRING`: nothing more can be linked to it.
pub(crate) fn close_keyring(keyring: i32) {
    keyctl(RESTRICT, [of(keyring)]).expect("KEYCTL_RESTRICT_KEYRING");
}

/// A key of this kind and description that is found from the thread's keyrings.
pub(crate) fn request(kind: &CStr, description: &CStr) -> io::Result<i32> {
    let (kind, description) = (kind.as_ptr(), description.as_ptr());
    let none = std::ptr::null::<u8>();
    // SAFETY: both strings live over the call.
    done(unsafe { libc::syscall(libc::SYS_request_key, kind, description, none, 0) })
        .map(|key| key as i32)
}

fn text(operation: u32, key: i32) -> Result<Vec<u8>, i32> {
    let mut bytes = vec![0_u8; 4096];
    let place = bytes.as_mut_ptr().expose_provenance();
    match keyctl(operation, [of(key), place, bytes.len()]) {
        Ok(len) => {
            bytes.truncate(len as usize);
            Ok(bytes)
        }
        Err(error) => Err(error.raw_os_error().unwrap_or(0)),
    }
}

/// All that is found from a keyring, but for the numbers that the kernel has drawn.
pub(crate) fn tree(keyring: i32) -> Vec<String> {
    let mut lines = Vec::new();
    list(keyring, "", &mut lines);
    lines.sort();
    lines
}

fn list(key: i32, path: &str, lines: &mut Vec<String>) {
    let described = text(libc::KEYCTL_DESCRIBE, key);
    let described = described.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let payload = text(libc::KEYCTL_READ, key);
    let name = described.clone().unwrap_or_else(|errno| format!("errno {errno}"));
    let name = name.trim_end_matches('\0');
    let is_keyring = name.starts_with("keyring;");
    match payload {
        // A user's is others' as well.
        Ok(_) if name.contains(";_uid") => lines.push(format!("{path}/{name} {key}")),
        Ok(bytes) if is_keyring => {
            lines.push(format!("{path}/{name}"));
            let (numbers, _) = bytes.as_chunks::<4>();
            for number in numbers {
                list(i32::from_ne_bytes(*number), &format!("{path}/{name}"), lines);
            }
        }
        payload => lines.push(format!("{path}/{name} {payload:?} {}", expires(key))),
    }
}

/// Whether it does, as `/proc/keys` shows it.
fn expires(key: i32) -> bool {
    let text = fs::read_to_string("/proc/keys").expect("/proc/keys");
    let start = format!("{key:08x} ");
    let line = text.lines().find(|line| line.starts_with(&start));
    line.and_then(|line| line.split_whitespace().nth(3)).is_some_and(|field| field != "perm")
}
