//! Every kind of file, times every state an item can be in, times what can become of its key.
//!
//! `dormouse-scenario --product DIR` reads `DIR/worlds`: the word for a key, and a part of the names of
//! those combinations that are tried, or nothing. It makes them all, each with an epoll of its own, says
//! ready, waits for `go`, and leaves in `DIR/outcomes` a line for each: what the epoll reports, what its
//! fdinfo says, and what comes of everything that can be done to the item and its file. Whoever runs it
//! twice, once with a checkpoint and once without, must find the same.

mod key;
mod kind;
mod state;
mod step;

use std::fmt::Write;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::dup;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::epoll::target::Target;
use crate::epoll::watch::{EDGE, Epoll, IN, ONCE, OUT, at, event, plant};
use crate::{Context, User};
use key::{Keeper, Key};
use kind::Kind;
use state::{Asked, STATES, State};
use step::Step;

/// Words for the keys, of which a program tries one.
#[must_use]
pub fn keys() -> [&'static str; 6] {
    Key::ALL.map(|(name, _)| name)
}

/// Where the numbers of keys begin: what comes before is this program's.
const FIRST: i32 = 12_000;

/// The program.
pub fn run(dir: &Path) {
    crate::begin(User::Root);
    let text = fs::read_to_string(dir.join("worlds")).expect("the harness wrote the worlds");
    let (word, part) = text.split_once('\n').unwrap_or((&text, ""));
    let (_, key) = Key::ALL.into_iter().find(|(name, _)| *name == word).expect("a key");
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("setrlimit");
    let cx = Context::new(dir, User::Root);
    let mut all = Vec::new();
    for kind in kind::KINDS {
        for state in STATES.iter().filter(|state| kind.allows(state)) {
            let name = format!("{}; {}", kind.name, state.name);
            if name.contains(part) {
                all.push(Combination::new(&cx, kind, state, name, FIRST + all.len() as i32));
            }
        }
    }
    let files: Vec<i32> = all.iter().map(|one| one.target.as_fd().as_raw_fd()).collect();
    let keeper = Keeper::keep(&cx, key, &files);
    for one in &mut all {
        key::leave(key, one.number);
        if !matches!(keeper, Keeper::Own) {
            one.target.replace(event(0));
        }
    }

    cx.ready_and_wait();

    let mut outcomes = String::new();
    for (place, mut one) in all.into_iter().enumerate() {
        one.look(&keeper, place);
        outcomes.push_str(&one.outcome);
        outcomes.push('\n');
    }
    cx.publish("outcomes", &outcomes);
}

/// One item, alone in an epoll.
struct Combination {
    outcome: String,
    epoll: Epoll,
    target: Target,
    number: i32,
    /// Its other end is gone.
    parted: bool,
    mask: u32,
    data: u64,
}

impl Combination {
    fn new(cx: &Context, kind: &Kind, state: &State, name: String, number: i32) -> Self {
        let target = (kind.make)(cx);
        plant(&target, number);
        let mask = match state.asked {
            Asked::Ready(flags) => target.ready | flags,
            Asked::Mask(mask) => mask,
        };
        let data = u64::from(number.unsigned_abs()) << 32;
        let mut one = Self {
            outcome: format!("{name}:"),
            epoll: Epoll::new(),
            target,
            number,
            parted: false,
            mask,
            data,
        };
        state.steps.iter().for_each(|step| one.take(*step));
        one.outcome.push_str(" |");
        one
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Add => {
                let added = self.epoll.try_add(at(self.number), self.mask, self.data);
                self.tell(added.err());
            }
            Step::Modify => {
                let set = self.epoll.modify(at(self.number), self.mask, self.data);
                self.tell(set.err());
            }
            Step::Rouse if !self.parted => self.target.rouse(),
            Step::Calm if !self.parted => self.target.calm(),
            Step::Rouse | Step::Calm => {}
            Step::Wait => {
                let told: Vec<_> = self
                    .epoll
                    .take()
                    .into_iter()
                    .map(|(data, is)| (data - self.data, is))
                    .collect();
                self.tell(told);
            }
            Step::Part => self.parted |= self.target.part(),
        }
    }

    fn tell(&mut self, what: impl std::fmt::Debug) {
        write!(self.outcome, " {what:?}").expect("writing to a string");
    }

    /// All that can be found out, and done.
    fn look(&mut self, keeper: &Keeper, place: usize) {
        use Step::{Calm, Modify, Part, Rouse, Wait};
        // What is in the list is not what `poll` says.
        self.take(Wait);
        self.take(Wait);
        self.items();
        if let Some(file) = keeper.fetch(place) {
            self.target.replace(file);
        }
        plant(&self.target, self.number);
        self.polled();
        [Rouse, Wait, Wait, Calm, Wait, Rouse, Wait, Calm].into_iter().for_each(|s| self.take(s));
        self.polled();
        for mask in [self.mask, IN | OUT | EDGE, IN | OUT | ONCE, self.target.ready] {
            self.mask = mask;
            [Modify, Wait, Rouse, Wait, Calm, Wait].into_iter().for_each(|s| self.take(s));
            self.items();
        }
        [Part, Wait].into_iter().for_each(|step| self.take(step));
        let gone = self.epoll.delete(at(self.number));
        self.tell(gone.err());
        self.items();
    }

    fn items(&mut self) {
        let path = format!("/proc/self/fdinfo/{}", self.epoll.as_fd().as_raw_fd());
        let text = fs::read_to_string(path).expect("fdinfo");
        let items = text.lines().filter(|line| line.starts_with("tfd:"));
        let items: Vec<_> =
            items.filter_map(|line| line.split_once(" pos:")).map(|it| it.0).collect();
        self.tell(items);
    }

    fn polled(&mut self) {
        let file = dup(&self.target).expect("dup");
        let mut asked = [PollFd::new(&file, PollFlags::from_bits_retain(0x7fff))];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&at_once)).expect("poll");
        let told = asked[0].revents();
        self.tell(told.bits());
    }
}
