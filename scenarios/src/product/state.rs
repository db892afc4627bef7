//! States that an item can be in, and how it gets there.

use super::step::Step;
use crate::epoll::watch::{EDGE, EXCLUSIVE, HUP, IN, ONCE, OUT};

const RDHUP: u32 = libc::EPOLLRDHUP as u32;
const PRI: u32 = libc::EPOLLPRI as u32;
const WAKEUP: u32 = libc::EPOLLWAKEUP as u32;
const ALL: u32 = IN | OUT | RDHUP | PRI;

/// What an item waits for.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    /// What its file reports when it is made ready, with these flags.
    Ready(u32),
    /// This.
    Mask(u32),
}

/// A state of an item.
pub(super) struct State {
    pub(super) name: &'static str,
    pub(super) asked: Asked,
    /// What leads there.
    pub(super) steps: &'static [Step],
}

impl State {
    /// Whether its file is to be ready at last, or its other end is to go.
    pub(super) fn rouses(&self) -> bool {
        let last = |step: &&Step| matches!(step, Step::Rouse | Step::Calm);
        self.steps.iter().rfind(last).is_some_and(|step| *step == Step::Rouse) || self.parts()
    }

    /// Whether the other end of its file is to go.
    pub(super) fn parts(&self) -> bool {
        self.steps.contains(&Step::Part)
    }
}

macro_rules! states {
    ($( $name:literal: $asked:expr, $($step:ident)*; )*) => {
        pub(super) const STATES: &[State] = &[$(
            State { name: $name, asked: $asked, steps: &[$(Step::$step,)*] },
        )*];
    };
}

use Asked::{Mask, Ready};

states! {
    "level, idle": Ready(0), Add;
    "level, ready": Ready(0), Add Rouse;
    "level, ready before": Ready(0), Rouse Add;
    "level, reported": Ready(0), Add Rouse Wait;
    "level, for all": Mask(ALL), Add Rouse;
    "level, for nothing": Mask(0), Add Rouse;
    "level, parted": Mask(ALL), Add Part;
    "edge, idle": Ready(EDGE), Add;
    "edge, pending": Ready(EDGE), Add Rouse;
    "edge, pending and calm": Ready(EDGE), Add Rouse Calm;
    "edge, consumed": Ready(EDGE), Add Rouse Wait;
    "edge, consumed and calm": Ready(EDGE), Add Rouse Wait Calm;
    "edge, again": Ready(EDGE), Add Rouse Wait Rouse;
    "edge, set again": Ready(EDGE), Add Rouse Wait Modify;
    "edge, for all, consumed": Mask(ALL | EDGE), Add Wait;
    "edge, for all, consumed ready": Mask(ALL | EDGE), Add Rouse Wait;
    "edge, for all, pending": Mask(ALL | EDGE), Add Wait Rouse;
    "edge, for output, consumed": Mask(OUT | EDGE), Add Wait;
    "edge, for hang-ups": Mask(EDGE), Add Rouse Wait;
    "edge, parted": Mask(ALL | EDGE), Add Wait Part;
    "edge, parted, consumed": Mask(ALL | EDGE), Add Part Wait;
    "once, armed": Ready(ONCE), Add;
    "once, pending": Ready(ONCE), Add Rouse;
    "once, fired": Ready(ONCE), Add Rouse Wait;
    "once, fired and calm": Ready(ONCE), Add Rouse Wait Calm;
    "once, fired and ready again": Ready(ONCE), Add Rouse Wait Calm Rouse;
    "once, armed again": Ready(ONCE), Add Rouse Wait Modify;
    "once, calm, armed again": Ready(ONCE), Add Rouse Wait Calm Modify;
    "once, edge, armed": Ready(ONCE | EDGE), Add;
    "once, edge, fired": Ready(ONCE | EDGE), Add Rouse Wait;
    "once, for all, fired": Mask(ALL | ONCE), Add Wait;
    "once, for all, fired ready": Mask(ALL | ONCE), Add Rouse Wait;
    "once, for output, fired": Mask(OUT | ONCE), Add Wait;
    "once, for hang-ups, armed": Mask(ONCE), Add;
    "once, parted": Mask(HUP | ONCE), Add Part;
    "once, parted, fired": Mask(ALL | ONCE), Add Part Wait;
    "once, fired, parted": Ready(ONCE), Add Rouse Wait Calm Part;
    "exclusive, idle": Ready(EXCLUSIVE), Add;
    "exclusive, ready": Ready(EXCLUSIVE), Add Rouse;
    "exclusive, edge, pending": Ready(EXCLUSIVE | EDGE), Add Rouse;
    "exclusive, edge, consumed": Ready(EXCLUSIVE | EDGE), Add Rouse Wait;
    "wakeup, edge, consumed": Ready(WAKEUP | EDGE), Add Rouse Wait;
    "wakeup, once, fired": Ready(WAKEUP | ONCE), Add Rouse Wait Calm;
}
