//! Who is chosen among sockets that share a port (`SO_REUSEPORT`), if a program
//! chooses (`SO_ATTACH_REUSEPORT_CBPF`).
//!
//! The program tells them apart by their places, which are in the order in
//! which they were bound, or listened. All of a port have one program.

use std::os::fd::BorrowedFd;

use dormouse_kernel::socket::SocketOption;

use super::inside::Chooser;
use super::listing::Listing;
use crate::file::Probe;
use crate::file::socket_options::{MAX_FILTER, pack, unpack};
use crate::{Error, Result};

/// Which of them a socket is, and how one is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) place: u32,
    program: Vec<[u8; 8]>,
}

impl Selection {
    /// Reads it, of a socket that can share its port.
    pub(super) fn collect(
        probe: &Probe,
        socket: BorrowedFd<'_>,
        listing: &mut Listing,
    ) -> Result<Option<Self>> {
        let shares = SocketOption::of_socket(libc::SO_REUSEPORT).get(socket);
        if shares.map_err(Error::kernel("SO_REUSEPORT", &probe.link))? == 0 {
            return Ok(None);
        }
        let inside = listing.inside().map_err(Error::InetReader)?;
        match inside.chooser(socket).map_err(Error::InetReader)? {
            None => Ok(None),
            Some(Chooser { place, classic: Some(program) }) => Ok(Some(Self { place, program })),
            Some(Chooser { classic: None, .. }) => Err(Error::Unsupported {
                object: "a socket",
                detail: probe.link.clone().into(),
                reason: "an eBPF program chooses among those that share its port \
                         (SO_ATTACH_REUSEPORT_EBPF), and cannot be read",
                hint: "classic BPF programs (SO_ATTACH_REUSEPORT_CBPF) can",
            }),
        }
    }

    /// As images have it: place and instructions.
    pub(super) fn encode(&self) -> (u32, Vec<u64>) {
        let Self { place, program } = self;
        (*place, program.iter().map(pack).collect())
    }

    /// Judges what an image has.
    pub(super) fn decode(
        place: Option<u32>,
        program: &[u64],
    ) -> Result<Option<Self>, &'static str> {
        match place {
            None if program.is_empty() => Ok(None),
            Some(place) if (1..=MAX_FILTER).contains(&program.len()) => {
                Ok(Some(Self { place, program: program.iter().map(unpack).collect() }))
            }
            _ => Err("what chooses among those that share its port is no program"),
        }
    }

    /// Has the program choose.
    pub(super) fn apply(&self, socket: BorrowedFd<'_>) -> Result<()> {
        let option = SocketOption::of_socket(libc::SO_ATTACH_REUSEPORT_CBPF);
        let failed = Error::kernel("SO_ATTACH_REUSEPORT_CBPF", "a socket");
        option.set_filter(socket, &self.program).map_err(failed)
    }
}
