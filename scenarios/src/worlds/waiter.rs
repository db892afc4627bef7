//! Threads that wait in an epoll while all else happens.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::file::{World, awaited, has_waiter};
use super::world;
use crate::sys;

/// By the number of their world.
#[derive(Default)]
pub(super) struct Waiters(BTreeMap<usize, Waiter>);

struct Waiter {
    tid: i32,
    found: Arc<OnceLock<String>>,
}

impl Waiters {
    pub(super) fn begin(&mut self, world: World) {
        if !has_waiter(world) {
            return;
        }
        let found = Arc::new(OnceLock::new());
        let told = Arc::clone(&found);
        let (tell, hear): (Sender<i32>, Receiver<i32>) = channel();
        thread::spawn(move || {
            tell.send(sys::gettid()).expect("the root listens");
            // It may wait for ever.
            let _ = told.set(world::wait(awaited(world), 64, -1));
        });
        let tid = hear.recv().expect("the thread speaks");
        self.0.insert(world.number, Waiter { tid, found });
        self.settle(world);
    }

    /// Lets the one of a world return if anything has woken it.
    pub(super) fn settle(&self, world: World) {
        let Some(Waiter { tid, found }) = self.0.get(&world.number) else { return };
        // Who is woken does not sleep from then on.
        while found.get().is_none() && !sys::sleeps_in(*tid, libc::SYS_epoll_pwait) {
            sys::nap(Duration::from_micros(50));
        }
    }

    /// What it has found, if it has returned.
    pub(super) fn tell(&self, world: World) -> String {
        self.settle(world);
        match self.0.get(&world.number).map(|waiter| waiter.found.get()) {
            None => String::new(),
            Some(None) => "waits\n".to_owned(),
            Some(Some(found)) => format!("waited: {found}\n"),
        }
    }
}
