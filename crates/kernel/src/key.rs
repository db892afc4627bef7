//! Keys and keyrings that the kernel keeps: `keyctl(2)` and `/proc/keys`.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::thread;

use crate::Errno;
use crate::sys::check;

/// The serial number of a key. The kernel draws it when the key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(u32);

impl Serial {
    /// Wraps a number; `None` if it is none the kernel gives.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        if raw == 0 || raw > i32::MAX as u32 { None } else { Some(Self(raw)) }
    }

    /// The number.
    #[must_use]
    pub const fn as_raw(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether there is a key with this number, be it out of reach or revoked.
#[must_use]
pub fn exists(key: Serial) -> bool {
    // SAFETY: without a buffer nothing is written; only numbers are given.
    let asked =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_DESCRIBE, key.as_raw(), 0, 0, 0) };
    check(asked) != Err(Errno::NOKEY)
}

/// What the keyrings on the machine are called that tasks may have, but for those that the kernel
/// keeps for itself and for users and that no task has as its session's. None also if the kernel has
/// no keys at all.
///
/// # Errors
/// `/proc/keys` or `/proc/key-users` cannot be read, or there are keys that even their user may not
/// see: then nothing is known.
pub fn keyrings() -> io::Result<BTreeSet<Vec<u8>>> {
    let text = |path| match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    };
    let (keys, users) = (text("/proc/keys")?, text("/proc/key-users")?);
    let mut names = BTreeSet::new();
    for (uid, count) in counts(&users) {
        let found = match unusual(&keys, (uid, count)) {
            None => unusual(&seen_by(uid)?, (uid, count)),
            found => found,
        };
        names.extend(found.ok_or(io::ErrorKind::PermissionDenied)?);
    }
    Ok(names)
}

/// `/proc/keys` as a user sees it, to whom it usually shows all of the user's own.
fn seen_by(uid: u32) -> io::Result<Vec<u8>> {
    let look = move || {
        // SAFETY: a number. It changes this thread only, which ends here.
        unsafe { libc::setfsuid(uid) };
        fs::read("/proc/keys")
    };
    thread::spawn(look).join().expect("it does not panic")
}

/// The users in `/proc/key-users`, each with the number of keys that count against a quota, as all do
/// but those that the kernel makes for itself.
fn counts(users: &[u8]) -> Vec<(u32, u64)> {
    let lines = users.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let counts = lines.filter_map(|line| {
        let fields = fields(line);
        let &[uid, _, _, keys, ..] = fields.as_slice() else { return None };
        let uid = number(uid.strip_suffix(b":")?)?;
        let counted = keys.split(|byte| *byte == b'/').next()?;
        Some((u32::try_from(uid).ok()?, number(counted)?))
    });
    counts.collect()
}

/// The keyrings of a user that tasks may have, in `keys`, which may show other users' as well. `None`
/// if it does not show all of the user's that count against a quota.
fn unusual(keys: &[u8], (user, count): (u32, u64)) -> Option<Vec<Vec<u8>>> {
    let (mut seen, mut names) = (0, Vec::new());
    for line in keys.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let fields = fields(line);
        let &[_, flags, usage, _, _, uid, _, kind, ..] = fields.as_slice() else { return None };
        if number(uid) != Some(user.into()) || !flags.contains(&b'Q') {
            continue;
        }
        seen += 1;
        // The name goes up to the last colon.
        let start = fields.get(8).map_or(line.len(), |name| line.len() - behind(line, name));
        let end = line.iter().rposition(|byte| *byte == b':').unwrap_or(line.len());
        let name = line.get(start..end).unwrap_or_default();
        // The keyring of sessions without another is held by the kernel once.
        let is_usual = kind != b"keyring"
            || name.starts_with(b".")
            || name.starts_with(b"_uid.")
            || (name.starts_with(b"_uid_ses.") && usage == b"1");
        if !is_usual {
            names.push(name.to_vec());
        }
    }
    (seen == count).then_some(names)
}

/// How many bytes there are from a part of a line on.
fn behind(line: &[u8], part: &[u8]) -> usize {
    line.as_ptr_range().end.addr() - part.as_ptr().addr()
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = "\
02dc49b3 I--Q---     1 perm 1f3f0000     0 65534 keyring   _uid_ses.0: 1
0df27215 I------     1 perm 0f0b0000     0     0 keyring   .blacklist: empty
2707b968 I--Q---     2 perm 1f3f0000     0 65534 keyring   _uid.0: empty
";
    #[test]
    fn what_every_machine_has_is_nobodys() {
        assert_eq!(unusual(KEYS.as_bytes(), (0, 2)), Some(vec![]));
        assert_eq!(unusual(KEYS.as_bytes(), (1000, 0)), Some(vec![]));
    }

    #[test]
    fn a_keyring_of_a_session_is_somebodys() {
        let own = "27eb0d4e I--Q---     1 perm 3f030000     0     0 keyring   a: b c: empty\n";
        let keys = format!("{KEYS}{own}");
        assert_eq!(unusual(keys.as_bytes(), (0, 3)), Some(vec![b"a: b c".to_vec()]));
        let held = KEYS.replace("    1 perm 1f3f0000", "    2 perm 1f3f0000");
        assert_eq!(unusual(held.as_bytes(), (0, 2)), Some(vec![b"_uid_ses.0".to_vec()]));
    }

    #[test]
    fn what_is_not_shown_may_be_somebodys() {
        assert_eq!(unusual(KEYS.as_bytes(), (0, 3)), None);
        assert_eq!(unusual(KEYS.as_bytes(), (1000, 1)), None);
    }

    #[test]
    fn users_are_counted() {
        let users = b"    0:     4 3/3 2/1000000 20/25000000\n 1000:    12 11/10 9/200 9/20000\n";
        assert_eq!(counts(users), [(0, 2), (1000, 9)]);
    }

    #[test]
    fn a_number_that_was_never_given_is_that_of_no_key() {
        assert_eq!(Serial::from_raw(0), None);
        assert_eq!(Serial::from_raw(1 << 31), None);
        assert!(!exists(Serial::from_raw(1).unwrap()));
    }
}
