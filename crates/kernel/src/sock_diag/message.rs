//! Netlink messages and their attributes (`netlink(7)`).

use thiserror::Error;

/// It ends in the middle of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it ends too early")]
pub struct Malformed;

/// The number at a place.
pub(crate) fn number(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
    Ok(u32::from_ne_bytes(*bytes))
}

/// The number of two bytes at a place.
pub(crate) fn half(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
    Ok(u16::from_ne_bytes(*bytes))
}

/// What matters of a `struct nlmsghdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
}

const HEADER: usize = 16;

impl Header {
    /// A message with this header.
    pub(crate) fn with(self, body: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        let len = u32::try_from(HEADER + body.len()).expect("requests are short");
        message[..4].copy_from_slice(&len.to_ne_bytes());
        message[4..6].copy_from_slice(&self.kind.to_ne_bytes());
        message[6..8].copy_from_slice(&self.flags.to_ne_bytes());
        message.extend_from_slice(body);
        message
    }
}

/// Netlink pads everything to four bytes.
fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Takes an item whose length its first bytes tell; `rest` is what follows.
fn take<'a>(
    rest: &mut &'a [u8],
    header: usize,
    len: impl FnOnce(&[u8]) -> Option<usize>,
) -> Result<&'a [u8], Malformed> {
    let len = len(rest).filter(|&len| len >= header).ok_or(Malformed)?;
    let item = rest.get(..len).ok_or(Malformed)?;
    *rest = rest.get(padded(len)..).unwrap_or_default();
    Ok(item)
}

/// The messages of a datagram.
pub(crate) fn messages(
    mut rest: &[u8],
) -> impl Iterator<Item = Result<(Header, &[u8]), Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = |bytes: &[u8]| Some(u32::from_ne_bytes(*bytes.first_chunk()?) as usize);
        let message = match take(&mut rest, HEADER, len) {
            Ok(message) => message,
            Err(malformed) => {
                rest = &[];
                return Some(Err(malformed));
            }
        };
        let number = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
        Some(Ok((Header { kind: number(4), flags: number(6) }, &message[HEADER..])))
    })
}

/// The attributes of a message: type and value of each.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those in `bytes`, which follow the fixed part of a message.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER: usize = 4;
        if self.0.is_empty() {
            return None;
        }
        let len = |bytes: &[u8]| Some(usize::from(u16::from_ne_bytes(*bytes.first_chunk()?)));
        match take(&mut self.0, HEADER, len) {
            Ok(item) => {
                let kind = u16::from_ne_bytes([item[2], item[3]]);
                Some(Ok((kind, &item[HEADER..])))
            }
            Err(malformed) => {
                self.0 = &[];
                Some(Err(malformed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Header, Malformed, messages};

    #[test]
    fn messages_are_taken_apart() {
        let mut bytes = Header { kind: 20, flags: 3 }.with(&[1, 2, 3, 4, 5]);
        bytes.extend([0; 3]);
        bytes.extend(Header { kind: 3, flags: 0 }.with(&[]));
        let found: Vec<_> = messages(&bytes).map(Result::unwrap).collect();
        let first = (Header { kind: 20, flags: 3 }, &[1, 2, 3, 4, 5][..]);
        assert_eq!(found, [first, (Header { kind: 3, flags: 0 }, &[][..])]);
    }

    #[test]
    fn what_ends_too_early_is_malformed() {
        let bytes = Header { kind: 20, flags: 3 }.with(&[1, 2, 3, 4]);
        let found: Vec<_> = messages(&bytes[..18]).collect();
        assert_eq!(found, [Err(Malformed)]);
        let attributes: Vec<_> = Attributes::new(&[8, 0, 1, 0, 9]).collect();
        assert_eq!(attributes, [Err(Malformed)]);
    }

    #[test]
    fn attributes_are_taken_apart() {
        let bytes = [5, 0, 6, 0, 7, 0, 0, 0, 4, 0, 9, 0];
        let found: Vec<_> = Attributes::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(found, [(6, &[7][..]), (9, &[][..])]);
    }
}
