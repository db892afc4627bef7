use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dormouse_kernel::file_owner;
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::{Extra, ProcDir};
use dormouse_kernel::signal::Signal;
use dormouse_kernel::socket::SocketOption;
use dormouse_kernel::{FdNum, HostPid};
use epoll_interest::kernel_memory::{KernelMemory, TypeInformation};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{FlockOperation, OFlags, flock, inotify};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::pipe;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

use super::KernelFiles;
use super::found::More;
use super::layout::Layout;
use super::socket::socks;
use crate::file::Sighting;
use crate::file::likeness::{Known, Model, Places, Row, options};
use crate::file::socket_options::Options;

fn number(file: &OwnedFd) -> FdNum {
    FdNum::from_raw(file.as_raw_fd().cast_unsigned())
}

/// Its link is `anon_inode:` and a name.
fn is_anonymous(told: &Sighting) -> bool {
    told.link.to_str().is_some_and(|link| link.starts_with("anon_inode:"))
}

fn open_null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// Those of no program have a file system lock, an owner or a signal for nothing.
fn zoo() -> Vec<OwnedFd> {
    let open = |path: &str, flags: OFlags| {
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap()
    };
    let mut all = vec![
        open("/dev/null", OFlags::WRONLY | OFlags::APPEND),
        open("/", OFlags::DIRECTORY | OFlags::CLOEXEC),
        open("/proc/self/status", OFlags::RDONLY),
        open("/dev/zero", OFlags::PATH),
        eventfd(7, EventfdFlags::NONBLOCK).unwrap(),
        eventfd(8, EventfdFlags::SEMAPHORE).unwrap(),
        epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
        inotify::init(inotify::CreateFlags::CLOEXEC).unwrap(),
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap(),
        File::open("/proc/self/exe").unwrap().into(),
    ];
    for (family, kind) in [
        (AddressFamily::INET, SocketType::STREAM),
        (AddressFamily::INET6, SocketType::DGRAM),
        (AddressFamily::NETLINK, SocketType::RAW),
    ] {
        all.push(rustix::net::socket(family, kind, None).unwrap());
    }
    let of = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::empty(), None).unwrap();
    for kind in [SocketType::STREAM, SocketType::DGRAM, SocketType::SEQPACKET] {
        let (one, other) = of(kind);
        flock(&one, FlockOperation::LockShared).unwrap();
        file_owner::set_signal(&other, Some(Signal::USR1)).unwrap();
        all.extend([one, other]);
    }
    let full = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    all.push(open(&format!("/proc/self/fd/{}", full.as_raw_fd()), OFlags::PATH));
    all.push(full);
    let (reader, writer) = pipe().unwrap();
    let again = rustix::io::dup(&writer).unwrap();
    all.extend([reader, writer, again]);
    all
}

#[test]
fn what_memory_tells_is_what_proc_tells() {
    let all = zoo();
    let mut files = KernelFiles::open().unwrap();
    let pidfd = PidFd::open(HostPid::of_self()).unwrap();
    let (table, proc) = (files.any_table(&pidfd).unwrap(), ProcDir::of_self().unwrap());
    let mut by_id = BTreeMap::new();
    for file in &all {
        let seen = files.files(&table, &[number(file)]).unwrap()[0];
        assert_eq!(seen.id, files.own(file.as_fd()).unwrap());
        by_id.entry(seen.id).or_insert_with(Vec::new).push(number(file));
        // The second time it is known what file system it is on.
        for _ in 0..2 {
            let mut read = seen.sighting(&mut files, &proc, number(file)).unwrap();
            let mut told = Sighting::of_fd(&proc, number(file)).unwrap();
            if seen.socket.is_some() {
                // Nobody asks for that of a socket.
                (told.info.extra, read.info.extra) = (Extra::None, Extra::None);
            }
            assert_eq!(read.link, told.link);
            assert_eq!(read.info, told.info, "{:?}", told.link);
            assert_eq!(
                (read.stat.st_dev, read.stat.st_ino, read.stat.st_mode, read.stat.st_rdev),
                (told.stat.st_dev, told.stat.st_ino, told.stat.st_mode, told.stat.st_rdev),
            );
            let magic = rustix::fs::fstatfs(file).unwrap().f_type as u32;
            files.note(&seen, crate::file::FsMagic::from_raw(magic));
        }
        let told = Sighting::of_fd(&proc, number(file)).unwrap();
        let is_eventfd = matches!(told.info.extra, Extra::Eventfd { .. });
        assert_eq!(matches!(seen.more, More::Eventfd(_)), is_eventfd, "{:?}", told.link);
        assert_eq!(seen.name.is_some(), is_anonymous(&told), "{:?}", told.link);
        let signal = file_owner::signal(file).ok().flatten();
        assert_eq!(seen.has_owner, signal.is_some(), "{:?}", number(file));
    }
    let same: Vec<_> = by_id.into_values().filter(|numbers| numbers.len() > 1).collect();
    let [.., writer, again] = &all[..] else { unreachable!() };
    assert_eq!(same, [[number(writer), number(again)]]);
}

#[test]
fn options_that_memory_tells_are_those_that_are_answered() {
    let mut values: Vec<Vec<u8>> =
        [1_i32, 0, 7, 100, 3000].map(|value| value.to_ne_bytes().to_vec()).into();
    values.extend([vec![1; 8], [3_u64, 500].map(u64::to_ne_bytes).as_flattened().to_vec()]);
    let mut files = KernelFiles::open().unwrap();
    let places = files.places();
    for kind in [SocketType::STREAM, SocketType::DGRAM, SocketType::SEQPACKET] {
        let make = || socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let pair = || make().unwrap();
        let model = Model::new(pair().0);
        let (mut set, mut as_new) = (0, 0);
        for option in options(&[]) {
            for value in &values {
                let (one, other) = pair();
                if option.set_bytes(&one, value).is_err() {
                    continue;
                }
                set += 1;
                for socket in [&one, &other] {
                    let pidfd = PidFd::open(HostPid::of_self()).unwrap();
                    let table = files.any_table(&pidfd).unwrap();
                    let found = files.files(&table, &[number(socket)]).unwrap()[0];
                    let sock = found.socket.unwrap().sock;
                    let new = || make().ok().map(|(new, _)| new);
                    let inner = files.sockets(&[sock], &model, new).unwrap().remove(0);
                    assert!(inner.is_sound && inner.is_in_band);
                    let alike = Some((&*places, &inner.alike));
                    let known = Known { socket: socket.as_fd(), model: &model, alike };
                    for option in options(&[]) {
                        let (mut told, mut asked) = ([0; 64], [0; 64]);
                        let told =
                            (&known).get_into(option, &mut told).map(|len| told[..len].to_vec());
                        let asked =
                            option.get_into(socket, &mut asked).map(|len| asked[..len].to_vec());
                        assert_eq!(told, asked, "{option:?} after {value:?}");
                        as_new += usize::from(known.is_as_new(option));
                    }
                }
            }
        }
        assert!(set > 40, "{set} values were taken");
        assert!(as_new > set * 2 * 30, "{as_new} of {set} options were as in a new socket");
    }
}

#[test]
fn what_a_socket_has_to_tell_is_seen() {
    let mut files = KernelFiles::open().unwrap();
    let pair =
        || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let (model, _other) = pair();
    let (urgent, sender) = pair();
    rustix::net::send(&sender, b"!", rustix::net::SendFlags::OOB).unwrap();
    let (reset, peer) = pair();
    rustix::net::send(&reset, b"unread", rustix::net::SendFlags::empty()).unwrap();
    drop(peer);
    let pidfd = PidFd::open(HostPid::of_self()).unwrap();
    let table = files.any_table(&pidfd).unwrap();
    let numbers = [number(&sender), number(&urgent), number(&reset)];
    let found = files.files(&table, &numbers).unwrap();
    let socks: Vec<_> = found.iter().map(|file| file.socket.unwrap().sock).collect();
    let told = files.sockets(&socks, &Model::new(model), || Some(pair().0)).unwrap();
    let found: Vec<_> = told.iter().map(|told| (told.is_in_band, told.is_sound)).collect();
    assert_eq!(found, [(true, true), (false, true), (true, false)]);
    assert_ne!(told[0].peer, [0, 0]);
    assert_eq!(told[0].peer, told[1].peer, "this process is on both sides");
    let peer = SocketOption::of_socket(libc::SO_PEERCRED);
    peer.get_into(&sender, &mut [0; 12]).unwrap();
}

#[test]
fn a_table_that_others_use_is_not_believed() {
    let mut files = KernelFiles::open().unwrap();
    let pidfd = PidFd::open(HostPid::of_self()).unwrap();
    // All threads of this process do.
    let users = std::fs::read_dir("/proc/self/task").unwrap().count();
    let (_own, _other) = (open_null(), open_null());
    let table = files.table(&pidfd, users).unwrap().expect("nobody else uses it");
    let listed = ProcDir::of_self().unwrap().fd_numbers().unwrap();
    let theirs: Vec<_> = table.numbers().collect();
    assert!(theirs.iter().all(|fd| listed.contains(fd)), "{theirs:?}, listed {listed:?}");
    assert!(files.table(&pidfd, users - 1).unwrap().is_none(), "one user is not of the tree");
}

#[test]
fn no_more_is_read_than_the_structures_are_long() {
    let size =
        |name| TypeInformation::open().unwrap().parse().unwrap().structure(name).unwrap().size();
    let Layout { file, inode, .. } = KernelFiles::open().unwrap().layout;
    assert!(file.span <= size("file"), "{} of {}", file.span, size("file"));
    assert!(inode.span <= size("inode"), "{} of {}", inode.span, size("inode"));
}

#[test]
fn an_option_that_does_not_show_in_its_place_is_asked_for() {
    // Another's place.
    const WRONG: &[Row] = &[(libc::SOL_SOCKET, &[libc::SO_PRIORITY], &[("sock", "sk_mark", 4)])];
    let (mut memory, (layout, places)) =
        KernelMemory::open(|btf| Ok((Layout::new(btf)?, Places::new(btf, "sock", WRONG, None)?)))
            .unwrap();
    let make = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let model = Model::new(make().unwrap().0);
    let mut read = |files: &[BorrowedFd<'_>]| {
        let socks = socks(&mut memory, &layout, files)?;
        places.read(&mut memory, &socks, false)
    };
    model.try_options(&places, || make().ok().map(|(new, _)| new), &mut read).unwrap();
    let (socket, _other) = make().unwrap();
    let priority = SocketOption::of_socket(libc::SO_PRIORITY);
    priority.set_bytes(&socket, &5_i32.to_ne_bytes()).unwrap();
    let bytes = read(&[model.socket.as_fd(), socket.as_fd()]).unwrap();
    let alike = places.compare(&bytes[0], &bytes[1]);
    let known = Known { socket: socket.as_fd(), model: &model, alike: Some((&places, &alike)) };
    assert!(!known.is_as_new(priority));
    assert!(known.is_as_new(SocketOption::of_socket(libc::SO_RCVLOWAT)), "one that does show");
    let mut told = [0; 4];
    (&known).get_into(priority, &mut told).unwrap();
    assert_eq!(i32::from_ne_bytes(told), 5);
}
