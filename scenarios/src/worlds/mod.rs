//! Many small worlds of files, numbers and epolls in one program, each with a history of its own:
//! what happens before the checkpoint, and what after.
//!
//! `dormouse-scenario --worlds DIR` reads `DIR/worlds`, plays all that comes before, says ready,
//! waits for `go`, plays the rest, and leaves what every operation gave in `DIR/outcomes`. Whoever
//! runs it twice, once with a checkpoint and once without, must find the same.
//!
//! Operations are carried out one after the other by five actors: the root, a child, a child of that,
//! a process that shares the root's fd table, and a thread of the root with one of its own. All begin
//! with the same files. In some worlds a thread waits in an epoll meanwhile.

mod actor;
mod file;
mod op;
mod settled;
mod waiter;
mod world;

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use op::{ACTORS, FILES, History, KINDS, NUMBERS, Op, PLAIN, Verb};

use crate::{Context, User};
use actor::Actors;
use file::World;
use settled::settle;
use waiter::Waiters;

/// What the checkpointer is told.
pub const OPTIONS: &[&str] = crate::tcp::pair::OPTIONS;

/// The program.
pub fn run(dir: &Path) {
    crate::begin(User::Root);
    let text = fs::read_to_string(dir.join("worlds")).expect("the harness wrote the worlds");
    let read = |text| History::read(text).expect("a world").whole();
    let histories: Vec<History> = text.split("\n\n").map(read).collect();
    let worlds = histories.iter().enumerate();
    let worlds: Vec<(World, &History)> =
        worlds.map(|(number, history)| (World { number, kind: history.kind }, history)).collect();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("setrlimit");
    std::env::set_current_dir(dir).expect("the state directory");
    let cx = Context::new(dir, User::Root);
    file::block_signals();
    worlds.iter().for_each(|&(world, _)| file::make(&cx, world));
    let mut actors = Actors::start(&histories);
    let mut outcomes = String::new();
    let mut waiters = Waiters::default();
    for &(world, history) in &worlds {
        actors.play(world, &history.before, 0, &mut outcomes, &waiters);
        file::forget_events(world);
    }
    // What wakes one item on signals wakes all.
    worlds.iter().for_each(|&(world, _)| settle(world));
    for &(world, history) in &worlds {
        actors.play(world, &history.closes, history.before.len(), &mut outcomes, &waiters);
        waiters.begin(world);
    }
    cx.ready_and_wait();
    for &(world, history) in &worlds {
        outcomes.push('\n');
        let done = history.before.len() + history.closes.len();
        actors.play(world, &history.after, done, &mut outcomes, &waiters);
        outcomes.push_str(&waiters.tell(world));
    }
    actors.end();
    cx.publish("outcomes", &outcomes);
}
