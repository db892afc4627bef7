//! Random histories in two equal worlds. In one of them, half way, every epoll
//! is read, closed, and built anew. From then on nobody must be able to tell
//! which one that was.

mod world;

use std::os::fd::AsFd as _;

use epoll_interest::Inspector;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use world::{Op, World};

/// Numbers of keys start here in one world, and here in the other: above all
/// that anything else in this process opens.
const BASES: [u32; 2] = [1000, 2000];

#[test]
fn a_rebuilt_epoll_cannot_be_told_from_the_first() {
    let cases = std::env::var("EPOLL_INTEREST_CASES").ok();
    let cases = cases.map_or(2000, |cases| cases.parse().unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let history =
        (prop::collection::vec(world::op(), 0..60), prop::collection::vec(world::op(), 0..40));
    let inspector = std::cell::RefCell::new(Inspector::new().unwrap());
    TestRunner::new(config)
        .run(&history, |(before, after)| check(&mut inspector.borrow_mut(), &before, &after))
        .unwrap();
}

fn check(inspector: &mut Inspector, before: &[Op], after: &[Op]) -> Result<(), TestCaseError> {
    let [mut kept, mut rebuilt] = BASES.map(World::new);
    for op in before {
        prop_assert_eq!(kept.apply(op), rebuilt.apply(op), "{:?} before", op);
    }
    // What is documented as not kept are pending items, in rare states. Both
    // worlds take those out.
    while let Some(&epoll) = kept.not_kept(inspector).first() {
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
