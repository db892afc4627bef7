//! Which options of a connection are what they are in a new socket: told by the
//! kernel's memory, which is read in one go for many sockets, where a hundred
//! calls would be made for each.
//!
//! Truth from: the members of `struct tcp_sock`, and of what it begins with,
//! that the kernel's `getsockopt` answers from. Where these are the same bytes
//! as in a new socket, its answer is the same. An option that has no place here,
//! or whose place this kernel does not have, is asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

use dormouse_kernel::Errno;
use dormouse_kernel::socket::SocketOption;
use epoll_interest::kernel_memory::{Btf, BtfError, Struct};

use super::options::TCP;
use crate::file::socket_options::Options;

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const SOCKET: i32 = libc::SOL_SOCKET;

/// A structure, a member of it or of one in it, and its bytes.
type Place = (&'static str, &'static str, usize);

const FLAGS: Place = ("sock", "__sk_common.skc_flags", 8);
const INET_FLAGS: Place = ("inet_sock", "inet_flags", 8);
const TIMESTAMPING: [Place; 3] = [FLAGS, ("sock", "sk_tsflags", 4), ("sock", "sk_bind_phc", 4)];
const SCM: [Place; 1] = [("sock", "sk_scm_recv_flags", 1)];
const REUSE: [Place; 1] = [("sock", "__sk_common.skc_reuse", 1)];
const NAGLE: [Place; 1] = [("tcp_sock", "nonagle", 1)];
/// The members of structures that sockets of IPv6 have beside.
const V6: &str = "ipv6_pinfo";
const RECEIVED: [Place; 1] = [(V6, "rxopt", 2)];
const HEADERS: [Place; 1] = [(V6, "opt", 8)];

/// Names of options of a level, and where the kernel keeps what it answers.
const PLACES: &[(i32, &[i32], &[Place])] = &[
    (
        SOCKET,
        &[
            libc::SO_DONTROUTE,
            libc::SO_BROADCAST,
            libc::SO_KEEPALIVE,
            libc::SO_OOBINLINE,
            libc::SO_DEBUG,
            libc::SO_TIMESTAMP,
            libc::SO_TIMESTAMPNS,
            63, // SO_TIMESTAMP_NEW
            64, // SO_TIMESTAMPNS_NEW
            libc::SO_RXQ_OVFL,
            41, // SO_WIFI_STATUS
            43, // SO_NOFCS
            45, // SO_SELECT_ERR_QUEUE
            libc::SO_ZEROCOPY,
            75, // SO_RCVMARK
            82, // SO_RCVPRIORITY
            libc::SO_LOCK_FILTER,
        ],
        &[FLAGS],
    ),
    // The last is SO_TIMESTAMPING_NEW.
    (SOCKET, &[libc::SO_TIMESTAMPING, 65], &TIMESTAMPING),
    (SOCKET, &[libc::SO_LINGER], &[FLAGS, ("sock", "sk_lingertime", 8)]),
    (SOCKET, &[libc::SO_REUSEADDR, libc::SO_REUSEPORT], &REUSE),
    // SO_PASSPIDFD and SO_PASSRIGHTS.
    (SOCKET, &[libc::SO_PASSCRED, libc::SO_PASSSEC, 76, 83], &SCM),
    (SOCKET, &[libc::SO_PRIORITY], &[("sock", "sk_priority", 4)]),
    (SOCKET, &[libc::SO_RCVLOWAT], &[("sock", "sk_rcvlowat", 4)]),
    (SOCKET, &[libc::SO_MARK], &[("sock", "sk_mark", 4)]),
    (SOCKET, &[libc::SO_NO_CHECK], &[("sock", "sk_no_check_tx", 1)]),
    (SOCKET, &[libc::SO_BUSY_POLL], &[("sock", "sk_ll_usec", 4)]),
    // SO_PREFER_BUSY_POLL, SO_BUSY_POLL_BUDGET, SO_BUF_LOCK.
    (SOCKET, &[69], &[("sock", "sk_prefer_busy_poll", 1)]),
    (SOCKET, &[70], &[("sock", "sk_busy_poll_budget", 2)]),
    (SOCKET, &[72], &[("sock", "sk_userlocks", 1)]),
    (SOCKET, &[libc::SO_SNDBUF], &[("sock", "sk_sndbuf", 4)]),
    (SOCKET, &[libc::SO_RCVBUF], &[("sock", "sk_rcvbuf", 4)]),
    (SOCKET, &[libc::SO_SNDTIMEO], &[("sock", "sk_sndtimeo", 8)]),
    (SOCKET, &[libc::SO_RCVTIMEO], &[("sock", "sk_rcvtimeo", 8)]),
    (SOCKET, &[libc::SO_BINDTODEVICE], &[("sock", "__sk_common.skc_bound_dev_if", 4)]),
    (SOCKET, &[libc::SO_GET_FILTER], &[("sock", "sk_filter", 8)]),
    (SOCKET, &[libc::SO_PEEK_OFF], &[("sock", "sk_peek_off", 4)]),
    // SO_MAX_PACING_RATE, SO_TXTIME, SO_RESERVE_MEM, SO_TXREHASH.
    (SOCKET, &[47], &[("sock", "sk_max_pacing_rate", 8)]),
    (SOCKET, &[61], &[FLAGS, ("sock", "sk_clockid", 1), ("sock", "sk_txtime_deadline_mode", 1)]),
    (SOCKET, &[73], &[("sock", "sk_reserved_mem", 4)]),
    (SOCKET, &[74], &[("sock", "sk_txrehash", 1)]),
    (
        IP,
        &[
            3, // IP_HDRINCL
            libc::IP_RECVOPTS,
            libc::IP_RETOPTS,
            8, // IP_PKTINFO
            libc::IP_RECVERR,
            libc::IP_RECVTTL,
            libc::IP_RECVTOS,
            libc::IP_FREEBIND,
            libc::IP_PASSSEC,
            libc::IP_TRANSPARENT,
            libc::IP_RECVORIGDSTADDR,
            22, // IP_NODEFRAG
            23, // IP_CHECKSUM
            libc::IP_BIND_ADDRESS_NO_PORT,
            25, // IP_RECVFRAGSIZE
            26, // IP_RECVERR_RFC4884
            libc::IP_MULTICAST_LOOP,
            libc::IP_MULTICAST_ALL,
        ],
        &[INET_FLAGS],
    ),
    (IP, &[libc::IP_TOS], &[("inet_sock", "tos", 1)]),
    (IP, &[libc::IP_TTL], &[("inet_sock", "uc_ttl", 2)]),
    (IP, &[libc::IP_OPTIONS], &[("inet_sock", "inet_opt", 8)]),
    (IP, &[libc::IP_MTU_DISCOVER], &[("inet_sock", "pmtudisc", 1)]),
    // IP_MINTTL, IP_LOCAL_PORT_RANGE.
    (IP, &[21], &[("inet_sock", "min_ttl", 1)]),
    (IP, &[51], &[("inet_sock", "local_port_range", 4)]),
    (IP, &[libc::IP_UNICAST_IF], &[("inet_sock", "uc_index", 4)]),
    (TCP, &[libc::TCP_NODELAY, libc::TCP_CORK], &NAGLE),
    (TCP, &[libc::TCP_KEEPIDLE], &[("tcp_sock", "keepalive_time", 4)]),
    (TCP, &[libc::TCP_KEEPINTVL], &[("tcp_sock", "keepalive_intvl", 4)]),
    (TCP, &[libc::TCP_KEEPCNT], &[("tcp_sock", "keepalive_probes", 1)]),
    (TCP, &[libc::TCP_SYNCNT], &[("inet_connection_sock", "icsk_syn_retries", 1)]),
    (TCP, &[libc::TCP_LINGER2], &[("tcp_sock", "linger2", 4)]),
    (
        TCP,
        &[libc::TCP_DEFER_ACCEPT],
        &[("inet_connection_sock", "icsk_accept_queue.rskq_defer_accept", 1)],
    ),
    (TCP, &[libc::TCP_CONGESTION], &[("inet_connection_sock", "icsk_ca_ops", 8)]),
    (TCP, &[libc::TCP_THIN_LINEAR_TIMEOUTS], &[("tcp_sock", "thin_lto", 1)]),
    (TCP, &[libc::TCP_USER_TIMEOUT], &[("inet_connection_sock", "icsk_user_timeout", 4)]),
    // TCP_NOTSENT_LOWAT, TCP_SAVE_SYN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_KEY,
    // TCP_FASTOPEN_NO_COOKIE, TCP_INQ, TCP_TX_DELAY.
    (TCP, &[25], &[("tcp_sock", "notsent_lowat", 4)]),
    (TCP, &[27], &[("tcp_sock", "save_syn", 1)]),
    (TCP, &[30], &[("tcp_sock", "fastopen_connect", 1)]),
    (TCP, &[33], &[("inet_connection_sock", "icsk_accept_queue.fastopenq.ctx", 8)]),
    (TCP, &[34], &[("tcp_sock", "fastopen_no_cookie", 1)]),
    (TCP, &[36], &[("tcp_sock", "recvmsg_inq", 1)]),
    (TCP, &[37], &[("tcp_sock", "tcp_tx_delay", 4)]),
    // TCP_RTO_MAX_MS, TCP_RTO_MIN_US, TCP_DELACK_MAX_US.
    (TCP, &[44], &[("inet_connection_sock", "icsk_rto_max", 4)]),
    (TCP, &[45], &[("inet_connection_sock", "icsk_rto_min", 4)]),
    (TCP, &[46], &[("inet_connection_sock", "icsk_delack_max", 4)]),
    (IPV6, &[libc::IPV6_V6ONLY], &[("sock", "__sk_common.skc_ipv6only", 1)]),
    (
        IPV6,
        &[
            libc::IPV6_MULTICAST_LOOP,
            libc::IPV6_RECVERR,
            29, // IPV6_MULTICAST_ALL
            30, // IPV6_ROUTER_ALERT_ISOLATE
            31, // IPV6_RECVERR_RFC4884
            33, // IPV6_FLOWINFO_SEND
            libc::IPV6_DONTFRAG,
            70, // IPV6_AUTOFLOWLABEL
        ],
        &[INET_FLAGS],
    ),
    (IPV6, &[libc::IPV6_UNICAST_HOPS], &[(V6, "hop_limit", 2)]),
    (IPV6, &[libc::IPV6_MTU_DISCOVER], &[(V6, "pmtudisc", 1)]),
    (
        IPV6,
        &[
            2, // IPV6_2292PKTINFO and others of RFC 2292
            3,
            4,
            5,
            8,
            49, // IPV6_RECVPKTINFO
            libc::IPV6_RECVHOPLIMIT,
            libc::IPV6_RECVHOPOPTS,
            libc::IPV6_RECVRTHDR,
            libc::IPV6_RECVDSTOPTS,
            60, // IPV6_RECVPATHMTU
            libc::IPV6_RECVTCLASS,
            74, // IPV6_RECVORIGDSTADDR
            77, // IPV6_RECVFRAGSIZE
        ],
        &RECEIVED,
    ),
    (
        IPV6,
        &[libc::IPV6_HOPOPTS, libc::IPV6_RTHDRDSTOPTS, libc::IPV6_RTHDR, libc::IPV6_DSTOPTS],
        &HEADERS,
    ),
    (IPV6, &[libc::IPV6_TCLASS], &[(V6, "tclass", 1)]),
    // IPV6_ADDR_PREFERENCES, IPV6_MINHOPCOUNT, IPV6_UNICAST_IF.
    (IPV6, &[72], &[(V6, "srcprefs", 1)]),
    (IPV6, &[73], &[(V6, "min_hopcount", 1)]),
    (IPV6, &[76], &[(V6, "ucast_oif", 4)]),
];

/// Where this kernel keeps what it answers.
pub(super) struct Places {
    /// Bytes of a `struct tcp_sock`, and where it points to what is of IPv6.
    pub(super) len: usize,
    pub(super) v6: usize,
    /// Bytes of the latter.
    pub(super) v6_len: usize,
    /// Ranges of both, one behind the other, for some options together.
    rows: Vec<Vec<Range<usize>>>,
    /// The row of an option.
    of: BTreeMap<SocketOption, usize>,
}

/// The offset of a member of a structure, or of one that is in it.
fn offset(within: &Struct<'_>, path: &'static str) -> Result<usize, BtfError> {
    match path.split_once('.') {
        None => within.offset(path),
        Some((first, rest)) => {
            let (at, inner) = within.member(first)?;
            Ok(at + offset(&inner, rest)?)
        }
    }
}

impl Places {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let len = btf.structure("tcp_sock")?.size();
        let mut structures = BTreeMap::new();
        for &(name, ..) in PLACES.iter().flat_map(|(_, _, places)| *places) {
            if !structures.contains_key(name) {
                structures.insert(name, btf.structure(name)?);
            }
        }
        let (mut rows, mut of) = (Vec::new(), BTreeMap::new());
        for &(level, names, places) in PLACES {
            let ranges = places.iter().map(|&(structure, member, bytes)| {
                let start = offset(&structures[structure], member)?;
                let start = if structure == V6 { len + start } else { start };
                Ok::<_, BtfError>(start..start + bytes)
            });
            // Another kernel has them elsewhere, or has no such option.
            let Ok(ranges) = ranges.collect::<Result<Vec<_>, _>>() else { continue };
            let options = names.iter().map(|&name| SocketOption::new(level, name));
            of.extend(options.map(|option| (option, rows.len())));
            rows.push(ranges);
        }
        let v6 = btf.structure("inet_sock")?.offset("pinet6")?;
        Ok(Self { len, v6, v6_len: btf.structure(V6)?.size(), rows, of })
    }

    /// Which options are the same in two sockets, by their memory.
    pub(super) fn compare(&self, one: &[u8], other: &[u8]) -> Alike {
        let same = |range: &Range<usize>| {
            let parts = one.get(range.clone()).zip(other.get(range.clone()));
            parts.is_some_and(|(one, other)| one == other)
        };
        Alike(self.rows.iter().map(|ranges| ranges.iter().all(same)).collect())
    }
}

/// Which options are the same in two sockets, by the rows of [`Places`].
#[derive(Clone, Debug)]
pub(super) struct Alike(Vec<bool>);

type Answer = Result<Vec<u8>, Errno>;

/// A new socket, and what it has answered so far.
pub(super) struct Model {
    pub(super) socket: OwnedFd,
    answers: RefCell<BTreeMap<(SocketOption, usize), Answer>>,
}

impl Model {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, answers: RefCell::default() }
    }

    fn answer(&self, option: SocketOption, value: &mut [u8]) -> Result<usize, Errno> {
        let mut answers = self.answers.borrow_mut();
        let answer = answers.entry((option, value.len())).or_insert_with(|| {
            let mut value = vec![0; value.len()];
            let len = option.get_into(&self.socket, &mut value)?;
            value.truncate(len);
            Ok(value)
        });
        let answer = answer.as_ref().map_err(|&error| error)?;
        value[..answer.len()].copy_from_slice(answer);
        Ok(answer.len())
    }
}

/// The options of a socket, asked for only where a new one's may be others.
pub(super) struct Known<'a> {
    pub(super) socket: BorrowedFd<'a>,
    pub(super) model: &'a Model,
    /// If its memory was compared.
    pub(super) alike: Option<(&'a Places, &'a Alike)>,
}

impl Known<'_> {
    fn is_as_new(&self, option: SocketOption) -> bool {
        self.alike.is_some_and(|(places, Alike(alike))| {
            places.of.get(&option).is_some_and(|&row| alike[row])
        })
    }
}

impl Options for &Model {
    fn get_into(&self, option: SocketOption, value: &mut [u8]) -> Result<usize, Errno> {
        self.answer(option, value)
    }

    fn filter(&self) -> Result<Vec<[u8; 8]>, Errno> {
        SocketOption::filter(&self.socket)
    }
}

impl Options for &Known<'_> {
    fn get_into(&self, option: SocketOption, value: &mut [u8]) -> Result<usize, Errno> {
        match self.is_as_new(option) {
            true => self.model.answer(option, value),
            false => option.get_into(self.socket, value),
        }
    }

    fn filter(&self) -> Result<Vec<[u8; 8]>, Errno> {
        match self.is_as_new(SocketOption::of_socket(libc::SO_GET_FILTER)) {
            true => Ok(Vec::new()),
            false => SocketOption::filter(self.socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::net::{accept, bind, connect, getsockname, listen};

    use super::{IPV6, Options, PLACES, SocketOption, TCP};
    use crate::file::inet::listing::{Listing, make};
    use crate::file::inet::options::Kind;

    fn connection(kind: Kind) -> [OwnedFd; 2] {
        let here = match kind.is_v6() {
            true => IpAddr::from(Ipv6Addr::LOCALHOST),
            false => Ipv4Addr::LOCALHOST.into(),
        };
        let listener = make(kind).unwrap();
        bind(&listener, &SocketAddr::new(here, 0)).unwrap();
        listen(&listener, 1).unwrap();
        let client = make(kind).unwrap();
        connect(&client, &getsockname(&listener).unwrap()).unwrap();
        [client, accept(&listener).unwrap()]
    }

    fn all() -> impl Iterator<Item = SocketOption> {
        PLACES
            .iter()
            .flat_map(|(level, names, _)| names.iter().map(|&name| SocketOption::new(*level, name)))
    }

    /// Asks for every option both ways; gives how many are those of a new socket.
    #[track_caller]
    fn agree(listing: &mut Listing, socket: &OwnedFd, kind: Kind, after: &str) -> usize {
        let alike = listing.alike(&[socket.as_fd()], kind).unwrap().remove(0);
        let (known, _) = listing.options((socket.as_fd(), kind), Some(&alike)).unwrap();
        for option in all() {
            let (mut told, mut asked) = ([0; 256], [0; 256]);
            let told = (&known).get_into(option, &mut told).map(|len| told[..len].to_vec());
            let asked = option.get_into(socket, &mut asked).map(|len| asked[..len].to_vec());
            assert_eq!(told, asked, "{option:?} after {after}");
        }
        assert_eq!((&known).filter(), SocketOption::filter(socket), "after {after}");
        all().filter(|&option| known.is_as_new(option)).count()
    }

    #[test]
    fn what_memory_tells_is_what_is_answered() {
        let mut values: Vec<Vec<u8>> =
            [1_i32, 0, 2, 7, 100, 3000].map(|value| value.to_ne_bytes().to_vec()).into();
        values.extend([b"lo".to_vec(), b"reno".to_vec(), vec![1; 4], vec![1; 8], vec![1; 16]]);
        for family in [libc::AF_INET, libc::AF_INET6] {
            let kind = Kind { family, kind: libc::SOCK_STREAM, protocol: TCP };
            let mut listing = Listing::default();
            let known = all().filter(|option| kind.is_v6() || option.level != IPV6).count();
            for end in &connection(kind) {
                let as_new = agree(&mut listing, end, kind, "nothing");
                assert!(as_new > known * 3 / 4, "{as_new} of {known}");
            }
            let mut set = 0;
            for option in all() {
                let mut was_set = false;
                let [client, server] = connection(kind);
                for (end, value) in
                    values.iter().flat_map(|value| [(&client, value), (&server, value)])
                {
                    if option.set_bytes(end, value).is_ok() {
                        was_set = true;
                        agree(&mut listing, end, kind, &format!("{option:?} was {value:?}"));
                    }
                }
                set += usize::from(was_set);
            }
            assert!(set > 60, "{set} options can be set");
            let filtered = &connection(kind)[0];
            let filter = [[6, 0, 0, 0, 0xff, 0xff, 0, 0]];
            SocketOption::of_socket(libc::SO_ATTACH_FILTER).set_filter(filtered, &filter).unwrap();
            agree(&mut listing, filtered, kind, "a filter");
        }
    }
}
