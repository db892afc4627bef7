//! Who waits to be accepted, and what that one has sent already.

use std::collections::BTreeSet;

use dormouse_image::proto::files::unix::{UnixSentEntry, UnixStateEntry, UnixWaitingEntry};
use dormouse_kernel::sock_diag::UnixDiag;

use super::address::judge_name;
use super::connection::unsupported;
use super::embryos::Embryo;
use super::queue::{Packet, Sender};
use super::spec::{Kind, decode_identity, encode_identity};
use super::survey::UnixSurvey;
use crate::Result;
use crate::file::probe::Duplicate;
use crate::file::stand_in::Identity;
use crate::file::{CollectCx, Probe};

/// One who waits to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) client: Client,
    /// Who has connected it, if that is known.
    pub(super) by: Option<Identity>,
    /// What it has sent.
    pub(super) sent: Vec<Packet>,
}

/// The other side of a connection that waits to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// The socket with this inode.
    Socket(u32),
    /// One that has closed, and had this address.
    Closed(Vec<u8>),
}

const LATER: &str = "checkpoint the program when it has accepted the connection";

/// Reads who waits for a listener.
pub(super) fn collect(
    cx: &CollectCx<'_>,
    probe: &Probe,
    (socket, listed): (&Duplicate<'_>, &UnixDiag),
    survey: &mut UnixSurvey,
) -> Result<Vec<Waiting>> {
    let refused = |reason| unsupported(probe, reason, LATER);
    if listed.waiting.is_empty() {
        return Ok(Vec::new());
    }
    let embryos = survey.embryos(socket.get()?);
    let embryos = embryos.and_then(|embryos| match embryos.len() == listed.waiting.len() {
        true => Ok(embryos),
        false => Err("connections wait to be accepted, and others come"),
    });
    let sent = |&inode: &u32| survey.other(inode).is_none_or(|client| client.sent > 0);
    match embryos {
        Err(_) if !listed.waiting.iter().any(|inode| *inode == 0 || sent(inode)) => {
            let plain = |&inode| Waiting::plain(inode);
            Ok(listed.waiting.iter().map(plain).collect())
        }
        Err(reason) => Err(refused(reason)),
        Ok(embryos) => {
            check_names(listed, &embryos, survey).map_err(refused)?;
            let mut all = Vec::with_capacity(embryos.len());
            for (&inode, embryo) in listed.waiting.iter().zip(embryos) {
                all.push(Waiting::collect(cx, probe, (inode, embryo), survey)?);
            }
            Ok(all)
        }
    }
}

/// Whether those that have closed can have their names for a while.
fn check_names(
    listed: &UnixDiag,
    embryos: &[Embryo],
    survey: &UnixSurvey,
) -> Result<(), &'static str> {
    let closed = listed.waiting.iter().zip(embryos).filter(|(inode, _)| **inode == 0);
    let names = closed.map(|(_, embryo)| &embryo.name[..]).filter(|name| !name.is_empty());
    let names: Vec<_> = names.collect();
    if names.iter().any(|name| judge_name(name).is_err()) {
        return Err(
            "a connection was closed before it was accepted whose name cannot be had again",
        );
    }
    // A path is had in a directory of its own.
    let abstracts = names.into_iter().filter(|name| name[0] == 0);
    let mut taken: Option<BTreeSet<&[u8]>> = None;
    for name in abstracts {
        if !taken.get_or_insert_with(|| survey.names().collect()).insert(name) {
            return Err(
                "a connection was closed before it was accepted, and another socket has its name now",
            );
        }
    }
    Ok(())
}

impl Waiting {
    /// A socket of which nothing else is known.
    fn plain(inode: u32) -> Self {
        Self { client: Client::Socket(inode), by: None, sent: Vec::new() }
    }

    fn collect(
        cx: &CollectCx<'_>,
        probe: &Probe,
        (inode, embryo): (u32, Embryo),
        survey: &mut UnixSurvey,
    ) -> Result<Self> {
        let Embryo { by, name, sent } = embryo;
        let mut packets = Vec::with_capacity(sent.len());
        for sent in sent {
            let mut rights = Vec::with_capacity(sent.files.len());
            for file in sent.files {
                let known = survey.file_at(file, cx.probes)?;
                rights.push(known.ok_or_else(|| {
                    unsupported(
                        probe,
                        "a descriptor was sent before a connection was accepted, and nobody has \
                         that file open any more",
                        LATER,
                    )
                })?);
            }
            let (bytes, credentials, urgent) = (sent.bytes, sent.credentials, sent.urgent);
            packets.push(Packet { bytes, rights, credentials, urgent, ..Packet::default() });
        }
        let client = if inode == 0 { Client::Closed(name) } else { Client::Socket(inode) };
        Ok(Self { client, by, sent: packets })
    }

    /// Those of a listener.
    pub(super) fn encode_all(all: &[Self], state: &mut UnixStateEntry) {
        for Self { client, by, sent } in all {
            let (inode, closed) = match client {
                Client::Socket(inode) => (*inode, None),
                Client::Closed(name) => (0, Some(name.clone())),
            };
            state.waiting.push(inode);
            let sent = sent.iter().map(|packet| UnixSentEntry {
                // Nobody has a descriptor of who is to read it.
                packet: packet.encode(0),
                bytes: packet.bytes.clone(),
            });
            state.unaccepted.push(UnixWaitingEntry {
                closed,
                cred: by.as_ref().map(encode_identity),
                sent: sent.collect(),
            });
        }
    }

    /// Judges what an image has.
    pub(super) fn decode_all(
        state: &UnixStateEntry,
        kind: Kind,
    ) -> Result<Vec<Self>, &'static str> {
        let UnixStateEntry { waiting, unaccepted, .. } = state;
        if unaccepted.is_empty() && !waiting.contains(&0) {
            return Ok(waiting.iter().map(|&inode| Self::plain(inode)).collect());
        }
        if unaccepted.len() != waiting.len() {
            return Err("of those who wait there others are described");
        }
        let each = waiting.iter().zip(unaccepted);
        each.map(|(&inode, entry)| Self::decode(inode, entry, kind)).collect()
    }

    fn decode(inode: u32, entry: &UnixWaitingEntry, kind: Kind) -> Result<Self, &'static str> {
        let UnixWaitingEntry { closed, cred, sent } = entry;
        let client = match (inode, closed) {
            (0, Some(name)) => {
                judge_name(name)?;
                Client::Closed(name.clone())
            }
            (1.., None) => Client::Socket(inode),
            _ => return Err("who waits there has closed, or has not"),
        };
        let decode = |UnixSentEntry { packet, bytes }: &UnixSentEntry| {
            let packet = Packet::decode(packet, bytes.clone())?;
            let is_stream = kind == Kind::Stream;
            let is_named = packet.sender != Sender::Unknown;
            match packet.read > 0 || is_named || is_stream && packet.bytes.is_empty() {
                true => Err("what was sent there before is none that can be"),
                false if packet.urgent && !is_stream => Err("it is out of band, and no stream"),
                false => Ok(packet),
            }
        };
        let by = cred.as_ref().map(decode_identity).transpose()?;
        Ok(Self { client, by, sent: sent.iter().map(decode).collect::<Result<_, _>>()? })
    }
}
