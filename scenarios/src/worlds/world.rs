//! The files of a world, by numbers, and what an operation does to them.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::pipe::{PipeFlags, pipe_with};

use super::op::{FILES, NUMBERS, Op, PLAIN, Verb};
use crate::sys::{self, done};

/// Where numbers begin that no world gives out: what comes before is this program's.
const FIRST: i32 = 100;

/// The number that a file has anyway.
pub(super) fn home(world: usize, file: usize) -> i32 {
    FIRST + (world * (FILES + NUMBERS) + file) as i32
}

/// One that the world gives out.
pub(super) fn number(world: usize, number: usize) -> i32 {
    FIRST + (world * (FILES + NUMBERS) + FILES + number) as i32
}

/// Puts all files of a new world under their numbers.
pub(super) fn make(world: usize) {
    let event = || eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
    let pipe = || pipe_with(PipeFlags::NONBLOCK).expect("pipe");
    let (reader, writer) = pipe();
    let (other_reader, other_writer) = pipe();
    let mut files = vec![event(), event(), event(), event(), reader, writer];
    files.extend([other_reader, other_writer]);
    assert_eq!(files.len(), PLAIN);
    let epoll = |_| epoll::create(epoll::CreateFlags::empty()).expect("epoll_create1");
    files.extend((PLAIN..FILES).map(epoll));
    for (place, file) in files.into_iter().enumerate() {
        settle_at(file, home(world, place));
    }
}

fn settle_at(file: OwnedFd, number: i32) {
    if file.as_raw_fd() == number {
        // It stays there.
        let _ = file.into_raw_fd();
    } else {
        sys::dup2(file.as_raw_fd(), number);
    }
}

/// Carries out one operation, in the table of the calling thread; tells what it gave.
pub(super) fn play(world: usize, op: &Op) -> String {
    let Op { verb, actor: _, file, number: given, events, data } = *op;
    let (file, at) = (home(world, file), number(world, given));
    // SAFETY: numbers are the world's own, buffers live over the call and have the stated lengths.
    let result = done(unsafe {
        match verb {
            Verb::Open => libc::dup2(file, at),
            Verb::Close => libc::close(at),
            Verb::Lose => libc::close(file),
            Verb::Add => control(file, libc::EPOLL_CTL_ADD, at, events, data),
            Verb::Modify => control(file, libc::EPOLL_CTL_MOD, at, events, data),
            Verb::Delete => control(file, libc::EPOLL_CTL_DEL, at, 0, 0),
            Verb::Wait => return wait(file, data),
            Verb::Write => libc::write(file, 1_u64.to_ne_bytes().as_ptr().cast(), 8) as i32,
            Verb::Read => libc::read(file, [0_u8; 8].as_mut_ptr().cast(), 8) as i32,
        }
    });
    match result {
        Ok(_) if matches!(verb, Verb::Open) => "ok".to_owned(),
        Ok(value) => value.to_string(),
        Err(error) => format!("{verb:?} {}", error.raw_os_error().unwrap_or(0)),
    }
}

fn control(epoll: i32, operation: i32, target: i32, events: u32, data: u64) -> i32 {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the event lives over the call.
    unsafe { libc::epoll_ctl(epoll, operation, target, &raw mut event) }
}

fn wait(epoll: i32, most: u64) -> String {
    let most = most.clamp(1, 64) as usize;
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; most];
    // SAFETY: room for `most` events.
    let result = done(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), most as i32, 0) });
    match result {
        Ok(count) => {
            let told = events.iter().take(count as usize);
            told.map(|event| format!("{:x}:{} ", { event.events }, { event.u64 })).collect()
        }
        Err(error) => format!("Wait {}", error.raw_os_error().unwrap_or(0)),
    }
}
