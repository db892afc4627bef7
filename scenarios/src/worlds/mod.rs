//! Many small worlds of files, numbers and epolls in one program, each with a history of its own:
//! what happens before the checkpoint, and what after.
//!
//! `dormouse-scenario --worlds DIR` reads `DIR/worlds`, plays all that comes before, says ready,
//! waits for `go`, plays the rest, and leaves what every operation gave in `DIR/outcomes`. Whoever
//! runs it twice, once with a checkpoint and once without, must find the same.
//!
//! Operations are carried out one after the other by three actors: the root, a child, and a thread
//! of the root with an fd table of its own. All begin with the same files.

mod actor;
mod op;
mod settled;
mod world;

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use op::{FILES, History, NUMBERS, Op, PLAIN, Verb};

use crate::{Context, User};
use actor::Actors;
use settled::settle;

/// The program.
pub fn run(dir: &Path) {
    crate::begin(User::Root);
    let text = fs::read_to_string(dir.join("worlds")).expect("the harness wrote the worlds");
    let histories: Vec<History> = text.split("\n\n").filter_map(History::read).collect();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("setrlimit");
    std::env::set_current_dir(dir).expect("the state directory");
    (0..histories.len()).for_each(world::make);
    let cx = Context::new(dir, User::Root);
    let mut actors = Actors::start(&histories);
    let mut outcomes = String::new();
    for (world, history) in histories.iter().enumerate() {
        actors.play(world, &history.before, 0, &mut outcomes);
        world::forget_events(world);
        settle(world);
        actors.play(world, &history.closes, history.before.len(), &mut outcomes);
    }
    cx.ready_and_wait();
    for (world, history) in histories.iter().enumerate() {
        outcomes.push('\n');
        let done = history.before.len() + history.closes.len();
        actors.play(world, &history.after, done, &mut outcomes);
    }
    actors.end();
    cx.publish("outcomes", &outcomes);
}
