//! `getsockopt(2)` and `setsockopt(2)` by number.
#![allow(unsafe_code)]

use crate::Errno;
use crate::sys::check;
use std::os::fd::{AsFd, AsRawFd};

/// An option of a socket: level and name, as in `socket(7)` and the pages of
/// the protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketOption {
    /// `SOL_*` or `IPPROTO_*`.
    pub level: i32,
    /// `SO_*`, `TCP_*` and so on.
    pub name: i32,
}

/// Maps what was received at an address of the caller's.
const TCP_ZEROCOPY_RECEIVE: SocketOption = SocketOption::new(libc::IPPROTO_TCP, 35);

/// The options by which `iptables(8)` and its like replace tables: counters
/// are written to an address.
const TABLES: std::ops::RangeInclusive<i32> = 64..=65;

impl SocketOption {
    /// An option of any socket.
    #[must_use]
    pub const fn of_socket(name: i32) -> Self {
        Self { level: libc::SOL_SOCKET, name }
    }

    /// An option of a protocol.
    #[must_use]
    pub const fn new(level: i32, name: i32) -> Self {
        Self { level, name }
    }

    /// Its value, if it is a number.
    ///
    /// # Errors
    /// `ENOPROTOOPT`: the socket has no such option; `EINVAL`: its value is
    /// none of four bytes.
    pub fn get(self, socket: impl AsFd) -> Result<i32, Errno> {
        let mut value = [0; 4];
        match self.get_into(socket, &mut value)? {
            4 => Ok(i32::from_ne_bytes(value)),
            // Some options of IP are written as a byte when the number fits.
            1 => Ok(value[0].into()),
            _ => Err(Errno::INVAL),
        }
    }

    /// Its value, into `value`; gives the bytes there are.
    ///
    /// # Errors
    /// `ENOPROTOOPT` as for [`Self::get`]; `ERANGE` from some options if
    /// `value` is too short, while others cut off the rest.
    pub fn get_into(self, socket: impl AsFd, value: &mut [u8]) -> Result<usize, Errno> {
        let counts_otherwise = self == Self::of_socket(libc::SO_GET_FILTER);
        if self == TCP_ZEROCOPY_RECEIVE || counts_otherwise {
            return Err(Errno::INVAL);
        }
        let len = value.len();
        self.get_counted(socket, value, len)
    }

    fn get_counted(
        self,
        socket: impl AsFd,
        value: &mut [u8],
        count: usize,
    ) -> Result<usize, Errno> {
        let Self { level, name } = self;
        let raw = socket.as_fd().as_raw_fd();
        let mut len = libc::socklen_t::try_from(count).map_err(|_| Errno::INVAL)?;
        // SAFETY: the kernel writes at most `len` bytes to `value`, or `len`
        // instructions of eight bytes for `SO_GET_FILTER`; the callers see to
        // it that it has as many. It writes their number to `len`. The one
        // option that has it write elsewhere is turned away before.
        let result =
            unsafe { libc::getsockopt(raw, level, name, value.as_mut_ptr().cast(), &raw mut len) };
        check(result.into())?;
        Ok(len as usize)
    }

    /// The classic BPF program attached to a socket, as [`Self::set_filter`]
    /// takes it; empty if there is none.
    ///
    /// # Errors
    /// `EACCES`: an eBPF program is attached, which is not shown.
    pub fn filter(socket: impl AsFd) -> Result<Vec<[u8; 8]>, Errno> {
        let option = Self::of_socket(libc::SO_GET_FILTER);
        // This one counts instructions, not bytes.
        let count = option.get_counted(&socket, &mut [], 0)?;
        let mut filter = vec![[0; 8]; count];
        if count > 0 {
            let now = option.get_counted(&socket, filter.as_flattened_mut(), count)?;
            filter.truncate(now);
        }
        Ok(filter)
    }

    /// Sets it to a number.
    ///
    /// # Errors
    /// What `setsockopt(2)` says.
    pub fn set(self, socket: impl AsFd, value: i32) -> Result<(), Errno> {
        self.set_bytes(socket, &value.to_ne_bytes())
    }

    /// Sets it to anything else.
    ///
    /// # Errors
    /// What `setsockopt(2)` says.
    pub fn set_bytes(self, socket: impl AsFd, value: &[u8]) -> Result<(), Errno> {
        let Self { level, name } = self;
        let raw = socket.as_fd().as_raw_fd();
        let len = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::INVAL)?;
        if [libc::IPPROTO_IP, libc::IPPROTO_IPV6].contains(&level) && TABLES.contains(&name) {
            return Err(Errno::INVAL);
        }
        // SAFETY: the kernel reads `len` bytes from `value`, which has as
        // many; an address in them it would only read from. The options that
        // have it write to one were turned away.
        let result = unsafe { libc::setsockopt(raw, level, name, value.as_ptr().cast(), len) };
        check(result.into()).map(drop)
    }

    /// Attaches a classic BPF program to a socket: instructions as `struct
    /// sock_filter` has them (code, jt, jf, k). The option is
    /// `SO_ATTACH_FILTER` or one that takes the same.
    ///
    /// # Errors
    /// `EINVAL`: the kernel does not accept the program; `EPERM`: the filter
    /// is locked.
    pub fn set_filter(self, socket: impl AsFd, filter: &[[u8; 8]]) -> Result<(), Errno> {
        #[repr(C)]
        struct Program {
            len: u16,
            instructions: *const [u8; 8],
        }
        let len = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
        let program = Program { len, instructions: filter.as_ptr() };
        let Self { level, name } = self;
        let len = size_of::<Program>() as libc::socklen_t;
        let raw = socket.as_fd().as_raw_fd();
        // SAFETY: the kernel reads a struct sock_fprog, which Program is, and
        // from there as many instructions of eight bytes as it says.
        let result =
            unsafe { libc::setsockopt(raw, level, name, (&raw const program).cast(), len) };
        check(result.into()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::SocketOption;
    use crate::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};

    #[test]
    fn options_are_set_and_read_back() {
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let passcred = SocketOption::of_socket(libc::SO_PASSCRED);
        assert_eq!(passcred.get(&socket), Ok(0));
        passcred.set(&socket, 1).unwrap();
        assert_eq!(passcred.get(&socket), Ok(1));
        let none = SocketOption::new(libc::IPPROTO_TCP, 1);
        assert!(matches!(none.get(&socket), Err(Errno::OPNOTSUPP | Errno::NOPROTOOPT)));
    }

    #[test]
    fn a_filter_is_attached_and_read_back() {
        let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        // BPF_RET | BPF_K, all of the message.
        let filter = [[6, 0, 0, 0, 0xff, 0xff, 0, 0]];
        SocketOption::of_socket(libc::SO_ATTACH_FILTER).set_filter(&socket, &filter).unwrap();
        assert_eq!(SocketOption::filter(&socket).unwrap(), filter);
    }
}
