//! What a socket of TCP is that is, or was, connected.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use dormouse_image::ImageName;
use dormouse_kernel::socket::SocketOption;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::getpeername;

use super::connection::{Connection, TcpState};
use super::ended::{Ended, has_something_to_tell};
use super::inside::InnerState;
use super::listing::Listing;
use super::options::{Kind, TCP};
use super::socket::{State, address, kernel, refuse};
use crate::file::{CollectCx, FileId, ImageSource, Probe, TcpConnections};
use crate::{Error, Result};

/// Reads a connection of TCP, if that is wanted.
pub(super) fn connected(
    cx: &CollectCx<'_>,
    probe: &Probe,
    socket: BorrowedFd<'_>,
    (kind, state): (Kind, u32),
) -> Result<State> {
    let listed = cx.part::<Listing>().of(kind, probe.stat.st_ino as u32)?;
    let Some(listed) = listed.filter(|_| TcpState::from_raw(state).is_some()) else {
        return Err(refuse(
            probe,
            "the state of a TCP connection is none that can be saved",
            "dump again in a moment",
        ));
    };
    let (local, remote) = (listed.local, listed.remote);
    let remote = peer(socket).unwrap_or(remote);
    match cx.options.tcp {
        TcpConnections::Refuse => Err(Error::Unsupported {
            object: "an open TCP connection",
            detail: format!("{local} to {remote}").into(),
            reason: "saving TCP connections was not asked for",
            hint: "use --tcp-established to have them saved, or --tcp-close to have them come \
                   back closed",
        }),
        TcpConnections::Close => Ok(TcpState::from_raw(state)
            .map_or(State::Unconnected, |state| State::Lost { state, remote })),
        TcpConnections::Keep => {
            refuse_other_protocol(probe, socket)?;
            let read =
                cx.read_connection(probe, |socket, inner| match has_something_to_tell(socket)? {
                    true => Ok(None),
                    false => Connection::read((socket, remote), inner),
                })?;
            match read {
                Some(connection) => Ok(State::Open(Box::new(connection))),
                None => ended(cx, probe, (socket, kind)),
            }
        }
    }
}

/// A socket that is closed: one that has ended or was refused, or that was never connected.
pub(super) fn ended(
    cx: &CollectCx<'_>,
    probe: &Probe,
    (socket, kind): (BorrowedFd<'_>, Kind),
) -> Result<State> {
    let ended = Ended::collect(cx, probe, (socket, kind))?;
    Ok(ended.map_or(State::Unconnected, State::Ended))
}

/// Whether a socket that is not connected has been told that nothing more
/// comes: `sock_diag` does not list it any more.
pub(super) fn is_hung_up(socket: BorrowedFd<'_>) -> Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    poll(&mut polled, Some(&Timespec::default())).map_err(kernel("poll"))?;
    Ok(polled[0].revents().contains(PollFlags::RDHUP))
}

/// The peer, with the interface of a link-local address.
fn peer(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    address(getpeername(socket).ok()?)
}

/// Refuses a connection that another protocol goes through.
fn refuse_other_protocol(probe: &Probe, socket: BorrowedFd<'_>) -> Result<()> {
    let mut protocol = [0; 16];
    if SocketOption::new(TCP, libc::TCP_ULP)
        .get_into(socket, &mut protocol)
        .is_ok_and(|len| len > 0)
    {
        return Err(refuse(
            probe,
            "another protocol is attached to its TCP connection (TCP_ULP: kernel TLS, for one)",
            "many programs have a setting to do without kernel TLS",
        ));
    }
    Ok(())
}

/// Refuses a connection with state that no call tells, or that none sets.
pub(super) fn refuse_inner_state(
    probe: &Probe,
    socket: BorrowedFd<'_>,
    inner: &InnerState,
) -> Result<()> {
    let InnerState { counts_notices, urgent, urgent_sent: _ } = inner;
    if *counts_notices {
        return Err(refuse(
            probe,
            "its TCP connection has sent by MSG_ZEROCOPY, whose notices are counted, and the \
             count cannot be set",
            "have the program send without MSG_ZEROCOPY",
        ));
    }
    if urgent.is_some() && SocketOption::of_socket(libc::SO_PEEK_OFF).get(socket).is_err() {
        return Err(refuse(
            probe,
            "a byte out of band (MSG_OOB) waits in its TCP connection, and what is behind it cannot \
             be looked at (SO_PEEK_OFF, Linux 6.9)",
            "dump again when the program has read it",
        ));
    }
    Ok(())
}

/// The state of a socket that images say is connected.
pub(super) fn decode_connection(
    number: (FileId, u32),
    (state, remote): (TcpState, SocketAddr),
    images: &ImageSource<'_>,
) -> Result<State> {
    match images.tcp() {
        TcpConnections::Refuse => Err(Error::Unsupported {
            object: "an open TCP connection",
            detail: format!("file {}, to {remote}", number.0).into(),
            reason: "restoring TCP connections was not asked for",
            hint: "use --tcp-established to have them restored, or --tcp-close to have them come \
                   back closed",
        }),
        TcpConnections::Close => {
            // A dump that was to keep them has an image for each.
            if images.dir().reader(ImageName::TcpStream(number.1))?.is_some() {
                Connection::decode(images.dir(), number, (state, remote))?;
            }
            Ok(State::Lost { state, remote })
        }
        TcpConnections::Keep => {
            let connection = Connection::decode(images.dir(), number, (state, remote))?;
            Ok(State::Open(Box::new(connection)))
        }
    }
}
