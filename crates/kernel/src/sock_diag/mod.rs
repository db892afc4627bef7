//! Sockets as the kernel lists them: `sock_diag(7)`.
//!
//! A whole family is asked for at once, whatever the number of sockets. The
//! listing is that of one network namespace, which is that of the thread which
//! opened the [`SockDiag`].

mod inet;
pub(crate) mod message;
mod netlink;
mod packet;
mod unix;

pub use inet::InetDiag;
pub use message::{Attributes, Malformed};
pub use netlink::NetlinkDiag;
pub use packet::{PacketDiag, PacketMembership, PacketRing};
pub use unix::{UnixDiag, UnixFile, UnixPeer};

use crate::Errno;
use message::{Header, messages};
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::os::fd::OwnedFd;
use thiserror::Error;

/// A listing failed.
#[derive(Debug, Error)]
pub enum Error {
    /// A call on the netlink socket.
    #[error("{call} of a sock_diag socket")]
    Call {
        /// The call.
        call: &'static str,
        /// Why it failed.
        source: Errno,
    },
    /// The kernel refuses to list the family.
    #[error("the kernel does not list the sockets of family {family}")]
    Refused {
        /// `AF_*`.
        family: u8,
        /// `ENOENT`: it was built without the module.
        source: Errno,
    },
    /// The kernel answered what nobody understands.
    #[error("an answer of sock_diag is malformed")]
    Malformed(#[from] Malformed),
}

/// A way to ask.
#[derive(Debug)]
pub struct SockDiag(OwnedFd);

/// Longer than any datagram the kernel makes for a listing (`netlink_dump`).
const BUFFER: usize = 1 << 16;

/// `SOCK_DIAG_BY_FAMILY`, `include/uapi/linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`, of the same header.
const DESTROY: u16 = 21;

impl SockDiag {
    /// For the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel has no `sock_diag`.
    pub fn open() -> Result<Self, Error> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(SOCK_DIAG),
        );
        Ok(Self(socket.map_err(|source| Error::Call { call: "socket", source })?))
    }

    /// Lists what `request` asks for, the structure of a family that begins
    /// with the number of that family; `parse` gets each answer without
    /// netlink's header.
    fn list<T>(
        &self,
        request: &[u8],
        parse: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Error> {
        self.ask((BY_FAMILY, libc::NLM_F_DUMP), request, parse)
    }

    /// As [`Self::list`], or with `NLM_F_ACK` for the one socket asked for.
    fn ask<T>(
        &self,
        (kind, flag): (u16, i32),
        request: &[u8],
        parse: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        let call = |call| move |source| Error::Call { call, source };
        let flags = (libc::NLM_F_REQUEST | flag) as u16;
        let message = Header { kind, flags }.with(request);
        send(&self.0, &message, SendFlags::empty()).map_err(call("send"))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let (len, whole) =
                recv(&self.0, &mut buffer[..], RecvFlags::TRUNC).map_err(call("recv"))?;
            if whole > len {
                return Err(Malformed.into());
            }
            for message in messages(&buffer[..len]) {
                let (header, body) = message?;
                match i32::from(header.kind) {
                    libc::NLMSG_DONE => return Ok(found),
                    libc::NLMSG_NOOP => {}
                    libc::NLMSG_ERROR => {
                        let code = i32::from_ne_bytes(*body.first_chunk().ok_or(Malformed)?);
                        if code == 0 {
                            return Ok(found);
                        }
                        let source = Errno::from_raw_os_error(code.saturating_neg());
                        return Err(Error::Refused { family: request[0], source });
                    }
                    _ => found.push(parse(body)?),
                }
            }
        }
    }
}
