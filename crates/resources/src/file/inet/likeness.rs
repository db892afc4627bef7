//! Where the kernel keeps the options of internet sockets.
//!
//! Truth from: the members of `struct tcp_sock`, and of what it begins with,
//! that the kernel's `getsockopt` answers from.

use crate::file::likeness::{Place, Row};
use crate::file::option_names::{
    IP_LOCAL_PORT_RANGE, IP_RECVERR_RFC4884, IPV6_MULTICAST_ALL, IPV6_RECVERR_RFC4884,
    IPV6_ROUTER_ALERT_ISOLATE, TCP_DELACK_MAX_US, TCP_RTO_MAX_MS, TCP_RTO_MIN_US, TCP_TX_DELAY,
};

use super::options::TCP;

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;

const INET_FLAGS: Place = ("inet_sock", "inet_flags", 8);
const NAGLE: [Place; 1] = [("tcp_sock", "nonagle", 1)];
/// The members of structures that sockets of IPv6 have beside.
pub(super) const V6: &str = "ipv6_pinfo";
const RECEIVED: [Place; 1] = [(V6, "rxopt", 2)];
const HEADERS: [Place; 1] = [(V6, "opt", 8)];

/// Options of the protocols.
pub(super) const ROWS: &[Row] = &[
    (
        IP,
        &[
            libc::IP_HDRINCL,
            libc::IP_RECVOPTS,
            libc::IP_RETOPTS,
            libc::IP_PKTINFO,
            libc::IP_RECVERR,
            libc::IP_RECVTTL,
            libc::IP_RECVTOS,
            libc::IP_FREEBIND,
            libc::IP_PASSSEC,
            libc::IP_TRANSPARENT,
            libc::IP_RECVORIGDSTADDR,
            libc::IP_NODEFRAG,
            libc::IP_CHECKSUM,
            libc::IP_BIND_ADDRESS_NO_PORT,
            libc::IP_RECVFRAGSIZE,
            IP_RECVERR_RFC4884,
            libc::IP_MULTICAST_LOOP,
            libc::IP_MULTICAST_ALL,
        ],
        &[INET_FLAGS],
    ),
    (IP, &[libc::IP_TOS], &[("inet_sock", "tos", 1)]),
    (IP, &[libc::IP_TTL], &[("inet_sock", "uc_ttl", 2)]),
    (IP, &[libc::IP_OPTIONS], &[("inet_sock", "inet_opt", 8)]),
    (IP, &[libc::IP_MTU_DISCOVER], &[("inet_sock", "pmtudisc", 1)]),
    (IP, &[libc::IP_MINTTL], &[("inet_sock", "min_ttl", 1)]),
    (IP, &[IP_LOCAL_PORT_RANGE], &[("inet_sock", "local_port_range", 4)]),
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
    (TCP, &[libc::TCP_NOTSENT_LOWAT], &[("tcp_sock", "notsent_lowat", 4)]),
    (TCP, &[libc::TCP_SAVE_SYN], &[("tcp_sock", "save_syn", 1)]),
    (TCP, &[libc::TCP_FASTOPEN_CONNECT], &[("tcp_sock", "fastopen_connect", 1)]),
    (
        TCP,
        &[libc::TCP_FASTOPEN_KEY],
        &[("inet_connection_sock", "icsk_accept_queue.fastopenq.ctx", 8)],
    ),
    (TCP, &[libc::TCP_FASTOPEN_NO_COOKIE], &[("tcp_sock", "fastopen_no_cookie", 1)]),
    (TCP, &[libc::TCP_INQ], &[("tcp_sock", "recvmsg_inq", 1)]),
    (TCP, &[TCP_TX_DELAY], &[("tcp_sock", "tcp_tx_delay", 4)]),
    (TCP, &[TCP_RTO_MAX_MS], &[("inet_connection_sock", "icsk_rto_max", 4)]),
    (TCP, &[TCP_RTO_MIN_US], &[("inet_connection_sock", "icsk_rto_min", 4)]),
    (TCP, &[TCP_DELACK_MAX_US], &[("inet_connection_sock", "icsk_delack_max", 4)]),
    (IPV6, &[libc::IPV6_V6ONLY], &[("sock", "__sk_common.skc_ipv6only", 1)]),
    (
        IPV6,
        &[
            libc::IPV6_MULTICAST_LOOP,
            libc::IPV6_RECVERR,
            IPV6_MULTICAST_ALL,
            IPV6_ROUTER_ALERT_ISOLATE,
            IPV6_RECVERR_RFC4884,
            libc::IPV6_FLOWINFO_SEND,
            libc::IPV6_DONTFRAG,
            libc::IPV6_AUTOFLOWLABEL,
        ],
        &[INET_FLAGS],
    ),
    (IPV6, &[libc::IPV6_UNICAST_HOPS], &[(V6, "hop_limit", 2)]),
    (IPV6, &[libc::IPV6_MTU_DISCOVER], &[(V6, "pmtudisc", 1)]),
    (
        IPV6,
        &[
            libc::IPV6_2292PKTINFO,
            libc::IPV6_2292HOPOPTS,
            libc::IPV6_2292DSTOPTS,
            libc::IPV6_2292RTHDR,
            libc::IPV6_2292HOPLIMIT,
            libc::IPV6_RECVPKTINFO,
            libc::IPV6_RECVHOPLIMIT,
            libc::IPV6_RECVHOPOPTS,
            libc::IPV6_RECVRTHDR,
            libc::IPV6_RECVDSTOPTS,
            libc::IPV6_RECVPATHMTU,
            libc::IPV6_RECVTCLASS,
            libc::IPV6_RECVORIGDSTADDR,
            libc::IPV6_RECVFRAGSIZE,
        ],
        &RECEIVED,
    ),
    (
        IPV6,
        &[libc::IPV6_HOPOPTS, libc::IPV6_RTHDRDSTOPTS, libc::IPV6_RTHDR, libc::IPV6_DSTOPTS],
        &HEADERS,
    ),
    (IPV6, &[libc::IPV6_TCLASS], &[(V6, "tclass", 1)]),
    (IPV6, &[libc::IPV6_ADDR_PREFERENCES], &[(V6, "srcprefs", 1)]),
    (IPV6, &[libc::IPV6_MINHOPCOUNT], &[(V6, "min_hopcount", 1)]),
    (IPV6, &[libc::IPV6_UNICAST_IF], &[(V6, "ucast_oif", 4)]),
];

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::net::{accept, bind, connect, getsockname, listen};

    use super::{IPV6, ROWS, TCP};
    use crate::file::inet::listing::{Listing, make};
    use crate::file::inet::options::Kind;
    use crate::file::likeness::options as all;
    use crate::file::socket_options::Options;
    use dormouse_kernel::socket::SocketOption;

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

    /// Asks for every option both ways; gives how many are those of a new socket.
    #[track_caller]
    fn agree(listing: &mut Listing, socket: &OwnedFd, kind: Kind, after: &str) -> usize {
        let alike = listing.alike(&[socket.as_fd()], kind).unwrap().remove(0);
        let (known, _) = listing.options((socket.as_fd(), kind), Some(&alike)).unwrap();
        for option in all(ROWS) {
            let (mut told, mut asked) = ([0; 256], [0; 256]);
            let told = (&known).get_into(option, &mut told).map(|len| told[..len].to_vec());
            let asked = option.get_into(socket, &mut asked).map(|len| asked[..len].to_vec());
            assert_eq!(told, asked, "{option:?} after {after}");
        }
        assert_eq!((&known).filter(), SocketOption::filter(socket), "after {after}");
        all(ROWS).filter(|&option| known.is_as_new(option)).count()
    }

    #[test]
    fn what_memory_tells_is_what_is_answered() {
        let mut values: Vec<Vec<u8>> =
            [1_i32, 0, 2, 7, 100, 3000].map(|value| value.to_ne_bytes().to_vec()).into();
        values.extend([b"lo".to_vec(), b"reno".to_vec(), vec![1; 4], vec![1; 8], vec![1; 16]]);
        for family in [libc::AF_INET, libc::AF_INET6] {
            let kind = Kind { family, kind: libc::SOCK_STREAM, protocol: TCP };
            let mut listing = Listing::default();
            let known = all(ROWS).filter(|option| kind.is_v6() || option.level != IPV6).count();
            for end in &connection(kind) {
                let as_new = agree(&mut listing, end, kind, "nothing");
                assert!(as_new > known * 3 / 4, "{as_new} of {known}");
            }
            let mut set = 0;
            for option in all(ROWS) {
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
