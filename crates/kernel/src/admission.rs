//! Connections put among those that wait for a listener to accept them, without
//! anybody asking for them: their peers are connected since long ago.
//!
//! The kernel makes such a connection when a segment comes that acknowledges
//! what a SYN cookie has said. A program on the loopback interface's way in
//! vouches for a segment in place of the cookie (`bpf_sk_assign_tcp_reqsk`,
//! Linux 6.9), and says what both sides have agreed on. It does so for segments
//! of a mark and a priority that nobody else's have; all others pass.
//!
//! Truth from: `net/core/filter.c`, `net/ipv4/syncookies.c`.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::Errno;
use crate::bpf::{MAP_TYPE_ARRAY, MapInfo, bpf, create_map, number, owned, pair};
use crate::netfilter::PASSING_MARK;

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;
/// The loopback interface of any network namespace.
const LOOPBACK: u32 = 1;
const LICENSE: &CStr = c"Dual MIT/GPL";

/// The number of `bpf_sk_assign_tcp_reqsk` among the kernel's own types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voucher(pub u32);

/// What both sides of a connection have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The longest segment that the peer takes, in bytes.
    pub segment_size: u16,
    /// By how many bits windows are shifted: the peer's, and this side's.
    pub scales: Option<(u8, u8)>,
    /// Selective acknowledgements.
    pub sack: bool,
    /// Explicit notice of congestion.
    pub ecn: bool,
    /// Time stamps, in milliseconds: the last one that the peer has sent, and
    /// what this side's clock shows.
    pub timestamps: Option<(u32, u32)>,
}

/// The longest `struct bpf_tcp_req_attrs`, padded, and behind it what came of it.
const VALUE: usize = 32;
const ATTRIBUTES: i32 = 20;
const RESULT: i16 = 24;
/// What no call gives: nothing has come by.
const NOTHING: i32 = 1;

impl Terms {
    /// `struct bpf_tcp_req_attrs` (`include/net/tcp.h`).
    fn value(self) -> [u8; VALUE] {
        let mut value = [0; VALUE];
        let (theirs, ours) = self.timestamps.unwrap_or_default();
        value[..4].copy_from_slice(&theirs.to_ne_bytes());
        value[4..8].copy_from_slice(&ours.to_ne_bytes());
        value[8..10].copy_from_slice(&self.segment_size.to_ne_bytes());
        let (theirs, ours) = self.scales.unwrap_or_default();
        value[10..12].copy_from_slice(&[ours, theirs]);
        let has = [self.ecn, self.scales.is_some(), self.sack, self.timestamps.is_some()];
        value[12..16].copy_from_slice(&has.map(u8::from));
        let result = RESULT as usize;
        value[result..result + 4].copy_from_slice(&NOTHING.to_ne_bytes());
        value
    }
}

/// Lets connections in to a listener, as long as it is there.
#[derive(Debug)]
pub struct Admission {
    listener: OwnedFd,
    terms: OwnedFd,
    /// It holds the program, and goes with its last descriptor.
    _link: OwnedFd,
    priority: u32,
}

impl Admission {
    /// Has the loopback interface of this network namespace let them in.
    ///
    /// # Errors
    /// `EINVAL`: the kernel is older than Linux 6.6; `EOPNOTSUPP`: the socket
    /// does not listen; `EPERM`: this takes `CAP_BPF` and `CAP_NET_ADMIN`.
    pub fn open(voucher: Voucher, listener: BorrowedFd<'_>) -> Result<Self, Errno> {
        let map = |kind, value_size: usize| {
            let value_size = value_size as u32;
            create_map(&MapInfo {
                kind,
                key_size: 4,
                value_size,
                max_entries: 1,
                ..MapInfo::default()
            })
        };
        let (listeners, terms) = (map(MAP_TYPE_SOCKMAP, 8)?, map(MAP_TYPE_ARRAY, VALUE)?);
        let priority = nonce()?;
        let program = load(&program(&listeners, &terms, priority, voucher))?;
        let link = attach(program.as_fd())?;
        set(&listeners, &u64::from(number(listener)).to_ne_bytes())?;
        Ok(Self { listener: listeners, terms, _link: link, priority })
    }

    /// The priority (`SO_PRIORITY`) of the segments that are vouched for; their
    /// mark is [`PASSING_MARK`].
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// Says on what terms whoever comes next is let in.
    ///
    /// # Errors
    /// None that is known of.
    pub fn expect(&self, terms: Terms) -> Result<(), Errno> {
        set(&self.terms, &terms.value())
    }

    /// What the kernel said of whoever was expected; `None` as long as nobody has
    /// come by.
    ///
    /// # Errors
    /// `EINVAL`: a setting of the network (`net.ipv4.tcp_window_scaling`,
    /// `tcp_sack`, `tcp_timestamps`) forbids what was agreed on, or segments are
    /// shorter than the kernel allows.
    pub fn outcome(&self) -> Result<Option<()>, Errno> {
        let mut value = [0; VALUE];
        let key = 0_u32;
        let at = value.as_mut_ptr().expose_provenance() as u64;
        let attributes = element(&self.terms, &key, at);
        // SAFETY: the value is as long as the map's, and the key too; both outlive the call.
        unsafe { bpf(MAP_LOOKUP_ELEM, &attributes) }?;
        let result = RESULT as usize;
        let result = value[result..].first_chunk().map(|&bytes| i32::from_ne_bytes(bytes));
        match result.unwrap_or(NOTHING) {
            NOTHING => Ok(None),
            error if error < 0 => Err(Errno::from_raw_os_error(-error)),
            _ => Ok(Some(())),
        }
    }

    /// Leaves the listener alone again.
    ///
    /// # Errors
    /// None that is known of.
    pub fn close(self) -> Result<(), Errno> {
        let key = 0_u32;
        // SAFETY: the key is as long as the map's, and outlives the call.
        match unsafe { bpf(MAP_DELETE_ELEM, &element(&self.listener, &key, 0)) } {
            Ok(_) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Sets the value of a map that has one.
fn set(map: &OwnedFd, value: &[u8]) -> Result<(), Errno> {
    let key = 0_u32;
    let attributes = element(map, &key, value.as_ptr().expose_provenance() as u64);
    // SAFETY: both maps have keys of four bytes; `value` is as long as the values of its own, by
    // the callers. Both are only read, and outlive the call.
    unsafe { bpf(MAP_UPDATE_ELEM, &attributes) }.map(drop)
}

fn element(map: &OwnedFd, key: &u32, value: u64) -> [u64; 9] {
    let key = std::ptr::from_ref(key).expose_provenance() as u64;
    [pair(number(map.as_fd()), 0), key, value, 0, 0, 0, 0, 0, 0]
}

/// A number that nobody can guess, for whoever is let in must not be another's.
fn nonce() -> Result<u32, Errno> {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    // SO_PRIORITY takes an int.
    Ok(u32::from_ne_bytes(bytes) & i32::MAX.cast_unsigned())
}

fn load(instructions: &[u64]) -> Result<OwnedFd, Errno> {
    let attributes = [
        pair(PROG_TYPE_SCHED_CLS, instructions.len() as u32),
        instructions.as_ptr().expose_provenance() as u64,
        LICENSE.as_ptr().expose_provenance() as u64,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: the instructions are counted, the licence ends in a NUL, both outlive the call.
    unsafe { bpf(PROG_LOAD, &attributes) }.map(owned)
}

fn attach(program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let attributes = [pair(number(program), LOOPBACK), pair(TCX_INGRESS, 0), 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: none of these is a pointer.
    unsafe { bpf(LINK_CREATE, &attributes) }.map(owned)
}

/// An instruction: its code, two registers, an offset and a number.
///
/// Truth from: `Documentation/bpf/standardization/instruction-set.rst`.
fn op(code: u64, dst: u64, src: u64, offset: i16, imm: i32) -> u64 {
    let (offset, imm) = (u64::from(offset.cast_unsigned()), u64::from(imm.cast_unsigned()));
    code | dst << 8 | src << 12 | offset << 16 | imm << 32
}

/// `if skb.mark == PASSING_MARK && skb.priority == priority { value.result =
/// bpf_sk_assign_tcp_reqsk(skb, listener, value, 20) }; TCX_NEXT`
fn program(listener: &OwnedFd, terms: &OwnedFd, priority: u32, voucher: Voucher) -> Vec<u64> {
    const MOVE: u64 = 0xbf;
    const MOVE_K: u64 = 0xb7;
    const ADD_K: u64 = 0x07;
    const LOAD_W: u64 = 0x61;
    const STORE_W: u64 = 0x63;
    const STORE_W_K: u64 = 0x62;
    const LOAD_MAP: u64 = 0x18;
    const JUMP_NE_K: u64 = 0x56;
    const JUMP_EQ_K: u64 = 0x15;
    const CALL: u64 = 0x85;
    const EXIT: u64 = 0x95;
    // As the second register of LOAD_MAP and of CALL.
    const MAP: u64 = 1;
    const MAP_VALUE: u64 = 2;
    const KERNEL_FUNCTION: u64 = 2;
    const MAP_LOOKUP: i32 = 1;
    const SK_RELEASE: i32 = 86;
    // Members of struct __sk_buff.
    const MARK: i16 = 8;
    const PRIORITY: i16 = 32;
    const TCX_NEXT: i32 = -1;
    let raw = |map: &OwnedFd| number(map.as_fd()).cast_signed();
    vec![
        op(MOVE, 6, 1, 0, 0),                                     //  0 r6 = skb
        op(LOAD_W, 2, 6, MARK, 0),                                //  1
        op(JUMP_NE_K, 2, 0, 20, PASSING_MARK.cast_signed()),      //  2 if another mark: end
        op(LOAD_W, 2, 6, PRIORITY, 0),                            //  3
        op(JUMP_NE_K, 2, 0, 18, priority.cast_signed()),          //  4 if another priority: end
        op(LOAD_MAP, 7, MAP_VALUE, 0, raw(terms)),                //  5 r7 = value
        op(0, 0, 0, 0, 0),                                        //  6
        op(STORE_W_K, 10, 0, -4, 0),                              //  7 key = 0
        op(LOAD_MAP, 1, MAP, 0, raw(listener)),                   //  8
        op(0, 0, 0, 0, 0),                                        //  9
        op(MOVE, 2, 10, 0, 0),                                    // 10
        op(ADD_K, 2, 0, 0, -4),                                   // 11
        op(CALL, 0, 0, 0, MAP_LOOKUP),                            // 12 r0 = listener
        op(JUMP_EQ_K, 0, 0, 9, 0),                                // 13 if there is none: end
        op(MOVE, 8, 0, 0, 0),                                     // 14 r8 = listener
        op(MOVE, 1, 6, 0, 0),                                     // 15
        op(MOVE, 2, 8, 0, 0),                                     // 16
        op(MOVE, 3, 7, 0, 0),                                     // 17
        op(MOVE_K, 4, 0, 0, ATTRIBUTES),                          // 18
        op(CALL, 0, KERNEL_FUNCTION, 0, voucher.0.cast_signed()), // 19 r0 = vouch(…)
        op(STORE_W, 7, 0, RESULT, 0),                             // 20 value.result = r0
        op(MOVE, 1, 8, 0, 0),                                     // 21
        op(CALL, 0, 0, 0, SK_RELEASE),                            // 22
        op(MOVE_K, 0, 0, 0, TCX_NEXT),                            // 23 end: r0 = TCX_NEXT
        op(EXIT, 0, 0, 0, 0),                                     // 24
    ]
}
