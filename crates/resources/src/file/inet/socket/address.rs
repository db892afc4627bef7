//! Addresses as images have them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::file::inet::options::Kind;

/// As images have addresses: words in the order of the network.
pub(super) fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(address) => vec![u32::from_ne_bytes(address.octets())],
        IpAddr::V6(address) => {
            let bytes = address.octets();
            let (words, _) = bytes.as_chunks::<4>();
            words.iter().map(|&word| u32::from_ne_bytes(word)).collect()
        }
    }
}

/// The address in an image; `None` if it is none at all.
pub(super) fn from_words(
    kind: Kind,
    words: &[u32],
    port: u32,
    scope: u32,
) -> Result<Option<SocketAddr>, &'static str> {
    let port = u16::try_from(port).map_err(|_| "a port is none")?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let address = match (<[u8; 4]>::try_from(&*bytes), <[u8; 16]>::try_from(&*bytes)) {
        (Ok(bytes), _) if !kind.is_v6() => SocketAddr::new(Ipv4Addr::from(bytes).into(), port),
        (_, Ok(bytes)) if kind.is_v6() => {
            SocketAddrV6::new(Ipv6Addr::from(bytes), port, 0, scope).into()
        }
        _ if bytes.is_empty() => return Ok(None),
        _ => return Err("an address is not of its family"),
    };
    Ok((port != 0 || !address.ip().is_unspecified()).then_some(address))
}

/// The index of the interface that it is of.
pub(super) fn scope(address: Option<SocketAddr>) -> u32 {
    match address {
        Some(SocketAddr::V6(address)) => address.scope_id(),
        _ => 0,
    }
}
