//! Reading epolls, of this process and of others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use epoll_interest::{
    BusyPoll, EndedInsertion, Events, FdNumber, InsertError, Insertion, InspectError, Inspector,
    Listed, fdinfo, insert, insert_by_ended,
};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::{dup, read, write};
use rustix::process::{PidfdFlags, getpid, getppid, pidfd_open};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fn new_epoll() -> OwnedFd {
    epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()
}

fn event(count: u32) -> OwnedFd {
    eventfd(count, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn wait(epoll: &OwnedFd, most: usize) -> usize {
    let mut events: Vec<epoll::Event> = Vec::with_capacity(most);
    epoll::wait(epoll, spare_capacity(&mut events), Some(&NOW)).unwrap()
}

#[test]
fn edges_that_look_alike_are_told_apart() {
    let mut inspector = Inspector::new().unwrap();
    let (epoll, consumed, pending) = (new_epoll(), event(1), event(1));
    let edge = EventFlags::IN | EventFlags::ET;
    epoll::add(&epoll, &consumed, EventData::new_u64(7), edge).unwrap();
    assert_eq!(wait(&epoll, 4), 1);
    epoll::add(&epoll, &pending, EventData::new_u64(7), edge).unwrap();

    let keys = inspector.file_keys(&[consumed.as_fd(), pending.as_fd()]).unwrap();
    for _ in 0..2 {
        let found = inspector.get_events(epoll.as_fd()).unwrap().interest;
        let files: Vec<_> = found.pending.iter().map(|&item| found.items[item].file).collect();
        assert_eq!(files, [keys[1]]);
        let mask = Events::IN | Events::ET | Events::ERR | Events::HUP;
        assert!(found.items.iter().all(|item| item.events == mask && item.data == 7));
    }
    assert_eq!(wait(&epoll, 4), 1, "reading took nothing out");
}

/// A signalfd for `SIGUSR1`.
#[allow(unsafe_code, reason = "there is no safe way to make one")]
fn signals() -> OwnedFd {
    let mask = 1_u64 << (libc::SIGUSR1 - 1);
    // SAFETY: the mask is there for as long as the call, and has eight bytes.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8_usize, 0) };
    let fd = i32::try_from(fd).unwrap();
    assert!(fd >= 0);
    // SAFETY: the kernel has just given it, to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn an_item_on_a_signalfd_waits_for_the_signals_of_who_added_it() {
    let mut inspector = Inspector::new().unwrap();
    let (epoll, signals, event) = (new_epoll(), signals(), event(0));
    for file in [&signals, &event] {
        epoll::add(&epoll, file, EventData::new_u64(0), EventFlags::IN).unwrap();
    }
    let found = inspector.get_events(epoll.as_fd()).unwrap();
    let key = inspector.file_keys(&[signals.as_fd()]).unwrap()[0];
    let item = found.interest.items.iter().position(|item| item.file == key).unwrap();
    let awaited = inspector.signals_awaited(epoll.as_fd(), &found, &[item]).unwrap();
    let processes = [getpid(), getppid().unwrap()];
    let [own, parents] = processes.map(|process| {
        let pidfd = pidfd_open(process, PidfdFlags::empty()).unwrap();
        inspector.signals_of(pidfd.as_fd()).unwrap()
    });
    assert_eq!(awaited, [Some(own)]);
    assert_ne!(own, parents);
}

#[test]
fn an_item_of_an_ended_process_waits_for_nobodys_signals() {
    let mut inspector = Inspector::new().unwrap();
    let (epoll, signals) = (new_epoll(), signals());
    let fd = |raw| FdNumber::from_raw(raw);
    let item = |fd, events| Insertion { file: signals.as_fd(), fd, events, data: 0 };
    let taken = signals.as_raw_fd().unsigned_abs();
    let fired = Events::CONDITIONS | Events::ONESHOT;
    let items = [(fd(900), fired), (fd(taken), Events::IN), (fd(901), Events::IN | Events::ET)];
    let ended = items.map(|(fd, events)| EndedInsertion {
        epoll: epoll.as_fd(),
        item: item(fd, events),
        fired_by: events.contains(Events::ONESHOT).then_some(libc::SIGUSR1),
    });
    insert_by_ended(&ended).unwrap();
    let found = inspector.get_events(epoll.as_fd()).unwrap();
    let awaited = inspector.signals_awaited(epoll.as_fd(), &found, &[0, 1, 2]).unwrap();
    assert_eq!(awaited, [None, None, None]);
    let interest = found.interest;
    let state: BTreeMap<_, _> = interest
        .items
        .iter()
        .zip(interest.pending_flags())
        .map(|(item, pending)| (item.fd, (item.fired(), pending)))
        .collect();
    let expected = [(fd(taken), (false, true)), (fd(900), (true, false)), (fd(901), (false, true))];
    assert_eq!(state, BTreeMap::from(expected));
    let again = insert_by_ended(&ended[..1]).unwrap_err();
    assert!(matches!(again, InsertError::Control { epoll: 0, .. }), "{again}");
}

#[test]
fn a_key_is_one_file_under_whatever_number() {
    let mut inspector = Inspector::new().unwrap();
    let (a, b) = (event(0), event(0));
    let again = dup(&a).unwrap();
    let keys = inspector.file_keys(&[a.as_fd(), b.as_fd(), again.as_fd()]).unwrap();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[0], keys[2]);
    assert_eq!(inspector.file_keys(&[]).unwrap(), []);
}

#[test]
fn one_number_can_stand_for_several_files() {
    let mut inspector = Inspector::new().unwrap();
    let (epoll, files) = (new_epoll(), [event(0), event(0), event(0)]);
    let items = [0, 1, 2].map(|file: usize| Insertion {
        file: files[file].as_fd(),
        fd: FdNumber::from_raw(900),
        events: Events::IN,
        data: file as u64,
    });
    insert(epoll.as_fd(), &items).unwrap();
    let keys = inspector.file_keys(&[0, 1, 2].map(|file: usize| files[file].as_fd())).unwrap();
    let found = inspector.get_events(epoll.as_fd()).unwrap();
    assert_eq!(found.interest.items.len(), 3);
    for item in &found.interest.items {
        assert_eq!(item.file, keys[item.data as usize]);
        assert_eq!(item.fd, FdNumber::from_raw(900));
    }
    assert_eq!(found.files.keys().copied().collect::<BTreeSet<_>>(), keys.into_iter().collect());
}

/// A FIFO that has no name any more, opened so many times for reading and once for both.
fn fifo(readers: usize) -> (Vec<OwnedFd>, OwnedFd) {
    use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open, unlink};
    let path = std::env::temp_dir().join(format!("fifo-{}", std::process::id()));
    mkfifoat(CWD, &path, Mode::RWXU).unwrap();
    let open = |flags| open(&path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let both = open(OFlags::RDWR).unwrap();
    let readers = (0..readers).map(|_| open(OFlags::RDONLY).unwrap()).collect();
    unlink(&path).unwrap();
    (readers, both)
}

#[test]
fn files_that_share_a_wait_queue_have_one_order() {
    let mut inspector = Inspector::new().unwrap();
    let (readers, both) = fifo(2);
    let (other, epolls) = (event(0), [new_epoll(), new_epoll()]);
    let again = readers[0].try_clone().unwrap();
    let exclusive = EventFlags::IN | EventFlags::EXCLUSIVE;
    let adds = [
        (0, &readers[0], EventFlags::IN),
        (1, &other, EventFlags::IN),
        (1, &readers[1], exclusive),
        (1, &both, EventFlags::IN),
        (0, &again, EventFlags::IN),
        (0, &readers[1], EventFlags::IN),
        (0, &both, exclusive),
        (0, &other, EventFlags::IN),
    ];
    for (at, (epoll, file, events)) in (0..).zip(adds) {
        epoll::add(&epolls[epoll], file, EventData::new_u64(at), events).unwrap();
    }
    let found: Vec<_> =
        epolls.iter().map(|epoll| inspector.get_events(epoll.as_fd()).unwrap()).collect();
    let shared = inspector.shared_queues(&found.iter().collect::<Vec<_>>()).unwrap();
    assert!(!shared.is_empty());
    let files: Vec<_> = readers.iter().chain([&both, &other]).map(AsFd::as_fd).collect();
    let keys = inspector.file_keys(&files).unwrap();
    let name = |key| keys.iter().position(|&it| it == key).ok_or(());
    let mut found: Vec<_> = found
        .into_iter()
        .map(|found| found.interest.try_map(|item| name(item.file)).unwrap())
        .collect();
    shared.order(&mut found.iter_mut().map(Some).collect::<Vec<_>>());
    let mut items: Vec<_> = found.iter().flat_map(|interest| &interest.items).collect();
    let of_fifo = |exclusive| {
        let mut items = items.clone();
        items.retain(|it| it.queue.is_some() && it.events.contains(Events::EXCLUSIVE) == exclusive);
        items.sort_by_key(|item| item.seniority);
        items.into_iter().map(|item| item.data).collect::<Vec<_>>()
    };
    assert_eq!(of_fifo(false), [0, 3, 4, 5]);
    assert_eq!(of_fifo(true), [2, 6]);
    items.retain(|item| item.queue.is_none());
    items.sort_by_key(|item| item.seniority);
    assert_eq!(items.into_iter().map(|item| item.data).collect::<Vec<_>>(), [1, 7]);
}

#[test]
fn seniority_counts_across_epolls() {
    let mut inspector = Inspector::new().unwrap();
    let (epolls, file) = ([new_epoll(), new_epoll(), new_epoll()], event(0));
    for at in [1, 2, 0] {
        epoll::add(&epolls[at], &file, EventData::new_u64(0), EventFlags::IN).unwrap();
    }
    let seniority = epolls
        .each_ref()
        .map(|epoll| inspector.get_events(epoll.as_fd()).unwrap().interest.items[0].seniority);
    assert_eq!(seniority, [2, 0, 1]);
}

#[test]
fn what_is_no_epoll_is_an_error() {
    let mut inspector = Inspector::new().unwrap();
    let file = event(0);
    let error = inspector.get_events(file.as_fd()).unwrap_err();
    assert!(matches!(error, InspectError::NotEpoll(_)), "{error}");
}

#[test]
fn thousands_of_items_are_read_in_the_order_of_fdinfo() {
    let mut inspector = Inspector::new().unwrap();
    let (epoll, file) = (new_epoll(), event(1));
    let items: Vec<_> = (0..7000_u32)
        .map(|at| Insertion {
            file: file.as_fd(),
            fd: FdNumber::from_raw(2000 + at * 37 % 7000),
            events: if at % 2 == 0 { Events::IN } else { Events::PRI },
            data: at.into(),
        })
        .collect();
    insert(epoll.as_fd(), &items).unwrap();
    let found = inspector.get_events(epoll.as_fd()).unwrap();
    let listed = listed(&epoll);
    assert!(found.files.values().eq([&Listed::from(&listed[0])]));
    let found = found.interest;
    let mut items: Vec<_> = found.items.iter().collect();
    items.sort_by_key(|item| (item.file, item.fd));
    let items = items.into_iter().map(|item| (item.fd, item.events, item.data));
    assert!(items.eq(listed.iter().map(|entry| (entry.fd, entry.events, entry.data))));
    let seniority: HashMap<u64, u32> =
        found.items.iter().map(|item| (item.data, item.seniority)).collect();
    assert!((0..7000).all(|at| seniority[&u64::from(at)] == at));
    let pending: Vec<_> = found.pending.iter().map(|&item| found.items[item].data).collect();
    assert!(pending.into_iter().eq((0..7000).step_by(2)));
}

/// As fdinfo has them.
fn listed(epoll: &OwnedFd) -> Vec<fdinfo::Entry> {
    let text = std::fs::read(format!("/proc/thread-self/fdinfo/{}", epoll.as_raw_fd())).unwrap();
    fdinfo::parse(&text).unwrap()
}

/// Items come and go one by one, the last that came first.
#[test]
fn a_changing_epoll_is_read_as_it_was_at_some_moment() {
    let mut inspector = Inspector::new().unwrap();
    let (epoll, files) = (new_epoll(), (0..64).map(|_| event(0)).collect::<Vec<_>>());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pause = || std::thread::sleep(std::time::Duration::from_micros(100));
            while !done.load(Ordering::Relaxed) {
                for (data, file) in (0..).zip(&files) {
                    epoll::add(&epoll, file, EventData::new_u64(data), EventFlags::IN).unwrap();
                    if data % 8 == 0 {
                        pause();
                    }
                }
                pause();
                files.iter().rev().for_each(|file| epoll::delete(&epoll, file).unwrap());
            }
        });
        let (mut sizes, mut torn, mut failed) = (BTreeSet::new(), Vec::new(), Vec::new());
        for _ in 0..1000 {
            match inspector.get_events(epoll.as_fd()) {
                Ok(found) => {
                    let mut data: Vec<_> =
                        found.interest.items.iter().map(|item| item.data).collect();
                    data.sort_unstable();
                    sizes.insert(data.len());
                    torn.extend((!data.iter().copied().eq(0..data.len() as u64)).then_some(data));
                }
                Err(InspectError::Restless(_)) => {}
                Err(error) => failed.push(error),
            }
        }
        // Before anything is judged: nobody ends the other thread otherwise.
        done.store(true, Ordering::Relaxed);
        assert!(torn.is_empty() && failed.is_empty(), "{torn:?}, {failed:?}");
        assert!(sizes.len() > 1, "{sizes:?}");
    });
}

/// Readings of an epoll that others keep using are either right or not given.
#[test]
fn a_busy_epoll_is_read_whole_or_not_at_all() {
    let mut inspector = Inspector::new().unwrap();
    let (epoll, files) = (new_epoll(), (0..64).map(|_| event(0)).collect::<Vec<_>>());
    for (data, file) in (0..).zip(&files) {
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, file, EventData::new_u64(data), edge).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for file in &files {
                    write(file, &1_u64.to_ne_bytes()).unwrap();
                }
                wait(&epoll, 64);
                for file in &files {
                    read(file, &mut [0; 8]).unwrap();
                }
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        let mut given = 0;
        for _ in 0..300 {
            match inspector.get_events(epoll.as_fd()) {
                Ok(found) => {
                    given += 1;
                    // They become pending one after the other, in this order.
                    let interest = found.interest;
                    let data = interest.pending.iter().map(|&item| interest.items[item].data);
                    assert!(data.eq(0..interest.pending.len() as u64));
                }
                Err(error) => assert!(matches!(error, InspectError::Restless(_)), "{error}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(given > 0);
    });
}

#[test]
fn busy_poll_parameters_come_back() {
    let (old, new) = (new_epoll(), new_epoll());
    let Some(none) = BusyPoll::get(old.as_fd()).unwrap() else { return };
    assert_eq!(none, BusyPoll::default());
    let some = BusyPoll { usecs: 70, budget: 16, prefer: true };
    some.set(old.as_fd()).unwrap();
    BusyPoll::get(old.as_fd()).unwrap().unwrap().set(new.as_fd()).unwrap();
    assert_eq!(BusyPoll::get(new.as_fd()).unwrap(), Some(some));
    let error = BusyPoll { usecs: u32::MAX, ..some }.set(new.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::INVAL.raw_os_error()));
}
