//! Kinds of files that are watched, beside those of the scenarios about epolls.

use std::cell::RefCell;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use rustix::io::{ioctl_fionbio, ioctl_fionread, read, write};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept,
    bind, connect, ipproto, listen, recv, send, sendto, socket_with, socketpair,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::state::State;
use crate::context::until;
use crate::epoll::target::{self, Target, create_one, free, terminal};
use crate::epoll::watch::{ERR, HUP, IN, OUT, signalfd};
use crate::files::{fanotify, pidfd};
use crate::{Context, sys};

/// A kind of file.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) make: fn(&Context) -> Target,
    /// What of it can be carried over.
    limit: Limit,
}

/// What cannot be carried over of a kind, for reasons that have nothing to do with epolls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    /// It has no other end that could go.
    Single,
    /// What waits in it, and it has no other end.
    Queue,
}

impl Kind {
    pub(super) fn allows(&self, state: &State) -> bool {
        match self.limit {
            Limit::None => true,
            Limit::Single => !state.parts(),
            Limit::Queue => !state.rouses() && !state.parts(),
        }
    }
}

const fn kind(name: &'static str, make: fn(&Context) -> Target, limit: Limit) -> Kind {
    Kind { name, make, limit }
}

pub(super) const KINDS: &[Kind] = &[
    kind("eventfd", target::KINDS[0], Limit::Single),
    kind("pipe, reading", target::KINDS[1], Limit::None),
    kind("pipe, writing", target::KINDS[2], Limit::None),
    kind("fifo, reading", target::KINDS[3], Limit::None),
    kind("fifo, writing", target::KINDS[4], Limit::Single),
    kind("unix stream, reading", target::KINDS[5], Limit::None),
    kind("unix stream, writing", target::KINDS[6], Limit::None),
    kind("timerfd", target::KINDS[7], Limit::Single),
    kind("terminal, slave", target::KINDS[8], Limit::None),
    kind("epoll", target::KINDS[9], Limit::Single),
    kind("unix datagrams, pair", target::KINDS[10], Limit::None),
    kind("unix packets, pair", target::KINDS[11], Limit::None),
    kind("UDP, connected", target::KINDS[12], Limit::None),
    kind("TCP", target::KINDS[13], Limit::None),
    kind("unix listener", target::KINDS[14], Limit::Single),
    kind("inotify", target::KINDS[15], Limit::Single),
    kind("message queue, reading", target::KINDS[16], Limit::Single),
    kind("message queue, writing", target::KINDS[17], Limit::Single),
    kind("terminal, master", master, Limit::Single),
    kind("fifo, never written", lonely_fifo, Limit::Single),
    kind("fifo, both ways", both_fifo, Limit::Single),
    kind("signalfd", signals, Limit::Single),
    kind("pidfd", process, Limit::Single),
    kind("fanotify", fanotify, Limit::Single),
    kind("netlink", netlink, Limit::Queue),
    kind("packet", packet, Limit::Queue),
    kind("raw", raw, Limit::Queue),
    kind("raw, sending", sender, Limit::Queue),
    kind("TCP listener", listener, Limit::Queue),
    kind("TCP, unconnected", unconnected, Limit::Single),
    kind("TCP over IPv6", connection_v6, Limit::Single),
    kind("UDP, unconnected", unconnected_udp, Limit::Single),
    kind("UDP over IPv6, unconnected", unconnected_udp_v6, Limit::Single),
    kind("unix datagrams, bound", bound_datagrams, Limit::Single),
    kind("unix datagrams, unbound", unbound_datagrams, Limit::Single),
    kind("unix stream, unconnected", unconnected_stream, Limit::Single),
    kind("unix stream, half shut", half_shut, Limit::Single),
    kind("unix stream, urgent", urgent, Limit::Single),
    kind("mounts", mounts, Limit::Single),
    kind("sysctl", sysctl, Limit::Single),
    kind("sysfs", sysfs, Limit::Single),
    kind("sysfs, read", sysfs_read, Limit::Single),
    kind("random", random, Limit::Single),
    kind("timerfd, running", running, Limit::Single),
    kind("unix datagrams, writing", datagram_writer, Limit::None),
    kind("unix packets, writing", packet_writer, Limit::None),
    kind("unix packets, listening", packet_listener, Limit::Single),
];

/// A number that no other combination of this program has.
fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Takes out all there is.
fn empty(file: &OwnedFd) {
    let mut bytes = [0; 8192];
    while read(file, &mut bytes).is_ok_and(|len| len > 0) {}
}

/// Waits until the file has something to read, and those who watch it are told.
fn come(file: &OwnedFd) {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    let conditions = PollFlags::IN | PollFlags::PRI;
    poll(&mut [PollFd::new(file, conditions)], Some(&second)).expect("poll");
    sys::nap(Duration::from_micros(200));
}

fn nonblocking(file: impl Into<OwnedFd>) -> OwnedFd {
    let file = file.into();
    ioctl_fionbio(&file, true).expect("FIONBIO");
    file
}

/// Bytes come from the other one, after a moment.
fn fed(name: &'static str, file: OwnedFd, other: OwnedFd) -> Target {
    let rouse = move |file: &OwnedFd| {
        let _ = write(&other, b"x");
        come(file);
    };
    Target::special(name, IN, file, rouse, empty)
}

/// Nothing makes it anything else than it is.
fn constant(name: &'static str, ready: u32, file: OwnedFd) -> Target {
    Target::special(name, ready, file, |_| (), |_| ())
}

fn master(_: &Context) -> Target {
    let (slave, master) = terminal();
    let rouse = move |master: &OwnedFd| {
        let waiting = || ioctl_fionread(master).expect("FIONREAD");
        let before = waiting();
        let _ = write(&slave, b"x");
        until("a byte at the terminal", || waiting() > before);
        // Those who watch are told just after.
        sys::nap(Duration::from_millis(2));
    };
    Target::special("terminal, master", IN, nonblocking(master), rouse, empty)
}

/// The reading end of a FIFO whose writers come and go without a word: that is a hang-up, until the
/// next one comes.
fn lonely_fifo(cx: &Context) -> Target {
    let path = free(cx, "fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("mkfifo");
    let end = |flags| open(&path, flags | OFlags::NONBLOCK, Mode::empty()).expect("open");
    let reader = end(OFlags::RDONLY);
    let place = path.clone();
    let write = move || open(&place, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).ok();
    let writer = Rc::new(RefCell::new(None));
    let (same, another) = (Rc::clone(&writer), write.clone());
    let rouse = move |_: &OwnedFd| {
        let mut writer = same.borrow_mut();
        *writer = another();
        *writer = None;
    };
    let calm = move |_: &OwnedFd| *writer.borrow_mut() = write();
    Target::special("fifo, never written", HUP, reader, rouse, calm)
}

/// A FIFO that is open for reading and writing.
fn both_fifo(cx: &Context) -> Target {
    let path = free(cx, "fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("mkfifo");
    let file = open(&path, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).expect("open");
    let rouse = |file: &OwnedFd| {
        let _ = write(file, b"x");
    };
    Target::special("fifo, both ways", IN, file, rouse, empty)
}

fn signals(_: &Context) -> Target {
    let number = unique_signal();
    let own = std::process::id().cast_signed();
    let rouse = move |_: &OwnedFd| sys::kill(own, number);
    Target::special("signalfd", IN, signalfd(number), rouse, empty)
}

fn unique_signal() -> i32 {
    const OTHERS: [i32; 12] = [
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
        libc::SIGXCPU,
        libc::SIGXFSZ,
        libc::SIGTERM,
    ];
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed) as usize;
    let all = (libc::SIGRTMIN()..=libc::SIGRTMAX()).chain(OTHERS);
    all.into_iter().nth(next).expect("few enough states")
}

/// A process that dies when it is to be ready, and is another thing never again.
fn process(cx: &Context) -> Target {
    let child = cx.fork(|cx| {
        while !cx.path("outcomes").exists() {
            sys::nap(Duration::from_millis(20));
        }
    });
    let rouse = move |file: &OwnedFd| {
        sys::kill(child, libc::SIGKILL);
        come(file);
    };
    Target::special("pidfd", IN, pidfd::pidfd_open(child, 0), rouse, |_| ())
}

fn fanotify(cx: &Context) -> Target {
    let dir = free(cx, "marked");
    std::fs::create_dir(&dir).expect("mkdir");
    let flags = libc::FAN_NONBLOCK | libc::FAN_REPORT_DFID_NAME;
    let group = fanotify::init(flags, libc::O_RDONLY).expect("fanotify_init");
    fanotify::mark(&group, libc::FAN_MARK_ADD, libc::FAN_CREATE, &dir).expect("fanotify_mark");
    let rouse = move |_: &OwnedFd| create_one(&dir);
    Target::special("fanotify", IN, group, rouse, empty)
}

fn netlink(_: &Context) -> Target {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).expect("socket");
    bind(&socket, &SocketAddrNetlink::new(0, 0)).expect("bind");
    let rouse = |file: &OwnedFd| {
        // RTM_GETLINK of the loopback: nlmsghdr, then ifinfomsg.
        let mut request = [0_u8; 32];
        request[0] = 32;
        request[4..8].copy_from_slice(&[18, 0, 1, 0]);
        request[20] = 1;
        sendto(file, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).expect("send");
        come(file);
    };
    Target::special("netlink", IN, socket, rouse, |file| {
        while recv(file, &mut [0; 8192][..], RecvFlags::DONTWAIT).is_ok() {}
    })
}

fn packet(_: &Context) -> Target {
    let protocol = 0xb000 + unique() as u16;
    let socket = |protocol: u16| {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None).expect("socket");
        // SAFETY: all zeros are an address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = 1;
        address.sll_halen = 6;
        (socket, address)
    };
    let (receiver, address) = socket(protocol);
    let len = size_of_val(&address) as u32;
    // SAFETY: the address lives over the call, with the length stated.
    let bound = unsafe { libc::bind(receiver.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(bound, 0, "bind");
    let (sender, _) = socket(0);
    let rouse = move |file: &OwnedFd| {
        let to = (&raw const address).cast();
        // SAFETY: bytes and address live over the call, with the lengths stated.
        let sent = unsafe {
            libc::sendto(
                sender.as_raw_fd(),
                b"twenty bytes or more".as_ptr().cast(),
                20,
                0,
                to,
                len,
            )
        };
        assert_eq!(sent, 20, "send");
        come(file);
    };
    Target::special("packet", IN, receiver, rouse, empty)
}

fn raw_socket(protocol: Protocol) -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(protocol)).expect("socket")
}

fn raw(_: &Context) -> Target {
    let number = NonZeroU32::new(143 + unique() % 110).expect("not zero");
    let protocol = Protocol::from_raw(number);
    let rouse = move |file: &OwnedFd| {
        let to = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        sendto(raw_socket(protocol), b"x", SendFlags::empty(), &to).expect("send");
        come(file);
    };
    Target::special("raw", IN, raw_socket(protocol), rouse, empty)
}

/// A socket that can only send.
fn sender(_: &Context) -> Target {
    constant("raw, sending", OUT, raw_socket(ipproto::RAW))
}

fn listener(_: &Context) -> Target {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let address = listener.local_addr().expect("an address");
    // They stay open as long as the process.
    let rouse = move |file: &OwnedFd| {
        std::mem::forget(TcpStream::connect(address));
        come(file);
    };
    let calm = |file: &OwnedFd| {
        while let Ok(caller) = accept(file) {
            std::mem::forget(caller);
        }
    };
    Target::special("TCP listener", IN, nonblocking(listener), rouse, calm)
}

fn unconnected(_: &Context) -> Target {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("socket");
    constant("TCP, unconnected", OUT, socket)
}

fn tcp(listener: &TcpListener) -> (OwnedFd, OwnedFd) {
    let one = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (other, _) = listener.accept().expect("accept");
    (nonblocking(one), nonblocking(other))
}

/// A byte out of band comes.
fn urgent(_: &Context) -> Target {
    let (file, other) = UnixStream::pair().expect("socketpair");
    let rouse = move |file: &OwnedFd| {
        let _ = send(&other, b"!", SendFlags::OOB);
        come(file);
    };
    let calm = |file: &OwnedFd| {
        let _ = recv(file, &mut [0; 8][..], RecvFlags::OOB);
        empty(file);
    };
    let ready = libc::EPOLLPRI as u32;
    Target::special("unix stream, urgent", ready, nonblocking(file), rouse, calm)
}

fn connection_v6(_: &Context) -> Target {
    let (one, other) = tcp(&TcpListener::bind(("::1", 0)).expect("bind"));
    fed("TCP over IPv6", one, other)
}

fn udp(name: &'static str, address: &str) -> Target {
    let socket = UdpSocket::bind((address, 0)).expect("bind");
    let to = socket.local_addr().expect("an address");
    let from = UdpSocket::bind((address, 0)).expect("bind");
    let rouse = move |file: &OwnedFd| {
        from.send_to(b"x", to).expect("send");
        come(file);
    };
    Target::special(name, IN, nonblocking(socket), rouse, empty)
}

fn unconnected_udp(_: &Context) -> Target {
    udp("UDP, unconnected", "127.0.0.1")
}

fn unconnected_udp_v6(_: &Context) -> Target {
    udp("UDP over IPv6, unconnected", "::1")
}

fn bound_datagrams(cx: &Context) -> Target {
    let path = free(cx, "datagrams");
    let socket = UnixDatagram::bind(&path).expect("bind");
    let from = UnixDatagram::unbound().expect("socket");
    let rouse = move |_: &OwnedFd| drop(from.send_to(b"x", &path));
    Target::special("unix datagrams, bound", IN, nonblocking(socket), rouse, empty)
}

fn unbound_datagrams(_: &Context) -> Target {
    let socket = UnixDatagram::unbound().expect("socket");
    constant("unix datagrams, unbound", OUT, nonblocking(socket))
}

fn unconnected_stream(_: &Context) -> Target {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("socket");
    constant("unix stream, unconnected", OUT, socket)
}

/// One whose other end has said that it will send no more.
fn half_shut(_: &Context) -> Target {
    let (file, other) = UnixStream::pair().expect("socketpair");
    let other = RefCell::new(other);
    let rouse = move |_: &OwnedFd| drop(other.borrow().shutdown(std::net::Shutdown::Write));
    let ready = libc::EPOLLRDHUP as u32;
    Target::special("unix stream, half shut", ready, nonblocking(file), rouse, |_| ())
}

fn opened(path: &str) -> OwnedFd {
    File::open(path).expect("open").into()
}

fn mounts(_: &Context) -> Target {
    constant("mounts", IN | ERR, opened("/proc/self/mounts"))
}

fn sysctl(_: &Context) -> Target {
    constant("sysctl", IN | ERR, opened("/proc/sys/kernel/hostname"))
}

fn sysfs(_: &Context) -> Target {
    constant("sysfs", IN | ERR, opened("/sys/kernel/mm/transparent_hugepage/enabled"))
}

fn random(_: &Context) -> Target {
    constant("random", IN, opened("/dev/random"))
}

fn sysfs_read(_: &Context) -> Target {
    let file = opened("/sys/kernel/mm/transparent_hugepage/enabled");
    check!(read(&file, &mut [0; 64]).is_ok(), "reading");
    constant("sysfs, read", IN | ERR, file)
}

/// A timer that expires now and then in an hour.
fn running(_: &Context) -> Target {
    let timer =
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).expect("timerfd_create");
    let rouse = |file: &OwnedFd| {
        let time = Itimerspec {
            it_interval: Timespec { tv_sec: 3600, tv_nsec: 0 },
            it_value: Timespec { tv_sec: 0, tv_nsec: 1 },
        };
        timerfd_settime(file, TimerfdTimerFlags::empty(), &time).expect("timerfd_settime");
        come(file);
    };
    Target::special("timerfd, running", IN, timer, rouse, empty)
}

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, kind, flags, None).expect("socketpair")
}

fn datagram_writer(_: &Context) -> Target {
    Target::writer("unix datagrams, writing", pair(SocketType::DGRAM))
}

fn packet_writer(_: &Context) -> Target {
    Target::writer("unix packets, writing", pair(SocketType::SEQPACKET))
}

fn packet_listener(cx: &Context) -> Target {
    let path = free(cx, "packets");
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = move || {
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("socket")
    };
    let listener = socket();
    let address = SocketAddrUnix::new(&path).expect("a short path");
    bind(&listener, &address).expect("bind");
    listen(&listener, 20).expect("listen");
    // They stay open as long as the process.
    let rouse = move |_: &OwnedFd| {
        let caller = socket();
        connect(&caller, &address).expect("connect");
        std::mem::forget(caller);
    };
    let calm = |file: &OwnedFd| while accept(file).is_ok() {};
    Target::special("unix packets, listening", IN, listener, rouse, calm)
}
