//! What an operation does to the files of a world.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::RecvFlags;

use super::file::{World, home, mail, number, read, write};
use super::op::{Op, Verb};
use crate::epoll::watch::at;
use crate::sys::{self, done};
use crate::unix::talk;

fn receive(world: World, number: i32) -> String {
    let got = talk::receive(&mail_end(world, 0), 1, RecvFlags::empty());
    match got.map(|got| got.rights) {
        Ok(rights) => {
            for file in &rights {
                sys::dup2(file.as_raw_fd(), number);
            }
            format!("{} came", rights.len())
        }
        Err(error) => format!("Receive {error}"),
    }
}

fn send(world: World, file: i32) -> String {
    if rustix::io::fcntl_getfd(at(file)).is_err() {
        return "Send closed".to_owned();
    }
    talk::send(&mail_end(world, 1), b"x", &[at(file)]);
    "sent".to_owned()
}

/// A duplicate.
fn mail_end(world: World, end: usize) -> OwnedFd {
    rustix::io::dup(at(mail(world, end))).expect("dup")
}

/// Carries out one operation, in the table of the calling thread; tells what it gave.
pub(super) fn play(world: World, op: &Op) -> String {
    let Op { verb, actor, file, number: given, events, data } = *op;
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
            Verb::Wait => return wait(file, data, 0),
            Verb::Write => return told(verb, write(world, op.file, actor)),
            Verb::Read => return told(verb, read(world, op.file)),
            Verb::Send => return send(world, file),
            Verb::Receive => return receive(world, at),
        }
    });
    told(verb, result)
}

fn told(verb: Verb, result: std::io::Result<i64>) -> String {
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

/// `epoll_pwait(2)` for so many milliseconds: what came.
pub(super) fn wait(epoll: i32, most: u64, time: i32) -> String {
    let most = most.clamp(1, 64) as usize;
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; most];
    // SAFETY: room for `most` events.
    let result = done(unsafe {
        libc::epoll_pwait(epoll, events.as_mut_ptr(), most as i32, time, std::ptr::null())
    });
    match result {
        Ok(0) => "none".to_owned(),
        Ok(count) => {
            let told = events.iter().take(count as usize);
            told.map(|event| format!("{:x}:{} ", { event.events }, { event.u64 })).collect()
        }
        Err(error) => format!("Wait {}", error.raw_os_error().unwrap_or(0)),
    }
}
