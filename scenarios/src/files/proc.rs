//! Files and directories of `/proc` about oneself, a child, a zombie, and a thread, one of them
//! watched; a directory there as working directory.
//!
//! Verified: what they are about; places in them; that the watch tells of nothing.
//! CRIU: loses the place in `maps`.

use std::ffi::OsStr;
use std::fs::{File, read_link};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::epoll;
use rustix::fs::{FileType, Mode, OFlags, RawDir, fstat, open, openat};
use rustix::process::chdir;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

pub(super) fn of_path(path: impl AsRef<Path>) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    open(path.as_ref(), flags, Mode::empty()).expect("open with O_PATH")
}

pub(crate) fn name(file: &impl AsFd) -> PathBuf {
    let own = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    read_link(own).expect("the name of a file")
}

/// All that a file tells.
pub(super) fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).expect("lseek");
    file.read_to_string(&mut text).expect("read");
    text
}

/// The number that begins a `stat` file.
fn pid(file: &mut File) -> Option<i32> {
    text(file).split(' ').next()?.parse().ok()
}

/// A file below a directory.
fn below(dir: &impl AsFd, name: &str) -> Option<i32> {
    let file = openat(dir, name, OFlags::RDONLY, Mode::empty()).ok()?;
    pid(&mut file.into())
}

/// How many entries a directory still has to list.
fn count(dir: &File) -> usize {
    let mut buffer = Vec::with_capacity(4096);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut count = 0;
    while let Some(entry) = entries.next() {
        entry.expect("getdents");
        count += 1;
    }
    count
}

fn run(cx: &mut Context) {
    let me = std::process::id() as i32;
    let child = cx.fork(|cx| {
        let own = format!("/proc/{}", sys::own_pid());
        chdir(own.as_str()).expect("chdir");
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(std::env::current_dir().ok(), Some(own.into()), "the working directory");
        check_eq!(std::fs::read("comm").is_ok(), true, "reading there");
    });
    cx.await_arrival(child);
    let zombie = cx.fork(|_| sys::exit(5));
    cx.await_state(zombie, 'Z');
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        let _ = wait.recv();
    });
    let path = |task: i32, name: &str| format!("/proc/{task}/{name}");
    let of_thread = format!("/proc/{me}/task/{tid}");
    let stats = [path(me, "stat"), path(child, "stat"), path(zombie, "stat")];
    let stats = stats.into_iter().chain([format!("{of_thread}/stat")]);
    let mut stats: Vec<_> = stats.map(|path| File::open(path).expect("open stat")).collect();
    let dirs = [path(me, ""), path(child, ""), of_thread.clone()];
    let dirs = dirs.map(|path| {
        open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open a directory")
    });
    let of_child = of_path(path(child, ""));
    let exe = of_path("/proc/self/exe");
    let mut maps = File::open("/proc/self/maps").expect("maps");
    let mut first = String::new();
    BufReader::with_capacity(1, &maps).read_line(&mut first).expect("a line of maps");
    let mut tasks = File::open("/proc/self/task").expect("tasks");
    let listed = count(&tasks);
    tasks.seek(SeekFrom::Start(3)).expect("lseek");
    let mounts = File::open("/proc/self/mountinfo").expect("mountinfo");
    let watcher = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll_create1");
    let data = epoll::EventData::new_u64(7);
    epoll::add(&watcher, &mounts, data, epoll::EventFlags::PRI).expect("epoll_ctl");
    let names: Vec<_> = stats.iter().map(name).chain(dirs.iter().map(name)).collect();

    cx.ready_and_wait();

    let after: Vec<_> = stats.iter().map(name).chain(dirs.iter().map(name)).collect();
    check_eq!(after, names, "names");
    let pids: Vec<_> = stats.iter_mut().map(pid).collect();
    check_eq!(pids, [me, child, zombie, tid].map(Some), "what is in stat");
    let below = dirs.each_ref().map(|dir| below(dir, "stat"));
    check_eq!(below, [me, child, tid].map(Some), "what is below the directories");
    check_eq!(self::below(&of_child, "stat"), Some(child), "what is below a directory by O_PATH");
    let kind = FileType::from_raw_mode(fstat(&exe).expect("fstat").st_mode);
    check_eq!(kind, FileType::Symlink, "the link to the executable");
    check_eq!(name(&exe).file_name(), Some(OsStr::new("exe")), "its name");
    let mut rest = String::new();
    maps.read_to_string(&mut rest).expect("read maps");
    let now = std::fs::read_to_string("/proc/self/maps").expect("maps");
    check_eq!(now.lines().next(), first.lines().next(), "the first line of maps");
    check_eq!(rest.lines().next(), now.lines().nth(1), "the next line of maps");
    check_eq!(tasks.stream_position().ok(), Some(3), "the place among the tasks");
    check_eq!((listed, count(&tasks)), (4, 1), "tasks that are listed");
    let mut events = Vec::with_capacity(1);
    let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(&watcher, rustix::buffer::spare_capacity(&mut events), Some(&none)).expect("wait");
    check_eq!(events.len(), 0, "events of mounts");
    drop(done);
    thread.join().expect("the thread");
    check_eq!(sys::wait_status(zombie), Ok(5 << 8), "the zombie");
    cx.reap(child);
}
