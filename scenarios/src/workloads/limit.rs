//! The bare work under a workload: what neither a dump nor a restore can do
//! without.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::threads::STACK;
use crate::Context;

/// What the bare work took.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// That of a dump, if it can be told.
    pub dump: Option<Duration>,
    /// That of a restore.
    pub restore: Duration,
}

/// Takes as many descriptors as are allowed.
pub(super) fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("setrlimit");
}

/// What is written and read at a time.
const CHUNK: usize = 1 << 20;

/// One copy of `size` MiB into a file, and one back into fresh memory, by one
/// thread.
pub(super) fn copy(cx: &Context, size: usize) -> Limit {
    let bytes: Vec<u8> = (0..size * CHUNK / 8).flat_map(|word| word.to_ne_bytes()).collect();
    let file = File::options().read(true).write(true).create_new(true).open(cx.path("copy"));
    let file = file.expect("the state directory is writable");
    let began = Instant::now();
    for (number, chunk) in (0..).zip(bytes.chunks(CHUNK)) {
        file.write_all_at(chunk, number * CHUNK as u64).expect("write");
    }
    let dump = began.elapsed();
    drop(bytes);
    let began = Instant::now();
    // Fresh from the kernel, which fills it with zeros as it is touched.
    let mut back = vec![0; size * CHUNK];
    for (number, chunk) in (0..).zip(back.chunks_mut(CHUNK)) {
        file.read_exact_at(chunk, number * CHUNK as u64).expect("read");
    }
    Limit { dump: Some(dump), restore: began.elapsed() }
}

/// So many threads that exist at once.
pub(super) fn threads(_: &Context, size: usize) -> Limit {
    let all = Arc::new(Barrier::new(size + 1));
    let began = Instant::now();
    let threads: Vec<_> = (0..size)
        .map(|_| {
            let all = Arc::clone(&all);
            let body = move || all.wait().is_leader();
            thread::Builder::new().stack_size(STACK).spawn(body).expect("a thread")
        })
        .collect();
    let restore = began.elapsed();
    all.wait();
    for thread in threads {
        thread.join().expect("it only waited");
    }
    Limit { dump: None, restore }
}

/// So many forks.
pub(super) fn forks(cx: &Context, size: usize) -> Limit {
    let began = Instant::now();
    let children: Vec<i32> = (0..size).map(|_| cx.fork(|_| ())).collect();
    let restore = began.elapsed();
    children.into_iter().for_each(|child| cx.reap(child));
    Limit { dump: None, restore }
}

/// So many `EPOLL_CTL_ADD`, over as many epolls as it takes.
pub(super) fn adds(_: &Context, size: usize) -> Limit {
    raise_descriptors();
    let files: Vec<OwnedFd> = (0..size.min(15_000))
        .map(|_| eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd"))
        .collect();
    let epolls: Vec<OwnedFd> = (0..size.div_ceil(files.len()))
        .map(|_| epoll::create(CreateFlags::CLOEXEC).expect("epoll_create1"))
        .collect();
    let began = Instant::now();
    for number in 0..size {
        let (epoll, file) = (&epolls[number / files.len()], &files[number % files.len()]);
        let data = EventData::new_u64(number as u64);
        epoll::add(epoll, file.as_fd(), data, EventFlags::IN).expect("EPOLL_CTL_ADD");
    }
    let took = began.elapsed();
    Limit { dump: Some(took), restore: took }
}
