//! Random histories in two equal worlds. In one of them, half way, every epoll
//! is read, closed, and built anew. From then on nobody must be able to tell
//! which one that was.
//!
//! They are the same every time (`.cargo/config.toml`):
//! `PROPTEST_RNG_SEED=random EPOLL_INTEREST_CASES=20000` looks further.

mod world;

use std::os::fd::AsFd as _;

use epoll_interest::{Events, Inspector};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use world::{Op, PLAIN as EPOLL, World};

/// Numbers of keys start here in one world, and here in the other: above all
/// that anything else in this process opens. Tests can run beside each other.
const BASES: [u32; 2] = [1000, 2000];
const OTHER_BASES: [u32; 2] = [4000, 5000];

#[test]
fn a_rebuilt_epoll_cannot_be_told_from_the_first() {
    let cases = std::env::var("EPOLL_INTEREST_CASES").ok();
    let cases = cases.map_or(2000, |cases| cases.parse().unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let history =
        (prop::collection::vec(world::op(), 0..60), prop::collection::vec(world::op(), 0..40));
    let inspector = std::cell::RefCell::new(Inspector::new().unwrap());
    TestRunner::new(config)
        .run(&history, |(before, after)| check(&mut inspector.borrow_mut(), BASES, &before, &after))
        .unwrap();
}

fn check(
    inspector: &mut Inspector,
    bases: [u32; 2],
    before: &[Op],
    after: &[Op],
) -> Result<(), TestCaseError> {
    let [mut kept, mut rebuilt] = bases.map(World::new);
    for op in before {
        prop_assert_eq!(kept.apply(op), rebuilt.apply(op), "{:?} before", op);
    }
    // What is documented as not kept are pending items, in rare states. Both
    // worlds take those out. Both are asked, as an epoll that is asked drops
    // what it would not report.
    loop {
        let not_kept = kept.not_kept(inspector);
        prop_assert_eq!(&not_kept, &rebuilt.not_kept(inspector), "not kept");
        let Some(&epoll) = not_kept.first() else { break };
        let look = Op::Wait { epoll, most: 64 };
        prop_assert_eq!(kept.apply(&look), rebuilt.apply(&look), "looking at {}", epoll);
    }
    let (first, second) = (kept.interests(inspector), rebuilt.interests(inspector));
    prop_assert_eq!(&first, &second, "reading");
    rebuilt.rebuild(inspector);
    let (kept_still, now) = (kept.interests(inspector), rebuilt.interests(inspector));
    prop_assert_eq!(&first, &kept_still, "reading left a trace");
    prop_assert_eq!(&first, &now, "rebuilding");
    for op in after {
        prop_assert_eq!(kept.apply(op), rebuilt.apply(op), "{:?} after", op);
    }
    Ok(())
}

#[test]
fn a_rebuilt_epoll_gets_its_waiters_nothing_new() {
    // The smallest world: nothing happens, and nothing is reported.
    let mut inspector = Inspector::new().unwrap();
    let mut world = World::new(3000);
    world.rebuild(&mut inspector);
    let interest = inspector.get_events(world.epoll(0).as_fd()).unwrap().interest;
    assert!(interest.items.is_empty() && interest.pending.is_empty());
}

/// An epoll that watches one which has nothing to report any more: asking it
/// drops that item.
#[test]
fn asking_leaves_the_same_traces_in_both_worlds() {
    const RIGHT: usize = 7;
    const LEFT: usize = 6;
    let open = |number, file| Op::Open { number, file };
    let add = |epoll, number, events: Events| {
        let events = events.bits();
        Op::Add { epoll, number, events, data: 0 }
    };
    let before = [
        open(0, EPOLL + 3),
        open(5, EPOLL + 2),
        open(1, RIGHT),
        Op::Write { file: LEFT },
        add(0, 1, Events::IN),
        open(2, 0),
        add(1, 0, Events::IN | Events::OUT),
        open(0, EPOLL),
        add(2, 1, Events::OUT),
        add(3, 5, Events::IN),
        add(3, 0, Events::IN | Events::OUT),
        Op::Read { file: RIGHT },
        Op::Wait { epoll: 3, most: 1 },
    ];
    check(&mut Inspector::new().unwrap(), OTHER_BASES, &before, &[]).unwrap();
}
