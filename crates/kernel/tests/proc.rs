//! `/proc` of real processes.
#![allow(clippy::unwrap_used)]

mod sleeper;

use dormouse_kernel::proc::{
    BlockedIn, Entry, Error, Extra, FdInfo, LockKind, NamespaceKind, ProcDir, TimeOffsets, VmaName,
};
use dormouse_kernel::rlimit::Resource;
use dormouse_kernel::{Errno, FdNum, HostPid};
use rustix::event::epoll;
use rustix::fs::OFlags;
use sleeper::Sleeper;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

fn number(fd: &impl AsRawFd) -> FdNum {
    FdNum::from_raw(u32::try_from(fd.as_raw_fd()).unwrap())
}

#[test]
fn stat_and_status_agree() {
    let sleeper = Sleeper::start();
    let dir = sleeper.dir();
    let (stat, status) = (dir.stat().unwrap(), dir.status().unwrap());
    assert_eq!((stat.pid, stat.comm.as_os_str()), (status.pid, status.name.as_os_str()));
    assert_eq!(stat.ppid, status.ppid);
    assert_eq!(stat.ppid.unwrap().as_raw().cast_unsigned(), std::process::id());
    assert_eq!(stat.threads, status.threads);
    assert_eq!(dir.tasks().unwrap(), [sleeper.pid()]);
    assert_eq!(dir.task(sleeper.pid()).unwrap().stat().unwrap().comm, "sleep");
}

#[test]
fn the_first_thread_comes_first() {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    let me = ProcDir::of_self().unwrap();
    let tids = me.tasks().unwrap();
    assert!(tids.len() >= 2);
    assert_eq!(tids[0], me.pid());
    for &tid in &tids[1..] {
        // Another test's thread may be gone by now.
        if let Ok(status) = me.task(tid).and_then(|task| task.status()) {
            assert_eq!((status.tgid, status.pid), (me.pid(), tid));
        }
    }
    drop(stop);
    let _ = thread.join();
}

#[test]
fn a_child_is_listed_with_the_thread_that_made_it() {
    let sleeper = Sleeper::start();
    let me = ProcDir::of_self().unwrap();
    let tid = HostPid::from_raw(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
    assert!(me.children(tid).unwrap().contains(&sleeper.pid()));
    assert!(sleeper.dir().children(sleeper.pid()).unwrap().is_empty());
}

#[test]
fn a_reaped_task_is_gone_and_a_zombie_is_not() {
    let mut sleeper = Sleeper::start();
    let dir = sleeper.dir();
    sleeper.0.kill().unwrap();
    // Dead, and not waited for.
    while !dir.stat().unwrap().state.is_dead() {
        std::thread::yield_now();
    }
    assert!(!dir.is_gone());
    assert_eq!(dir.status().unwrap().memory, None);
    assert!(matches!(dir.exe(), Err(Error::Io { source: Errno::NOENT, .. })));
    assert!(dir.fd_numbers().unwrap().is_empty());
    assert!(dir.maps().unwrap().is_empty());

    sleeper.0.wait().unwrap();
    assert!(dir.is_gone());
    let gone = |error: Error| matches!(error, Error::Gone { pid } if pid == sleeper.pid());
    assert!(gone(dir.stat().unwrap_err()));
    assert!(gone(dir.status().unwrap_err()));
    assert!(gone(dir.smaps().unwrap_err()));
    assert!(gone(dir.exe().unwrap_err()));
    assert!(gone(dir.tasks().unwrap_err()));
    assert!(gone(dir.fd_numbers().unwrap_err()));
    assert!(gone(dir.fdinfo(FdNum::from_raw(0)).unwrap_err()));
    assert!(gone(dir.task(sleeper.pid()).unwrap_err()));
    assert!(gone(ProcDir::open(sleeper.pid()).unwrap_err()));
}

#[test]
fn maps_and_smaps_agree() {
    let sleeper = Sleeper::start();
    let dir = sleeper.dir();
    let (maps, smaps) = (dir.maps().unwrap(), dir.smaps().unwrap());
    assert_eq!(maps, smaps.iter().map(|map| map.vma.clone()).collect::<Vec<_>>());
    assert!(smaps.is_sorted_by_key(|map| map.vma.range));
    let stack = smaps.iter().find(|map| map.vma.name == VmaName::Stack).unwrap();
    assert!(stack.vma.range.contains(dir.stat().unwrap().layout.start_stack));
    assert!(smaps.iter().any(|map| map.vma.name == VmaName::Vdso));
    // The file behind a mapping can be opened from it.
    let exe = dir.exe().unwrap();
    let code =
        maps.iter().find(|vma| matches!(&vma.name, VmaName::Path(path) if **path == *exe)).unwrap();
    let file = dir.open_entry(Entry::MapFile(code.range), OFlags::PATH).unwrap();
    assert_eq!(rustix::fs::fstat(&file).unwrap().st_ino, code.inode);
}

#[test]
fn links_lead_where_they_should() {
    let sleeper = Sleeper::start();
    let dir = sleeper.dir();
    assert_eq!(dir.cwd().unwrap(), std::env::current_dir().unwrap());
    assert_eq!(dir.root().unwrap(), Path::new("/"));
    assert!(dir.exe().unwrap().is_absolute());
    let stdin = FdNum::from_raw(0);
    assert_eq!(dir.fd_link(stdin).unwrap(), "/dev/null");
    let again = dir.open_fd(stdin, OFlags::PATH).unwrap();
    assert_eq!(
        rustix::fs::fstat(&again).unwrap().st_rdev,
        rustix::fs::stat("/dev/null").unwrap().st_rdev
    );
    assert!(dir.fd_numbers().unwrap().starts_with(&[stdin]));
    let error = dir.fd_link(FdNum::from_raw(999)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::NOENT));
    assert_eq!(error.to_string(), format!("cannot follow fd/999 of task {}", sleeper.pid()));
}

#[test]
fn limits_are_those_of_the_shell() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 123; ulimit -Hc 456; exec cat /proc/self/limits"])
        .output()
        .unwrap();
    let limits = dormouse_kernel::proc::Limits::parse(&output.stdout).unwrap();
    assert_eq!(limits.get(Resource::Files).soft, 123);
    assert_eq!(limits.get(Resource::Core).hard, 456 * 512);
    Sleeper::start().dir().limits().unwrap();
}

#[test]
fn fdinfo_of_what_this_process_opens() {
    let me = ProcDir::of_self().unwrap();
    let extra = |fd: &OwnedFd| me.fdinfo(number(fd)).unwrap().extra;

    let event = rustix::event::eventfd(300, rustix::event::EventfdFlags::SEMAPHORE).unwrap();
    assert!(matches!(
        extra(&event),
        Extra::Eventfd { count: 300, id: Some(_), semaphore: Some(true) }
    ));

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    assert_eq!(extra(&epoll), Extra::None);
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&epoll, &event, epoll::EventData::new_u64(u64::MAX), flags).unwrap();
    let info = me.fdinfo(number(&epoll)).unwrap();
    assert!(info.close_on_exec());
    let [item] = info.extra.epoll_items() else { panic!("one item") };
    assert_eq!((item.fd, item.data), (number(&event), u64::MAX));
    assert_eq!(item.inode, rustix::fs::fstat(&event).unwrap().st_ino);
    assert_eq!(item.device.as_stat(), rustix::fs::fstat(&event).unwrap().st_dev);

    let pidfd = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    assert!(matches!(
        extra(&pidfd),
        Extra::Pidfd(dormouse_kernel::proc::PidfdTarget::Task { pid, .. }) if pid == me.pid()
    ));

    let inotify = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::empty()).unwrap();
    rustix::fs::inotify::add_watch(&inotify, "/", rustix::fs::inotify::WatchFlags::DELETE).unwrap();
    let Extra::Inotify(watches) = extra(&inotify) else { panic!("an inotify") };
    let root = rustix::fs::stat("/").unwrap();
    assert_eq!((watches[0].inode, watches[0].device.as_stat()), (root.st_ino, root.st_dev));
}

#[test]
fn locks_are_shown_with_the_file() {
    let path = tempfile();
    rustix::fs::flock(&path, rustix::fs::FlockOperation::LockShared).unwrap();
    let me = ProcDir::of_self().unwrap();
    let info = me.fdinfo(number(&path)).unwrap();
    assert_eq!(info.locks.len(), 1);
    assert_eq!(info.locks[0].kind, LockKind::Flock);
    assert_eq!(info.locks[0].inode, rustix::fs::fstat(&path).unwrap().st_ino);
}

fn tempfile() -> File {
    let fd = rustix::fs::open("/tmp", OFlags::TMPFILE | OFlags::RDWR, 0o600.into()).unwrap();
    File::from(fd)
}

#[test]
fn a_long_fdinfo_is_read_to_its_end_but_that_of_an_epoll() {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let events: Vec<_> = (0..500)
        .map(|n| {
            let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
            epoll::add(&epoll, &event, epoll::EventData::new_u64(n), epoll::EventFlags::IN)
                .unwrap();
            event
        })
        .collect();
    let (proc, fd) = (ProcDir::of_self().unwrap(), number(&epoll));
    let all = FdInfo::parse(&proc.read(Entry::FdInfo(fd)).unwrap()).unwrap();
    let mut targets: Vec<_> = all.extra.epoll_targets().collect();
    let some: Vec<_> = proc.fdinfo(fd).unwrap().extra.epoll_targets().collect();
    assert!(!some.is_empty() && some.len() < targets.len());
    assert_eq!(some, targets[..some.len()]);
    targets.sort();
    let mut expected: Vec<_> = events.iter().map(number).collect();
    expected.sort();
    assert_eq!(targets, expected);
}

#[test]
fn facts_about_a_sleeper() {
    let sleeper = Sleeper::start();
    let dir = sleeper.dir();
    assert_eq!(dir.comm().unwrap(), "sleep");
    assert_eq!(dir.cmdline().unwrap(), ["sleep", "1000"]);
    let mut path = OsString::from("PATH=");
    path.push(std::env::var_os("PATH").unwrap());
    assert!(dir.environ().unwrap().contains(&path));
    let auxv = dir.auxv().unwrap();
    let page_size = auxv.iter().find(|entry| entry.kind == 6).unwrap();
    assert_eq!(page_size.value, 4096);
    assert!(auxv.iter().all(|entry| entry.kind != 0));
    assert!((-1000..=1000).contains(&dir.oom_score_adj().unwrap()));
    assert_eq!(dir.personality().unwrap(), 0);
    dir.login_uid().unwrap();
    dir.timer_slack().unwrap();
    dir.coredump_filter().unwrap();
    dir.security_label().unwrap();
    // With a relative time.
    assert!(matches!(dir.syscall().unwrap(), BlockedIn::Syscall { args: [_, 0, ..], .. }));
    assert!(dir.wchan().unwrap().is_some());
    assert_eq!(dir.last_ran().unwrap(), dir.last_ran().unwrap());
    assert!(dir.timers().unwrap().is_empty());
    assert!(dir.cgroups().unwrap().iter().all(|group| group.path.is_absolute()));
    let mounts = dir.mounts().unwrap();
    assert!(mounts.iter().any(|mount| mount.mount_point == Path::new("/proc")));
    assert!(dir.setgroups_allowed().unwrap());
    assert!(!dir.uid_map().unwrap().is_empty() && !dir.gid_map().unwrap().is_empty());
    assert_eq!(dir.time_offsets().unwrap(), TimeOffsets::default());
}

#[test]
fn a_child_is_in_its_parents_namespaces() {
    let mut sleeper = Sleeper::start();
    let (me, child) = (ProcDir::of_self().unwrap(), sleeper.dir());
    for kind in NamespaceKind::ALL {
        let id = child.namespace(kind).unwrap().unwrap();
        assert_eq!(me.namespace(kind).unwrap(), Some(id), "{kind:?}");
        assert_eq!(child.stat_link(kind.entry()).unwrap().st_ino, id.as_raw());
    }
    sleeper.0.kill().unwrap();
    while !child.stat().unwrap().state.is_dead() {
        std::thread::yield_now();
    }
    // A zombie has none, which does not mean the kernel has none.
    assert!(child.namespace(NamespaceKind::Net).is_err());
}

#[test]
fn files_behind_mappings_are_listed() {
    let sleeper = Sleeper::start();
    let dir = sleeper.dir();
    let files: Vec<_> = dir
        .maps()
        .unwrap()
        .iter()
        .filter(|vma| matches!(vma.name, VmaName::Path(_)))
        .map(|vma| vma.range)
        .collect();
    assert_eq!(dir.mapped_files().unwrap(), files);
    for range in files {
        assert!(dir.stat_link(Entry::MapFile(range)).unwrap().st_ino > 0);
    }
}
