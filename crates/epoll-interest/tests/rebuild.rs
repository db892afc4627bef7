//! Building epolls with items on files of every kind that needs something
//! special.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use epoll_interest::{
    Events, FdNumber, InsertError, Insertion, Inspector, Interest, Item, LateItem, LeftArmed,
    Rebuild, Wanted, WantedError,
};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::{Errno, ioctl_fionread, read, write};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_gettime,
    timerfd_settime,
};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
const ARMED: Events = Events::from_bits_retain(
    Events::IN.bits() | Events::OUT.bits() | Events::ERR.bits() | Events::HUP.bits(),
);

/// Files by name; the epoll is `"epoll"`.
struct Files(BTreeMap<&'static str, OwnedFd>);

impl Files {
    fn new(files: impl IntoIterator<Item = (&'static str, OwnedFd)>) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        Self(files.into_iter().chain([("epoll", epoll)]).collect())
    }

    fn fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.0.get(name).map(|fd| fd.as_fd())
    }

    fn rebuild(
        &self,
        interest: Interest<&'static str>,
    ) -> Result<Vec<LeftArmed<&'static str>>, InsertError> {
        let rebuild = Rebuild::new(vec![Wanted { epoll: "epoll", interest }]).unwrap();
        rebuild.prepare(|file| self.fd(file))?;
        rebuild.finish(|file| self.fd(file))
    }

    /// (data, mask) of every item, and the data of the pending ones.
    fn state(&self) -> (Vec<(u64, Events)>, Vec<u64>) {
        let found = Inspector::new().unwrap().get_events(self.fd("epoll").unwrap()).unwrap();
        let Interest { items, pending } = found.interest;
        let mut masks: Vec<_> = items.iter().map(|item| (item.data, item.events)).collect();
        masks.sort_unstable();
        (masks, pending.into_iter().map(|item| items[item].data).collect())
    }

    fn wait(&self) -> Vec<(u64, u32)> {
        let mut events = Vec::with_capacity(16);
        let epoll = self.fd("epoll").unwrap();
        epoll::wait(epoll, spare_capacity(&mut events), Some(&NOW)).unwrap();
        let report = |event: &epoll::Event| {
            let epoll::Event { flags, data, .. } = *event;
            (data.u64(), flags.bits())
        };
        events.iter().map(report).collect()
    }
}

fn item(file: &'static str, data: u64, events: Events) -> Item<&'static str> {
    Item { file, fd: FdNumber::from_raw(600), events, data, seniority: 0, queue: None }
}

fn fired(file: &'static str) -> Interest<&'static str> {
    Interest { items: vec![item(file, 1, Events::ONESHOT)], pending: vec![] }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap()
}

fn event(count: u32) -> OwnedFd {
    eventfd(count, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
}

fn timer(value: Timespec) -> OwnedFd {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags).unwrap();
    let spec = Itimerspec { it_interval: NOW, it_value: value };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec).unwrap();
    timer
}

#[test]
fn a_full_pipe_stays_as_full_and_as_wide() {
    let (reader, writer) = pipe();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    write(&writer, &[7; 4096]).unwrap();
    let files = Files::new([("reader", reader), ("writer", writer)]);
    assert_eq!(files.rebuild(fired("writer")).unwrap(), []);
    assert_eq!(files.state(), (vec![(1, Events::ONESHOT)], vec![]));
    let writer = files.fd("writer").unwrap();
    assert_eq!(fcntl_getpipe_size(writer).unwrap(), 4096);
    assert_eq!(write(writer, &[0]), Err(Errno::AGAIN));
    let mut all = [0; 5000];
    assert_eq!(read(files.fd("reader").unwrap(), &mut all).unwrap(), 4096);
    assert!(all[..4096].iter().all(|&byte| byte == 7));
    assert_eq!(files.wait(), [], "the item is disabled");
}

#[test]
fn an_empty_pipe_stays_empty_and_hang_ups_are_not_reported() {
    let (reader, writer) = pipe();
    let mut files = Files::new([("reader", reader), ("writer", writer)]);
    assert_eq!(files.rebuild(fired("reader")).unwrap(), []);
    assert_eq!(read(files.fd("reader").unwrap(), &mut [0]), Err(Errno::AGAIN));
    files.0.remove("writer");
    assert_eq!(files.wait(), []);
    assert_eq!(files.state(), (vec![(1, Events::ONESHOT)], vec![]));
}

#[test]
fn many_files_are_watched_under_their_numbers_and_others() {
    // More than one message brings, with gaps; two want one number, and one has two.
    let files: Vec<OwnedFd> = (0..600).map(|at| event(u32::from(at % 3 == 0))).collect();
    let outer = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let number = |at: u32| if at == 599 { 5 } else { at + at / 100 };
    let key = |at: u32, number| Item {
        file: at,
        fd: FdNumber::from_raw(number),
        events: Events::IN,
        data: (u64::from(at) << 32) + u64::from(number),
        seniority: u32::from(number == 9_000),
        queue: None,
    };
    let items: Vec<_> = (0..600).map(|at| key(at, number(at))).chain([key(7, 9_000)]).collect();
    let pending: Vec<_> = (0..600).filter(|at| at % 3 == 0).rev().collect();
    let interest = Interest { items: items.clone(), pending: pending.clone() };
    let rebuild = Rebuild::new(vec![Wanted { epoll: 600, interest }]).unwrap();
    let fd = |&at: &u32| match at {
        600 => Some(outer.as_fd()),
        at => Some(files[at as usize].as_fd()),
    };
    rebuild.prepare(fd).unwrap();
    assert_eq!(rebuild.finish(fd).unwrap(), []);

    let mut inspector = Inspector::new().unwrap();
    let fds: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
    let keys = inspector.file_keys(&fds).unwrap();
    let of = |key| keys.iter().position(|own| *own == key).unwrap() as u32;
    let found = inspector.get_events(outer.as_fd()).unwrap().interest;
    let found = found.try_map(|item| Ok::<_, ()>(of(item.file))).unwrap();
    let order = |items: &[Item<u32>]| {
        let mut keys: Vec<_> = items.iter().map(|it| (it.file, it.fd, it.data)).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(order(&found.items), order(&items));
    let reported = found.pending.iter().map(|&at| found.items[at].data);
    assert!(reported.eq(pending.iter().map(|&at| items[at].data)));
}

#[test]
fn a_timer_is_made_to_expire_only_if_it_is_not_armed() {
    let files = Files::new([("timer", timer(NOW))]);
    assert_eq!(files.rebuild(fired("timer")).unwrap(), []);
    assert_eq!(files.state(), (vec![(1, Events::ONESHOT)], vec![]));
    let timer_fd = files.fd("timer").unwrap();
    assert_eq!(timerfd_gettime(timer_fd).unwrap().it_value, NOW);
    assert_eq!(read(timer_fd, &mut [0; 8]), Err(Errno::AGAIN));

    let hour = Timespec { tv_sec: 3600, tv_nsec: 0 };
    let files = Files::new([("timer", timer(hour))]);
    let left = files.rebuild(fired("timer")).unwrap();
    let fd = FdNumber::from_raw(600);
    assert_eq!(left, [LeftArmed { epoll: "epoll", file: "timer", fd }]);
    assert!(timerfd_gettime(files.fd("timer").unwrap()).unwrap().it_value.tv_sec > 3000);
    let mask = Events::ONESHOT | Events::ERR | Events::HUP;
    assert_eq!(files.state(), (vec![(1, mask)], vec![]));
}

#[test]
fn what_cannot_be_made_ready_is_said_and_armed_for_the_least() {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let soon =
        Itimerspec { it_interval: zero, it_value: Timespec { tv_sec: 0, tv_nsec: 100_000_000 } };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &soon).unwrap();
    let files = Files::new([("timer", timer)]);
    let left = files.rebuild(fired("timer")).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].file, "timer");
    poll(&mut [PollFd::from_borrowed_fd(files.fd("timer").unwrap(), PollFlags::IN)], None).unwrap();
    assert_eq!(files.wait(), [], "an event is not what it is armed for");
}

#[test]
fn an_inotify_that_was_told_keeps_its_watches_and_reports_nothing() {
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    let files = Files::new([("inotify", inotify::init(flags).unwrap())]);
    let inotify = files.fd("inotify").unwrap();
    let open = inotify::WatchFlags::OPEN;
    assert_eq!(inotify::add_watch(inotify, "/", open).unwrap(), 1);
    assert_eq!(files.rebuild(fired("inotify")).unwrap(), []);
    assert_eq!(ioctl_fionread(inotify).unwrap(), 0, "what made it ready is taken back");
    drop(File::open("/").unwrap());
    assert!(ioctl_fionread(inotify).unwrap() > 0, "its watch is there");
    assert_eq!(files.wait(), [], "it has fired");
}

#[test]
fn pending_items_come_in_their_order_ready_or_not() {
    // `b` is pending though all its item waits for has been read.
    let files = Files::new([("a", event(1)), ("b", event(0)), ("c", event(1))]);
    let edge = Events::IN | Events::ERR | Events::HUP | Events::ET;
    let items = vec![
        item("a", 1, edge),
        item("b", 2, (edge - Events::ET) | Events::ONESHOT),
        item("c", 3, edge),
    ];
    files.rebuild(Interest { items, pending: vec![2, 1, 0] }).unwrap();
    assert_eq!(files.state().1, [3, 2, 1]);
    write(files.fd("b").unwrap(), &1_u64.to_ne_bytes()).unwrap();
    assert_eq!(files.wait(), [(3, 1), (2, 1), (1, 1)]);
}

#[test]
fn items_of_one_file_are_told_in_their_order_whatever_is_pending() {
    let files = Files::new([("a", event(1))]);
    let edge = Events::IN | Events::OUT | Events::ERR | Events::HUP | Events::ET;
    let fd = |item: Item<&'static str>, at: u32| Item {
        fd: FdNumber::from_raw(600 + at),
        seniority: at,
        queue: None,
        ..item
    };
    let items = vec![
        fd(item("a", 0, edge), 0),
        fd(item("a", 1, Events::ONESHOT), 1),
        fd(item("a", 2, edge), 2),
        fd(item("a", 3, ARMED), 3),
    ];
    files.rebuild(Interest { items, pending: vec![3, 0] }).unwrap();
    let (masks, pending) = files.state();
    assert_eq!(masks, [(0, edge), (1, Events::ONESHOT), (2, edge), (3, ARMED)]);
    assert_eq!(pending, [3, 0]);
    let reported = |files: &Files| files.wait().into_iter().map(|(data, _)| data);
    assert!(reported(&files).eq([3, 0]));
    write(files.fd("a").unwrap(), &1_u64.to_ne_bytes()).unwrap();
    assert!(reported(&files).eq([3, 2, 0]), "the level-triggered one was still in the list");
}

#[test]
fn what_the_kernel_refuses_is_an_error_that_names_the_item() {
    let regular = tempfile().into();
    let files = Files::new([("regular", regular)]);
    let interest = Interest { items: vec![item("regular", 1, ARMED)], pending: vec![] };
    match files.rebuild(interest).unwrap_err() {
        InsertError::Control { epoll: 0, fd, source } => {
            assert_eq!(fd, FdNumber::from_raw(600));
            assert_eq!(source.raw_os_error(), Some(Errno::PERM.raw_os_error()));
        }
        other => panic!("{other}"),
    }
    let missing = Interest { items: vec![item("missing", 1, ARMED)], pending: vec![] };
    assert!(matches!(files.rebuild(missing), Err(InsertError::NoFile { epoll: 0, .. })));
    let far = Item { fd: FdNumber::from_raw(1 << 30), ..item("epoll2", 1, ARMED) };
    let files = Files::new([("epoll2", event(0))]);
    let far = Interest { items: vec![far], pending: vec![] };
    assert!(matches!(files.rebuild(far), Err(InsertError::Place { epoll: 0, .. })));
}

fn tempfile() -> File {
    let path = std::env::temp_dir().join(format!("epoll-interest-{}", std::process::id()));
    let file = File::create(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

#[test]
fn nothing_is_held_once_the_items_are_in() {
    for _ in 0..200 {
        let (reader, writer) = pipe();
        let mut files = Files::new([("reader", reader), ("writer", writer)]);
        let mask = Events::IN | Events::ERR | Events::HUP;
        let interest = Interest { items: vec![item("reader", 1, mask)], pending: vec![] };
        files.rebuild(interest).unwrap();
        files.0.remove("writer");
        assert_eq!(files.wait(), [(1, Events::HUP.bits())], "no other writer is left");
    }
}

#[test]
fn impossible_epolls_are_refused_before_anything_is_done() {
    let wanted = |epoll, items: Vec<Item<&'static str>>, pending| Wanted {
        epoll,
        interest: Interest { items, pending },
    };
    let refused = |wanted| Rebuild::new(wanted).unwrap_err();
    let some = || item("a", 1, ARMED);
    assert_eq!(
        refused(vec![wanted("e", vec![], vec![]), wanted("e", vec![], vec![])]),
        WantedError::SameEpoll { epoll: 1 }
    );
    let fd = FdNumber::from_raw(600);
    assert_eq!(
        refused(vec![wanted("e", vec![some(), some()], vec![])]),
        WantedError::SameKey { epoll: 0, fd }
    );
    for pending in [vec![1], vec![0, 0]] {
        let refused = refused(vec![wanted("e", vec![some()], pending)]);
        assert_eq!(refused, WantedError::Pending { epoll: 0 });
    }
    for events in [Events::ET, ARMED | Events::EXCLUSIVE | Events::ONESHOT] {
        let refused = refused(vec![wanted("e", vec![item("a", 1, events)], vec![])]);
        assert_eq!(refused, WantedError::Mask { epoll: 0, fd, events });
    }
    let circle = vec![
        wanted("e", vec![item("f", 1, ARMED)], vec![]),
        wanted("f", vec![item("e", 1, ARMED)], vec![]),
    ];
    assert_eq!(refused(circle), WantedError::Loop { epoll: 0 });
}

/// An epoll with an edge, a one-shot and a level-triggered item, pending in this order, and one that fired when
/// it was added; that is to be pending after the first.
fn with_late() -> (Files, Rebuild<&'static str>) {
    let files = ["edge", "late", "once", "level"].map(|name| (name, event(1)));
    let files = Files::new(files);
    let items = vec![
        item("edge", 1, Events::IN | Events::ET),
        item("once", 3, Events::IN | Events::ONESHOT),
        item("level", 4, Events::IN),
    ];
    let interest = Interest { items, pending: vec![0, 1, 2] };
    let fired = Interest { items: vec![item("late", 2, Events::ONESHOT)], pending: vec![] };
    assert_eq!(files.rebuild(fired).unwrap(), []);
    let rebuild = Rebuild::new(vec![Wanted { epoll: "epoll", interest }]).unwrap();
    rebuild.prepare(|file| files.fd(file)).unwrap();
    rebuild.finish(|file| files.fd(file)).unwrap();
    (files, rebuild)
}

fn join(files: &Files, rebuild: &Rebuild<&'static str>) {
    let fd = FdNumber::from_raw(600);
    let file = files.fd("late").unwrap();
    let item = Insertion { file, fd, events: Events::IN, data: 2 };
    let late = HashMap::from([("epoll", vec![LateItem { item, place: 1, signal: None }])]);
    rebuild.join(&late, |file| files.fd(file)).unwrap();
}

#[test]
fn late_items_are_pending_in_their_places() {
    let (files, rebuild) = with_late();
    assert_eq!(files.state().1, [1, 3, 4]);
    join(&files, &rebuild);
    assert_eq!(files.state().1, [1, 2, 3, 4]);
    assert_eq!(files.wait(), [1, 2, 3, 4].map(|data| (data, Events::IN.bits())));
    assert_eq!(files.wait(), [2, 4].map(|data| (data, Events::IN.bits())));
}

#[test]
fn what_is_taken_out_in_the_place_of_another_is_put_back() {
    let (files, rebuild) = with_late();
    let mut events = Vec::with_capacity(1);
    epoll::wait(files.fd("epoll").unwrap(), spare_capacity(&mut events), Some(&NOW)).unwrap();
    join(&files, &rebuild);
    let (masks, mut pending) = files.state();
    pending.sort_unstable();
    assert_eq!(pending, [1, 2, 3, 4]);
    let fired = masks.iter().filter(|(_, mask)| mask.fired());
    assert_eq!(fired.count(), 0);
}
