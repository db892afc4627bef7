//! Epolls.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dormouse_image::proto::files::eventpoll::EventpollTfdEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::{ImageDir, ImageName};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{CreateFlags, Event, EventData, EventFlags, add, create, delete, wait};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use crate::round_trip::{Dump, Images, number, round_trip};

/// Reads what no test may change, or says why not.
fn can_read() -> bool {
    let can = epoll_interest::Inspector::new();
    if let Err(reason) = &can {
        eprintln!("skipped: {reason}");
    }
    can.is_ok()
}

fn epoll() -> OwnedFd {
    create(CreateFlags::CLOEXEC).unwrap()
}

fn event(count: u32) -> OwnedFd {
    eventfd(count, EventfdFlags::NONBLOCK).unwrap()
}

/// All that is reported now, in order.
fn events(epoll: impl AsFd) -> Vec<(u64, u32)> {
    let mut found: Vec<Event> = Vec::with_capacity(64);
    wait(epoll, spare_capacity(&mut found), Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    let plain = |&Event { flags, data }: &Event| (data.u64(), flags.bits());
    found.iter().map(plain).collect()
}

fn watch(epoll: &OwnedFd, file: &OwnedFd, data: u64, flags: EventFlags) {
    add(epoll, file, EventData::new_u64(data), flags).unwrap();
}

const IN: u32 = EventFlags::IN.bits();
const EDGE: EventFlags = EventFlags::IN.union(EventFlags::ET);
const ONCE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

#[test]
fn items_come_back_in_their_state() {
    if !can_read() {
        return;
    }
    let old = epoll();
    let files = [event(1), event(1), event(1), event(0), event(1)];
    watch(&old, &files[0], 10, EDGE);
    watch(&old, &files[2], 12, ONCE);
    // Edge and one-shot are reported for the last time.
    assert_eq!(events(&old), [(10, IN), (12, IN)]);
    watch(&old, &files[4], u64::MAX, EventFlags::IN);
    watch(&old, &files[1], 11, EDGE);
    watch(&old, &files[3], 13, EDGE);
    let mut all: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    all.push(old.as_fd());
    let restored = round_trip(&all).unwrap();
    let new = restored.of(&old);
    let state = |file: BorrowedFd<'_>| {
        let mut inspector = epoll_interest::Inspector::new().unwrap();
        let interest = inspector.get_events(file).unwrap().interest;
        let pending = interest.pending_flags();
        let mut items: Vec<_> = interest
            .items
            .iter()
            .zip(pending)
            .map(|(item, pending)| (item.fd, item.events, item.data, pending))
            .collect();
        items.sort_by_key(|item| item.0);
        items
    };
    assert_eq!(state(old.as_fd()), state(new.as_fd()));
    assert_eq!(events(new), [(u64::MAX, IN), (11, IN)]);
    // The next edge is reported, wherever the first one was.
    rustix::io::write(restored.of(&files[0]), &1_u64.to_ne_bytes()).unwrap();
    rustix::io::write(restored.of(&files[3]), &1_u64.to_ne_bytes()).unwrap();
    assert_eq!(events(new), [(u64::MAX, IN), (10, IN), (13, IN)]);
    assert_eq!(events(&old), [(u64::MAX, IN), (11, IN)]);
}

#[test]
fn epolls_watch_epolls_and_themselves_shared() {
    if !can_read() {
        return;
    }
    let (inner, outer) = (epoll(), epoll());
    let (from, to) = rustix::pipe::pipe().unwrap();
    watch(&inner, &from, 1, EventFlags::IN);
    watch(&outer, &inner, 2, EDGE);
    watch(&outer, &from, 3, EventFlags::IN);
    rustix::io::write(&to, b"x").unwrap();
    let all = [outer.as_fd(), inner.as_fd(), from.as_fd(), to.as_fd()];
    let restored = round_trip(&all).unwrap();
    let reported = events(restored.of(&outer));
    assert_eq!(reported, events(&outer));
    assert_eq!(reported.len(), 2);
    assert_eq!(events(restored.of(&inner)), [(1, IN)]);
    rustix::io::read(restored.of(&from), &mut [0]).unwrap();
    assert_eq!(events(restored.of(&outer)), []);
}

/// The number of an item's key need not stand for its file any more.
#[test]
fn keys_outlive_their_numbers() {
    if !can_read() {
        return;
    }
    let old = epoll();
    let file = event(0);
    let other = event(0);
    let duplicate = rustix::io::fcntl_dupfd_cloexec(&file, 400).unwrap();
    let stale = number(&duplicate);
    watch(&old, &duplicate, 5, EventFlags::IN);
    drop(duplicate);
    // The same number for another file.
    let taken = rustix::io::fcntl_dupfd_cloexec(&other, 400).unwrap();
    assert_eq!(number(&taken), stale);
    watch(&old, &taken, 6, EventFlags::IN);
    let restored = round_trip(&[old.as_fd(), file.as_fd(), taken.as_fd()]).unwrap();
    let new = restored.of(&old);
    rustix::io::write(restored.of(&file), &1_u64.to_ne_bytes()).unwrap();
    assert_eq!(events(new), [(5, IN)]);
    rustix::io::write(restored.of(&taken), &1_u64.to_ne_bytes()).unwrap();
    assert_eq!(events(new), [(5, IN), (6, IN)]);
    // Both keys have the old number: the file under it is found by that.
    let key = rustix::io::fcntl_dupfd_cloexec(restored.of(&taken), stale.as_raw() as i32 + 1);
    drop(key);
    assert_eq!(delete(new, restored.of(&taken)).unwrap_err(), rustix::io::Errno::NOENT);
}

#[test]
fn a_file_that_only_others_have_is_refused() {
    if !can_read() {
        return;
    }
    let (old, file) = (epoll(), event(0));
    watch(&old, &file, 1, EventFlags::IN);
    let error = round_trip(&[old.as_fd()]).map(drop).unwrap_err().to_string();
    let number = file.as_raw_fd();
    let expected = format!("item {number} watches a file that no process of the tree has open");
    assert_eq!(error, expected);
    // Who has it is told, if that is another process. It inherits what is not close-on-exec.
    let mut sleep = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    drop(file);
    let error = round_trip(&[old.as_fd()]).map(drop).unwrap_err().to_string();
    let pid = sleep.id();
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert_eq!(
        error,
        format!("{expected}: process {pid} (\"sleep\") has it, as descriptor {number}")
    );
}

/// An inotify tells of nothing by itself: it is made to for a moment.
#[test]
fn a_fired_one_shot_on_an_inotify_stays_so() {
    if !can_read() {
        return;
    }
    let old = epoll();
    let flags = rustix::fs::inotify::CreateFlags::CLOEXEC;
    let file = rustix::fs::inotify::init(flags).unwrap();
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::inotify::add_watch(&file, dir.path(), rustix::fs::inotify::WatchFlags::CREATE)
        .unwrap();
    watch(&old, &file, 1, ONCE);
    std::fs::write(dir.path().join("new"), "").unwrap();
    assert_eq!(events(&old), [(1, IN)]);
    let restored = round_trip(&[old.as_fd(), file.as_fd()]).unwrap();
    let (new, inotify) = (restored.of(&old), restored.of(&file));
    // There is something to read, and nobody is told until it is armed again, by its old number.
    assert_eq!(events(new), []);
    let number = file.as_raw_fd();
    let inotify = rustix::io::fcntl_dupfd_cloexec(inotify, 400).unwrap();
    drop(file);
    let inotify = rustix::io::fcntl_dupfd_cloexec(&inotify, number).unwrap();
    let word = EventData::new_u64(1);
    rustix::event::epoll::modify(new, &inotify, word, ONCE).unwrap();
    assert_eq!(events(new), [(1, IN)]);
}

/// CRIU says no more than numbers and masks: its items are added as new.
#[test]
fn items_of_criu_are_added() {
    if !can_read() {
        return;
    }
    let (old, file) = (epoll(), event(1));
    watch(&old, &file, 7, EDGE);
    assert_eq!(events(&old), [(7, IN)]);
    let mut dump = Dump::new();
    dump.descriptor(&old);
    dump.descriptor(&file);
    let (images, shared) = dump.write().unwrap();
    rewrite(&images, |entry| {
        if let Some(epoll) = &mut entry.epfd {
            epoll.state = None;
            let mut items: Vec<_> = epoll.tfd.iter().collect();
            for item in &mut items {
                assert_eq!(item.tfd, file.as_raw_fd() as u32);
                (item.target, item.number, item.seniority) = (None, None, None);
                item.queue = None;
            }
            epoll.tfd = items.into_iter().collect();
        }
    });
    let restored = images.restore(&shared, &[]).unwrap();
    assert_eq!(events(restored.of(&old)), [(7, IN)]);
}

#[test]
fn contradictions_are_refused() {
    if !can_read() {
        return;
    }
    let (old, file) = (epoll(), event(1));
    watch(&old, &file, 7, EDGE);
    fn target(entry: &mut FileEntry, id: u32) {
        let items = &mut entry.epfd.as_mut().unwrap().tfd;
        let changed = items.iter().map(|item| EventpollTfdEntry { target: Some(id), ..item });
        *items = changed.collect();
    }
    let changes: [fn(&mut FileEntry); 5] = [
        |entry| target(entry, 99),
        |entry| target(entry, entry.id),
        |entry| entry.epfd.as_mut().unwrap().state.as_mut().unwrap().pending.push(1),
        |entry| entry.epfd.as_mut().unwrap().state.as_mut().unwrap().pending.push(0),
        |entry| {
            let items = &mut entry.epfd.as_mut().unwrap().tfd;
            *items = items.iter().chain(items.iter().take(1)).collect();
        },
    ];
    for change in changes {
        let mut dump = Dump::new();
        dump.descriptor(&old);
        dump.descriptor(&file);
        let (images, shared) = dump.write().unwrap();
        rewrite(&images, |entry| {
            if entry.kind == i32::from(FdType::EventPoll) {
                change(entry);
            }
        });
        let error = images.restore(&shared, &[]).map(drop).unwrap_err();
        assert!(matches!(error, dormouse_resources::Error::Corrupt { .. }), "{error}");
    }
}

/// Changes every entry of `files.img`.
pub(crate) fn rewrite(images: &Images, mut change: impl FnMut(&mut FileEntry)) {
    let (dir, inventory) = ImageDir::open(images.dir.path()).unwrap();
    let mut entries: Vec<FileEntry> = dir.get_all(ImageName::Files).unwrap();
    entries.iter_mut().for_each(&mut change);
    let other = tempfile::tempdir().unwrap();
    let dump = dormouse_image::NewDump::begin(other.path()).unwrap();
    dump.put_all(ImageName::Files, &entries).unwrap();
    dump.commit(&inventory).unwrap();
    std::fs::copy(other.path().join("files.img"), images.dir.path().join("files.img")).unwrap();
}
