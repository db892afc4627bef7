use super::{
    EpollItem, Extra, FanotifyMark, FanotifyObject, FdInfo, FileHandle, InotifyWatch, LeaseState,
    LockKind, LockMode, PidfdTarget, TimerFd,
};
use crate::signal::{SigSet, Signal};
use crate::{DeviceId, FdNum, HostPid, NsPid};
use rustix::fs::OFlags;

const DISK: DeviceId = DeviceId { major: 0xfe, minor: 0 };

/// Parses what a Linux 6.18 printed, behind the lines every file has.
fn parse(tail: &str) -> FdInfo {
    let text = format!("pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n{tail}");
    FdInfo::parse(text.as_bytes()).unwrap()
}

#[test]
fn every_file() {
    let info = FdInfo::parse(b"pos:\t4096\nflags:\t02100001\nmnt_id:\t27\nino:\t9\n").unwrap();
    assert_eq!(info.pos, 4096);
    assert_eq!(info.flags & OFlags::RWMODE, OFlags::WRONLY);
    assert!(info.close_on_exec());
    assert_eq!((info.mount_id, info.inode), (27, Some(9)));
    assert!(info.locks.is_empty());
    assert_eq!(info.extra, Extra::None);

    let old = FdInfo::parse(b"pos:\t0\nflags:\t012000000\nmnt_id:\t-1\n").unwrap();
    assert_eq!((old.mount_id, old.inode), (-1, None));
    assert!(old.flags.contains(OFlags::PATH));
    assert!(FdInfo::parse(b"pos:\t0\n").is_err());
}

#[test]
fn eventfd() {
    let info = parse("eventfd-count:               1f\neventfd-id: 1\neventfd-semaphore: 1\n");
    assert_eq!(info.extra, Extra::Eventfd { count: 0x1f, id: Some(1), semaphore: Some(true) });
    let old = parse("eventfd-count: fffffffffffffffe\n");
    assert_eq!(old.extra, Extra::Eventfd { count: u64::MAX - 1, id: None, semaphore: None });
}

#[test]
fn epoll() {
    let info = parse(
        "tfd:        5 events:       19 data:     7f6c00000005  pos:0 ino:5882c sdev:f\n\
         tfd:        3 events: 80000019 data:                3  pos:-1 ino:40e sdev:fe00010\n",
    );
    let expected = [
        EpollItem {
            fd: FdNum::from_raw(5),
            events: 0x19,
            data: 0x7f6c_0000_0005,
            pos: 0,
            inode: 0x5882c,
            device: DeviceId { major: 0, minor: 15 },
        },
        EpollItem {
            fd: FdNum::from_raw(3),
            events: 0x8000_0019,
            data: 3,
            pos: -1,
            inode: 0x40e,
            device: DeviceId { major: 0xfe, minor: 0x10 },
        },
    ];
    assert_eq!(info.extra.epoll_items(), expected);
    assert_eq!(info.extra.epoll_targets().map(FdNum::as_raw).collect::<Vec<_>>(), [5, 3]);
}

#[test]
fn signalfd() {
    let set = SigSet::EMPTY.with(Signal::USR1);
    assert_eq!(parse("sigmask:\t0000000000000200\n").extra, Extra::Signalfd(set));
}

#[test]
fn timerfd() {
    let info = parse(
        "clockid: 1\nticks: 7\nsettime flags: 03\nit_value: (99, 980410734)\n\
         it_interval: (1, 500)\n",
    );
    assert_eq!(
        info.extra,
        Extra::Timerfd(TimerFd {
            clock: 1,
            ticks: 7,
            settime_flags: 3,
            value: (99, 980_410_734),
            interval: (1, 500),
        })
    );
}

#[test]
fn inotify() {
    let info = parse(
        "inotify wd:1a ino:3c4a7 sdev:fe00000 mask:100 ignored_mask:0 fhandle-bytes:8 \
         fhandle-type:1 f_handle:a7c4030000000000\n\
         inotify wd:1 ino:13 sdev:f mask:2 ignored_mask:0 \n",
    );
    let with_handle = InotifyWatch {
        watch: 26,
        inode: 0x3c4a7,
        device: DISK,
        mask: 0x100,
        handle: Some(FileHandle { kind: 1, bytes: Box::new([0xa7, 0xc4, 3, 0, 0, 0, 0, 0]) }),
    };
    let without = InotifyWatch {
        watch: 1,
        inode: 0x13,
        device: DeviceId { major: 0, minor: 15 },
        mask: 2,
        handle: None,
    };
    assert_eq!(info.extra, Extra::Inotify(vec![with_handle, without]));
}

#[test]
fn a_handle_shorter_than_it_says_is_an_error() {
    let text = b"pos:\t0\nflags:\t0\nmnt_id:\t1\nino:\t1\ninotify wd:1 ino:3 sdev:1 mask:1 \
                 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:a7c403\n";
    assert!(FdInfo::parse(text).is_err());
}

#[test]
fn fanotify() {
    let info = parse(
        "fanotify flags:0 event-flags:8000\n\
         fanotify mnt_id:1b mflags:0 mask:20 ignored_mask:0\n\
         fanotify ino:13 sdev:fe00000 mflags:40 mask:20 ignored_mask:3 fhandle-bytes:8 \
         fhandle-type:1 f_handle:1300000000000000\n\
         fanotify sdev:fe00000 mflags:0 mask:2 ignored_mask:0\n\
         fanotify mnt_ns:4026531832 mflags:0 mask:1000000 ignored_mask:0\n",
    );
    let mark =
        |object, flags, mask, ignored_mask| FanotifyMark { object, flags, mask, ignored_mask };
    let handle = FileHandle { kind: 1, bytes: Box::new([0x13, 0, 0, 0, 0, 0, 0, 0]) };
    let inode = FanotifyObject::Inode { inode: 0x13, device: DISK, handle: Some(handle) };
    assert_eq!(
        info.extra,
        Extra::Fanotify {
            flags: 0,
            event_flags: 0x8000,
            marks: vec![
                mark(FanotifyObject::Mount(27), 0, 0x20, 0),
                mark(inode, 0x40, 0x20, 3),
                mark(FanotifyObject::FileSystem(DISK), 0, 2, 0),
                mark(FanotifyObject::MountNamespace(4_026_531_832), 0, 0x100_0000, 0),
            ],
        }
    );
}

#[test]
fn pidfd() {
    let task = PidfdTarget::Task {
        pid: HostPid::from_raw(16110).unwrap(),
        ns_pids: vec![NsPid::from_raw(16110).unwrap(), NsPid::from_raw(2).unwrap()],
    };
    assert_eq!(parse("Pid:\t16110\nNSpid:\t16110\t2\n").extra, Extra::Pidfd(task));
    assert_eq!(parse("Pid:\t-1\nNSpid:\t-1\n").extra, Extra::Pidfd(PidfdTarget::Reaped));
    assert_eq!(parse("Pid:\t0\nNSpid:\t0\n").extra, Extra::Pidfd(PidfdTarget::Invisible));
}

#[test]
fn sockets_and_devices() {
    assert_eq!(parse("scm_fds: 2\n").extra, Extra::UnixSocket { queued_fds: 2 });
    assert_eq!(parse("tty-index:\t0\n").extra, Extra::Tty { index: 0 });
    assert_eq!(parse("iff:\t\n").extra, Extra::Tun { interface: None });
    assert_eq!(
        parse("iff:\ttap0\n").extra,
        Extra::Tun { interface: Some(b"tap0".as_slice().into()) }
    );
    let Extra::Userfaultfd(fault) =
        parse("pending:\t1\ntotal:\t3\nAPI:\taa:2:80000000000001ff\n").extra
    else {
        panic!("not a userfaultfd");
    };
    assert_eq!((fault.pending, fault.total, fault.api), (1, 3, 0xaa));
    assert_eq!((fault.enabled_features, fault.features), (2, 0x8000_0000_0000_01ff));
}

#[test]
fn what_is_not_known_is_kept() {
    let lines = "map_type:\t2\nkey_size:\t4\n";
    assert_eq!(parse(lines).extra, Extra::Unknown(lines.as_bytes().into()));
}

#[test]
fn locks() {
    let info = parse(
        "lock:\t1: FLOCK  ADVISORY  WRITE 16110 fe:00:10011611 0 EOF\n\
         lock:\t2: POSIX  ADVISORY  READ 16110 fe:00:10011612 5 14\n\
         lock:\t3: OFDLCK ADVISORY  WRITE -1 fe:00:10011613 3 EOF\n\
         lock:\t4: LEASE  BREAKING  UNLCK 16110 fe:00:10011614 0 EOF\n\
         eventfd-count: 0\n",
    );
    let kinds: Vec<_> = info.locks.iter().map(|lock| lock.kind).collect();
    assert_eq!(
        kinds,
        [
            LockKind::Flock,
            LockKind::Posix,
            LockKind::OpenFile,
            LockKind::Lease(LeaseState::Breaking)
        ]
    );
    let posix = info.locks[1];
    assert_eq!((posix.mode, posix.start, posix.last), (LockMode::Read, 5, Some(14)));
    assert_eq!((posix.device, posix.inode), (DISK, 10_011_612));
    assert_eq!(posix.pid, HostPid::from_raw(16110));
    assert_eq!((info.locks[2].pid, info.locks[2].last), (None, None));
    assert_eq!(info.locks[3].mode, LockMode::Unlock);
    assert!(matches!(info.extra, Extra::Eventfd { count: 0, .. }));
}
