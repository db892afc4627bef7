//! Network interfaces: images have their names, sockets their indices.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::{Error, Result};

fn any() -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(Error::kernel("socket", "a new socket"))
}

/// The name of an interface.
pub(super) fn name(index: u32) -> Result<Vec<u8>> {
    let name = index_to_name(any()?, index);
    Ok(name.map_err(Error::kernel("SIOCGIFNAME", "a network interface"))?.into_bytes())
}

/// The index of the interface that an image names.
pub(super) fn index(name: &[u8], object: &'static str) -> Result<u32> {
    let missing = || Error::Unsupported {
        object,
        detail: OsString::from_vec(name.to_vec()),
        reason: "there is no network interface of this name here",
        hint: "make the interface before the restore",
    };
    let text = std::str::from_utf8(name).map_err(|_| missing())?;
    name_to_index(any()?, text).map_err(|_| missing())
}
