//! Options that sockets of every family have.
//!
//! Kernel object: `struct sock`.
//! Truth from: `getsockopt(2)`.
//! Image: `sk_opts_entry`. What CRIU has no field for is in a list of our own,
//! by level and name.
//! Create: `setsockopt(2)`, before anything is sent; what would be in the way of
//! that (buffer sizes, filters) when the socket is full.
//! Not preserved: options that the kernel only takes and does not tell:
//! `SO_ATTACH_BPF`; `SO_TXTIME` by the clock that a socket without it shows.

use std::os::fd::BorrowedFd;

use dormouse_image::proto::files::socket::{SkMoreOptEntry, SkOptsEntry};
use dormouse_kernel::Errno;
use dormouse_kernel::socket::SocketOption;

use super::likeness::Model;
use super::option_names::{SO_PASSRIGHTS, SO_RCVPRIORITY};
use crate::{Error, Result};

/// Options of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// Bytes, as the kernel counts them: double of what is asked for.
    pub(crate) send_buffer: u32,
    /// The same.
    pub(crate) receive_buffer: u32,
    /// Which buffers have a size that was asked for.
    buffer_locks: Option<u32>,
    send_timeout: (u64, u64),
    receive_timeout: (u64, u64),
    /// Switches and numbers, by their place in [`NUMBERS`].
    numbers: Vec<Option<i32>>,
    /// Seconds.
    linger: Option<u32>,
    /// The name of the interface it is bound to.
    pub(crate) device: Option<Vec<u8>>,
    filter: Vec<[u8; 8]>,
    /// What CRIU has no field for: number in [`MORE`], and value.
    more: Vec<(usize, i32)>,
}

const fn option(name: i32) -> SocketOption {
    SocketOption::of_socket(name)
}

/// An option with a field of its own in CRIU's image.
struct Number {
    name: i32,
    get: fn(&SkOptsEntry) -> Option<i32>,
    put: fn(&mut SkOptsEntry, i32),
}

macro_rules! numbers {
    ($($name:ident: $field:ident as $as:ident,)*) => {
        [$(Number {
            name: libc::$name,
            get: |entry| entry.$field.map(|value| numbers!(@get $as value)),
            put: |entry, value| entry.$field = Some(numbers!(@put $as value)),
        },)*]
    };
    (@get switch $value:ident) => { i32::from($value) };
    (@put switch $value:ident) => { $value != 0 };
    (@get number $value:ident) => { $value.cast_signed() };
    (@put number $value:ident) => { $value.cast_unsigned() };
}

/// Options after which the kernel does more on its own than it was asked for, or
/// that others change (`IP_TOS`): they are set last.
const LATE: [i32; 3] = [libc::SO_PASSCRED, libc::SO_PASSSEC, libc::SO_PRIORITY];

static NUMBERS: [Number; 12] = numbers! {
    SO_REUSEADDR: reuseaddr as switch,
    SO_REUSEPORT: so_reuseport as switch,
    SO_PRIORITY: so_priority as number,
    SO_RCVLOWAT: so_rcvlowat as number,
    SO_MARK: so_mark as number,
    SO_PASSCRED: so_passcred as switch,
    SO_PASSSEC: so_passsec as switch,
    SO_DONTROUTE: so_dontroute as switch,
    SO_NO_CHECK: so_no_check as switch,
    SO_BROADCAST: so_broadcast as switch,
    SO_KEEPALIVE: so_keepalive as switch,
    SO_OOBINLINE: so_oobinline as number,
};

/// Options without a field in CRIU's image that are numbers, and what they are
/// in a new socket.
const MORE: [(i32, i32); 20] = [
    (libc::SO_DEBUG, 0),
    (libc::SO_TIMESTAMP, 0),
    (libc::SO_TIMESTAMPNS, 0),
    (libc::SO_TIMESTAMPING, 0),
    (libc::SO_TIMESTAMP_NEW, 0),
    (libc::SO_TIMESTAMPNS_NEW, 0),
    (libc::SO_TIMESTAMPING_NEW, 0),
    (libc::SO_RXQ_OVFL, 0),
    (libc::SO_WIFI_STATUS, 0),
    (libc::SO_NOFCS, 0),
    (libc::SO_SELECT_ERR_QUEUE, 0),
    (libc::SO_BUSY_POLL, 0),
    (libc::SO_PREFER_BUSY_POLL, 0),
    (libc::SO_BUSY_POLL_BUDGET, 8),
    (libc::SO_ZEROCOPY, 0),
    (libc::SO_RCVMARK, 0),
    (SO_RCVPRIORITY, 0),
    (libc::SO_PASSPIDFD, 0),
    (SO_PASSRIGHTS, 1),
    (libc::SO_LOCK_FILTER, 0),
];

/// The socket has no such option, or not on this kernel.
fn absent(error: Errno) -> bool {
    matches!(error, Errno::NOPROTOOPT | Errno::OPNOTSUPP | Errno::INVAL)
}

/// The options of a socket, as its kernel tells them.
pub(crate) trait Options {
    /// As [`SocketOption::get_into`].
    fn get_into(&self, option: SocketOption, value: &mut [u8]) -> Result<usize, Errno>;

    /// As [`SocketOption::filter`].
    fn filter(&self) -> Result<Vec<[u8; 8]>, Errno>;
}

impl Options for BorrowedFd<'_> {
    fn get_into(&self, option: SocketOption, value: &mut [u8]) -> Result<usize, Errno> {
        option.get_into(self, value)
    }

    fn filter(&self) -> Result<Vec<[u8; 8]>, Errno> {
        SocketOption::filter(self)
    }
}

/// An option that is a number.
fn get(socket: &impl Options, name: i32) -> Result<i32, Errno> {
    let mut value = [0; 4];
    match socket.get_into(option(name), &mut value)? {
        4 => Ok(i32::from_ne_bytes(value)),
        _ => Err(Errno::INVAL),
    }
}

fn get_pair(socket: &impl Options, name: i32) -> Result<(u64, u64)> {
    let mut value = [0; 16];
    socket.get_into(option(name), &mut value).map_err(Error::kernel("getsockopt", "a socket"))?;
    let half = |at: usize| u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| value[at + i]));
    Ok((half(0), half(8)))
}

impl SocketOptions {
    /// Reads them.
    pub(crate) fn collect(socket: impl Options) -> Result<Self> {
        let failed = || Error::kernel("getsockopt", "a socket");
        let number = |name| get(&socket, name).map_err(failed());
        let optional = |name| match get(&socket, name) {
            Ok(value) => Ok(Some(value)),
            Err(error) if absent(error) => Ok(None),
            Err(error) => Err(failed()(error)),
        };
        let mut numbers = Vec::new();
        for number in &NUMBERS {
            // A mark takes CAP_NET_ADMIN to set, so CRIU leaves out that there
            // is none.
            let unmarked = |&value: &i32| number.name == libc::SO_MARK && value == 0;
            numbers.push(optional(number.name)?.filter(|value| !unmarked(value)));
        }
        let mut more = Vec::new();
        for (place, (name, fresh)) in MORE.into_iter().enumerate() {
            if let Some(value) = optional(name)?.filter(|&value| value != fresh) {
                more.push((place, value));
            }
        }
        let mut linger = [0; 8];
        socket.get_into(option(libc::SO_LINGER), &mut linger).map_err(failed())?;
        let [on, seconds] =
            [0, 4].map(|at| u32::from_ne_bytes([0, 1, 2, 3].map(|i| linger[at + i])));
        Ok(Self {
            send_buffer: number(libc::SO_SNDBUF)?.cast_unsigned(),
            receive_buffer: number(libc::SO_RCVBUF)?.cast_unsigned(),
            buffer_locks: optional(libc::SO_BUF_LOCK)?.map(i32::cast_unsigned),
            send_timeout: get_pair(&socket, libc::SO_SNDTIMEO)?,
            receive_timeout: get_pair(&socket, libc::SO_RCVTIMEO)?,
            numbers,
            linger: (on != 0).then_some(seconds),
            device: device(&socket)?,
            filter: filter(&socket)?,
            more,
        })
    }

    /// `SO_REUSEADDR`.
    pub(crate) fn reuses_address(&self) -> bool {
        self.is_on(libc::SO_REUSEADDR)
    }

    /// `SO_REUSEPORT`.
    pub(crate) fn reuses_port(&self) -> bool {
        self.is_on(libc::SO_REUSEPORT)
    }

    fn is_on(&self, name: i32) -> bool {
        let mut options = NUMBERS.iter().zip(&self.numbers);
        let value = options.find(|(number, _)| number.name == name).and_then(|(_, value)| *value);
        value.is_some_and(|value| value != 0)
    }

    /// As images have it.
    pub(crate) fn encode(&self) -> SkOptsEntry {
        let Self {
            send_buffer,
            receive_buffer,
            buffer_locks,
            send_timeout,
            receive_timeout,
            numbers,
            linger,
            device,
            filter,
            more,
        } = self;
        let mut entry = SkOptsEntry {
            so_sndbuf: *send_buffer,
            so_rcvbuf: *receive_buffer,
            so_snd_tmo_sec: send_timeout.0,
            so_snd_tmo_usec: send_timeout.1,
            so_rcv_tmo_sec: receive_timeout.0,
            so_rcv_tmo_usec: receive_timeout.1,
            so_bound_dev: device.clone(),
            so_filter: filter.iter().map(pack).collect(),
            so_linger: *linger,
            so_buf_lock: *buffer_locks,
            more: more
                .iter()
                .map(|&(place, value)| SkMoreOptEntry {
                    name: MORE[place].0.cast_unsigned(),
                    value,
                })
                .collect(),
            ..SkOptsEntry::default()
        };
        for (number, value) in NUMBERS.iter().zip(numbers) {
            if let Some(value) = *value {
                (number.put)(&mut entry, value);
            }
        }
        entry
    }

    /// Judges what an image has.
    pub(crate) fn decode(entry: &SkOptsEntry) -> Result<Self, &'static str> {
        let mut more = Vec::new();
        for &SkMoreOptEntry { name, value } in &entry.more {
            let place = MORE.iter().position(|&(own, _)| own.cast_unsigned() == name);
            more.push((place.ok_or("it has an option that is unknown here")?, value));
        }
        if entry.so_filter.len() > MAX_FILTER {
            return Err("its filter is too long");
        }
        if entry.so_bound_dev.as_ref().is_some_and(|device| device.len() >= IFNAMSIZ) {
            return Err("the name of its interface is too long");
        }
        Ok(Self {
            send_buffer: entry.so_sndbuf,
            receive_buffer: entry.so_rcvbuf,
            buffer_locks: entry.so_buf_lock,
            send_timeout: (entry.so_snd_tmo_sec, entry.so_snd_tmo_usec),
            receive_timeout: (entry.so_rcv_tmo_sec, entry.so_rcv_tmo_usec),
            numbers: NUMBERS.iter().map(|number| (number.get)(entry)).collect(),
            linger: entry.so_linger,
            device: entry.so_bound_dev.clone(),
            filter: entry.so_filter.iter().map(unpack).collect(),
            more,
        })
    }

    /// Sets switches and numbers, the late ones or all others.
    fn apply_numbers(&self, socket: BorrowedFd<'_>, now: Now<'_>, late: bool) -> Result<()> {
        for (number, value) in NUMBERS.iter().zip(&self.numbers) {
            let Some(value) = value.filter(|_| LATE.contains(&number.name) == late) else {
                continue;
            };
            // Many cannot even be set to what they are in a new socket, or
            // take capabilities.
            if now.of(socket, number.name) != Some(value) {
                let failed = Error::kernel("setsockopt", "a socket");
                option(number.name).set(socket, value).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Sets what is in nobody's way.
    pub(crate) fn apply(&self, socket: BorrowedFd<'_>) -> Result<()> {
        self.apply_to(socket, Now::Asked)
    }

    /// The same for a socket whose options are known.
    pub(crate) fn apply_to(&self, socket: BorrowedFd<'_>, now: Now<'_>) -> Result<()> {
        let failed = || Error::kernel("setsockopt", "a socket");
        self.apply_numbers(socket, now, false)?;
        if let Some(seconds) = self.linger {
            let value = [1, seconds].map(u32::to_ne_bytes);
            option(libc::SO_LINGER).set_bytes(socket, value.as_flattened()).map_err(failed())?;
        }
        for (name, (seconds, microseconds)) in
            [(libc::SO_SNDTIMEO, self.send_timeout), (libc::SO_RCVTIMEO, self.receive_timeout)]
        {
            if (seconds, microseconds) != (0, 0) {
                let value = [seconds, microseconds].map(u64::to_ne_bytes);
                option(name).set_bytes(socket, value.as_flattened()).map_err(failed())?;
            }
        }
        if let Some(device) = &self.device {
            option(libc::SO_BINDTODEVICE).set_bytes(socket, device).map_err(failed())?;
        }
        Ok(())
    }

    /// Gives the socket so large buffers that everything fits that is to be
    /// queued.
    pub(crate) fn widen(&self, socket: BorrowedFd<'_>) -> Result<()> {
        for name in [libc::SO_SNDBUFFORCE, libc::SO_RCVBUFFORCE] {
            option(name).set(socket, WIDE).map_err(Error::kernel("SO_SNDBUFFORCE", "a socket"))?;
        }
        Ok(())
    }

    /// Gives the socket buffers of its own sizes, when nothing is queued any more
    /// by this process. Whoever watches the socket hears that it can be written
    /// to, if it can.
    pub(crate) fn narrow(&self, socket: BorrowedFd<'_>) -> Result<()> {
        self.narrow_from(socket, Now::Asked).map(drop)
    }

    /// The same; whether there was anything to do.
    fn narrow_from(&self, socket: BorrowedFd<'_>, now: Now<'_>) -> Result<bool> {
        let failed = || Error::kernel("setsockopt", "a socket");
        let mut changed = false;
        for (read, name, bytes) in [
            (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, self.send_buffer),
            (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, self.receive_buffer),
        ] {
            if now.of(socket, read) != Some(bytes.cast_signed()) {
                // The kernel doubles it.
                option(name).set(socket, (bytes / 2).cast_signed()).map_err(failed())?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Sets the rest, when nothing is queued any more by this process.
    pub(crate) fn finish(&self, socket: BorrowedFd<'_>) -> Result<()> {
        self.finish_from(socket, Now::Asked)
    }

    /// The same for a socket whose options are known, but for those that
    /// [`Self::apply_to`] has set.
    pub(crate) fn finish_from(&self, socket: BorrowedFd<'_>, now: Now<'_>) -> Result<()> {
        let failed = || Error::kernel("setsockopt", "a socket");
        let narrowed = self.narrow_from(socket, now)?;
        self.apply_numbers(socket, now, true)?;
        // MPTCP sockets tell it and do not take it.
        let locks = if narrowed { Now::Asked } else { now };
        let locked = locks.of(socket, libc::SO_BUF_LOCK).map(i32::cast_unsigned);
        if let Some(locks) = self.buffer_locks.filter(|&locks| locked != Some(locks)) {
            option(libc::SO_BUF_LOCK).set(socket, locks.cast_signed()).map_err(failed())?;
        }
        if !self.filter.is_empty() {
            option(libc::SO_ATTACH_FILTER).set_filter(socket, &self.filter).map_err(failed())?;
        }
        self.apply_more(socket)
    }

    /// Sets what connections have from the unix socket that listens (`unix_stream_connect`).
    pub(crate) fn apply_inherited(&self, socket: BorrowedFd<'_>, now: Now<'_>) -> Result<()> {
        self.apply_numbers(socket, now, true)?;
        self.apply_more(socket)
    }

    fn apply_more(&self, socket: BorrowedFd<'_>) -> Result<()> {
        for &(place, value) in &self.more {
            let failed = Error::kernel("setsockopt", "a socket");
            option(MORE[place].0).set(socket, value).map_err(failed)?;
        }
        Ok(())
    }
}

/// What the options of a socket are before they are set.
#[derive(Clone, Copy)]
pub(crate) enum Now<'a> {
    /// Whatever it says.
    Asked,
    /// Those of a new socket.
    New(&'a Model),
}

impl Now<'_> {
    fn of(self, socket: BorrowedFd<'_>, name: i32) -> Option<i32> {
        match self {
            Self::Asked => option(name).get(socket).ok(),
            Self::New(model) => model.number(name),
        }
    }
}

/// More than any queue holds, half of what the kernel can count.
const WIDE: i32 = i32::MAX / 4;

/// `BPF_MAXINSNS`.
pub(super) const MAX_FILTER: usize = 4096;

const IFNAMSIZ: usize = 16;

/// The interface it is bound to.
fn device(socket: &impl Options) -> Result<Option<Vec<u8>>> {
    let mut name = [0; IFNAMSIZ];
    match socket.get_into(option(libc::SO_BINDTODEVICE), &mut name) {
        Ok(0) => Ok(None),
        Ok(len) => {
            let name = &name[..len];
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(len);
            Ok(Some(name[..end].to_vec()))
        }
        Err(error) if absent(error) => Ok(None),
        Err(error) => Err(Error::kernel("SO_BINDTODEVICE", "a socket")(error)),
    }
}

/// The classic BPF program that its messages go through.
fn filter(socket: &impl Options) -> Result<Vec<[u8; 8]>> {
    match socket.filter() {
        Err(error) if absent(error) => Ok(Vec::new()),
        // The kernel shows no eBPF program.
        Err(Errno::ACCESS) => Err(Error::Unsupported {
            object: "a socket",
            detail: "SO_ATTACH_BPF".into(),
            reason: "the eBPF program attached to it cannot be read",
            hint: "classic BPF programs (SO_ATTACH_FILTER) can",
        }),
        read => read.map_err(Error::kernel("SO_GET_FILTER", "a socket")),
    }
}

/// As CRIU writes a `struct sock_filter`: code, jt, jf, k from the highest
/// bits to the lowest.
pub(super) fn pack(instruction: &[u8; 8]) -> u64 {
    let [c0, c1, jt, jf, k0, k1, k2, k3] = *instruction;
    let code = u16::from_ne_bytes([c0, c1]);
    let k = u32::from_ne_bytes([k0, k1, k2, k3]);
    u64::from(code) << 48 | u64::from(jt) << 40 | u64::from(jf) << 32 | u64::from(k)
}

pub(super) fn unpack(packed: &u64) -> [u8; 8] {
    let [c0, c1] = ((packed >> 48) as u16).to_ne_bytes();
    let [k0, k1, k2, k3] = (*packed as u32).to_ne_bytes();
    [c0, c1, (packed >> 40) as u8, (packed >> 32) as u8, k0, k1, k2, k3]
}

#[cfg(test)]
mod tests {
    use super::{SocketOptions, option, pack, unpack};
    use rustix::net::{AddressFamily, SocketType, socket};
    use std::os::fd::AsFd;

    #[test]
    fn options_come_back_through_the_image() {
        let stream = || socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let one = stream();
        option(libc::SO_SNDBUF).set(&one, 50_000).unwrap();
        option(libc::SO_PASSCRED).set(&one, 1).unwrap();
        option(libc::SO_TIMESTAMPNS).set(&one, 1).unwrap();
        option(libc::SO_RCVTIMEO).set_bytes(&one, &[3; 8].repeat(2)).unwrap_err();
        let timeout = [7_u64, 500_000].map(u64::to_ne_bytes);
        option(libc::SO_RCVTIMEO).set_bytes(&one, timeout.as_flattened()).unwrap();
        let filter = [[6, 0, 0, 0, 0xff, 0xff, 0, 0]];
        option(libc::SO_ATTACH_FILTER).set_filter(&one, &filter).unwrap();
        let options = SocketOptions::collect(one.as_fd()).unwrap();
        assert_eq!(options.filter, filter);
        let decoded = SocketOptions::decode(&options.encode()).unwrap();
        assert_eq!(decoded, options);
        let other = stream();
        decoded.widen(other.as_fd()).unwrap();
        decoded.apply(other.as_fd()).unwrap();
        decoded.finish(other.as_fd()).unwrap();
        assert_eq!(SocketOptions::collect(other.as_fd()).unwrap(), options);
    }

    #[test]
    fn instructions_are_packed_as_criu_does() {
        let instruction = [0x15, 0, 1, 2, 0x78, 0x56, 0x34, 0x12];
        assert_eq!(pack(&instruction), 0x0015_0102_1234_5678);
        assert_eq!(unpack(&pack(&instruction)), instruction);
    }
}
