//! A file of every kind.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};

use dormouse_image::proto::files::FdType;
use dormouse_kernel::bpf::{MAP_TYPE_ARRAY, Map, MapInfo, create_map};
use dormouse_kernel::fanotify;
use dormouse_kernel::io_uring;
use dormouse_kernel::mqueue::{self, Room};
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::signalfd::signalfd;
use dormouse_kernel::userfaultfd;
use dormouse_resources::file::Refusal;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{
    CWD, FileType, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, inotify, memfd_create,
    mknodat, open,
};
use rustix::mount::{FsOpenFlags, fsopen};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::UnshareFlags;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use tempfile::TempDir;

/// What is to become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The room with this tag claims it.
    Claimed(FdType),
    /// It is refused for this reason.
    Refused(Refusal),
}

/// Files, what they are, and what is to become of them.
pub(crate) struct Zoo {
    pub(crate) files: Vec<(&'static str, OwnedFd, Fate)>,
    _dir: TempDir,
}

/// Kinds that take a device, a privilege or a program that is not here.
pub(crate) const ABSENT: &[Refusal] = &[
    Refusal::Vsock,
    Refusal::Alg,
    Refusal::Xdp,
    Refusal::Can,
    Refusal::Bluetooth,
    Refusal::Key,
    Refusal::Pppox,
    Refusal::Transport,
    Refusal::Pidfd,
    Refusal::BpfProgram,
    Refusal::BpfLink,
    Refusal::Bpf,
    Refusal::SeccompListener,
    Refusal::Landlock,
    Refusal::Kvm,
    Refusal::PerfEvent,
    Refusal::SecretMemory,
    Refusal::Debugging,
    Refusal::BlockDevice,
    Refusal::Anonymous,
    Refusal::SharedMemory,
    Refusal::Detached,
    Refusal::External,
    Refusal::Undefined,
];

/// An array with one value that is not zero.
fn bpf_map() -> OwnedFd {
    let (kind, max_entries) = (MAP_TYPE_ARRAY, 3);
    let info = MapInfo { kind, key_size: 4, value_size: 8, max_entries, ..MapInfo::default() };
    let file = create_map(&info).unwrap();
    Map::of(file.as_fd()).unwrap().set(&1_u32.to_ne_bytes(), &[7; 8]).unwrap();
    file
}

/// A ring with requests in it.
fn ring() -> OwnedFd {
    let mut params = io_uring::Params { sq_entries: 8, ..io_uring::Params::default() };
    let ring = io_uring::setup(&mut params).unwrap();
    let requests = io_uring::Region::map(ring.as_fd(), io_uring::OFF_SQES, 8 * 64).unwrap();
    requests.write(64, &[7; 64]).unwrap();
    ring
}

/// A userfaultfd that is in use, and about nothing yet.
fn userfault() -> OwnedFd {
    let file = userfaultfd::create(userfaultfd::USER_MODE_ONLY).unwrap();
    userfaultfd::begin(file.as_fd(), 0).unwrap();
    file
}

/// Two queues, with and without a name, and another description of the first.
fn queues() -> [OwnedFd; 3] {
    // Others may have made as many as there can be. This is of no harm to any memory, as that of
    // descriptor tables would be.
    #[expect(deprecated, reason = "the other one is unsafe")]
    rustix::thread::unshare(UnshareFlags::NEWIPC).unwrap();
    let room = Room { messages: 3, message_len: 50 };
    let mode = Mode::RUSR | Mode::WUSR;
    let [lost, named] = [c"lost", c"named"].map(|name| {
        let queue = mqueue::create(name, mode, room).unwrap();
        mqueue::send(queue.as_fd(), b"in a queue", 7).unwrap();
        mqueue::send(queue.as_fd(), b"first", 9).unwrap();
        queue
    });
    let again = mqueue::open(c"lost", OFlags::RDONLY).unwrap();
    mqueue::unlink(c"lost").unwrap();
    [lost, named, again]
}

/// One of each, at least.
pub(crate) fn zoo() -> Zoo {
    use Fate::{Claimed, Refused};
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let opened = |name: &str, flags| open(path(name), flags, Mode::RUSR | Mode::WUSR).unwrap();
    fs::write(path("plain"), b"0123456789").unwrap();
    fs::write(path("small ghost"), b"boo").unwrap();
    fs::write(path("large ghost"), vec![b'o'; 50_000]).unwrap();
    fs::create_dir(path("lost")).unwrap();
    symlink("plain", path("link")).unwrap();
    for name in ["fifo", "lost fifo"] {
        mknodat(CWD, path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    let (from, to) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&to, b"in a pipe").unwrap();
    let again = |file: &OwnedFd, flags| {
        open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty()).unwrap()
    };
    let fifo = opened("fifo", OFlags::RDWR);
    rustix::io::write(&fifo, b"in a fifo").unwrap();
    let memfd = memfd_create("zoo", MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::io::write(&memfd, b"in memory").unwrap();
    fcntl_add_seals(&memfd, SealFlags::SHRINK).unwrap();
    let watched = eventfd(1, EventfdFlags::NONBLOCK).unwrap();
    let event_place = again(&watched, OFlags::PATH);
    let epoll = epoll::create(epoll::CreateFlags::empty()).unwrap();
    for (file, data) in [(&watched, 1), (&from, 2)] {
        let data = epoll::EventData::new_u64(data);
        epoll::add(&epoll, file, data, epoll::EventFlags::IN | epoll::EventFlags::ET).unwrap();
    }
    let (stream, _) = UnixStream::pair().unwrap();
    let (reg, pipe) = (Claimed(FdType::Reg), Claimed(FdType::Pipe));
    let inet = Claimed(FdType::InetSk);
    let network = |family, kind| socket(family, kind, None).unwrap();
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).unwrap();
    dormouse_kernel::terminal::set_locked(&terminal, false).unwrap();
    let slave = dormouse_kernel::terminal::open_slave(&terminal, OFlags::RDWR).unwrap();

    let [lost_queue, queue, queue_again] = queues();
    let place = network(AddressFamily::UNIX, SocketType::DGRAM);

    let mut files = vec![
        ("a file", opened("plain", OFlags::RDWR), reg),
        ("a log", opened("plain", OFlags::WRONLY | OFlags::APPEND), reg),
        ("a directory", opened(".", OFlags::RDONLY), reg),
        ("a symbolic link", opened("link", OFlags::PATH | OFlags::NOFOLLOW), reg),
        ("a fifo's path", opened("fifo", OFlags::PATH), reg),
        ("a ghost", opened("small ghost", OFlags::RDONLY), reg),
        ("a ghost again", opened("small ghost", OFlags::WRONLY), reg),
        ("a large ghost", opened("large ghost", OFlags::RDWR | OFlags::NOFOLLOW), reg),
        ("a lost directory", opened("lost", OFlags::RDONLY), reg),
        ("a temporary file", opened(".", OFlags::RDWR | OFlags::TMPFILE), reg),
        ("a device", opened("/dev/null", OFlags::RDWR), reg),
        ("a device's path", opened("/dev/ptmx", OFlags::PATH), reg),
        ("a file of /proc", opened("/proc/self/maps", OFlags::RDONLY), reg),
        ("a fifo", opened("fifo", OFlags::RDONLY), Claimed(FdType::Fifo)),
        ("both ends of a fifo", fifo, Claimed(FdType::Fifo)),
        ("a lost fifo", opened("lost fifo", OFlags::RDWR), Claimed(FdType::Fifo)),
        ("a pipe again", again(&from, OFlags::RDONLY), pipe),
        ("a pipe's place", again(&from, OFlags::PATH), pipe),
        ("a pipe to read", from, pipe),
        ("a pipe to write", to, pipe),
        ("a memfd", again(&memfd, OFlags::RDONLY), Claimed(FdType::MemFd)),
        ("a memfd as made", memfd, Claimed(FdType::MemFd)),
        ("an eventfd", watched, Claimed(FdType::EventFd)),
        ("a semaphore", eventfd(3, EventfdFlags::SEMAPHORE).unwrap(), Claimed(FdType::EventFd)),
        ("an epoll", epoll, Claimed(FdType::EventPoll)),
        ("a terminal's slave", slave, Claimed(FdType::Tty)),
        ("a terminal", terminal, Claimed(FdType::Tty)),
        ("a Unix stream", stream.into(), Claimed(FdType::UnixSk)),
        ("a datagram", UnixDatagram::unbound().unwrap().into(), Claimed(FdType::UnixSk)),
        ("TCP", network(AddressFamily::INET, SocketType::STREAM), inet),
        ("UDP", network(AddressFamily::INET6, SocketType::DGRAM), inet),
        ("netlink", network(AddressFamily::NETLINK, SocketType::RAW), Claimed(FdType::NetlinkSk)),
        (
            "a packet socket",
            network(AddressFamily::PACKET, SocketType::RAW),
            Claimed(FdType::PacketSk),
        ),
        (
            "a timerfd",
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty()).unwrap(),
            Claimed(FdType::TimerFd),
        ),
        (
            "a signalfd",
            signalfd(SigSet::EMPTY.with(Signal::USR1)).unwrap(),
            Claimed(FdType::SignalFd),
        ),
        ("a fanotify", fanotify::init(0, 0).unwrap(), Claimed(FdType::Fanotify)),
        (
            "an inotify",
            inotify::init(inotify::CreateFlags::empty()).unwrap(),
            Claimed(FdType::Inotify),
        ),
        ("a socket's place", again(&place, OFlags::PATH), Refused(Refusal::Socket)),
        ("an eventfd's place", event_place, Refused(Refusal::AnonymousPath)),
        ("a pidfd", pidfd_open(getpid(), PidfdFlags::empty()).unwrap(), Claimed(FdType::PidFd)),
        ("a BPF map", bpf_map(), Claimed(FdType::BpfMap)),
        ("an io_uring", ring(), Claimed(FdType::IoUring)),
        ("a userfaultfd", userfault(), Claimed(FdType::Userfaultfd)),
        ("a message queue", queue, Claimed(FdType::Mqueue)),
        ("a lost queue", lost_queue, Claimed(FdType::Mqueue)),
        ("a lost queue again", queue_again, Claimed(FdType::Mqueue)),
        ("a namespace", opened("/proc/self/ns/mnt", OFlags::RDONLY), Claimed(FdType::Ns)),
    ];
    // A kernel need not be built for that, or started with it. Nothing to tell has who waits for all tasks
    // to want memory for all of ten seconds: these threads do not. (A virtual machine that stands still
    // for a moment has its tasks all want a processor.)
    let pressure = open("/proc/pressure/memory", OFlags::RDWR, Mode::empty()).ok();
    let watching = |file: &OwnedFd| rustix::io::write(file, b"full 10000000 10000000\0").is_ok();
    if let Some(pressure) = pressure.filter(watching) {
        files.push(("a file that tells of pressure", pressure, reg));
    }
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    files.push(("a file system being set up", context, Refused(Refusal::FsContext)));
    if let Ok(tun) = open("/dev/net/tun", OFlags::RDWR, Mode::empty()) {
        files.push(("a queue of no interface yet", tun, Claimed(FdType::Tun)));
    }
    if let Ok(fuse) = open("/dev/fuse", OFlags::RDWR, Mode::empty()) {
        files.push(("a device with state", fuse, Refused(Refusal::CharacterDevice)));
    }
    for name in ["small ghost", "large ghost", "lost fifo"] {
        fs::remove_file(path(name)).unwrap();
    }
    fs::remove_dir(path("lost")).unwrap();
    Zoo { files, _dir: dir }
}
