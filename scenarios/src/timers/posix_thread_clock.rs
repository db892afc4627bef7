//! Timers on a thread's own processor time (`CLOCK_THREAD_CPUTIME_ID`), which do not tell whose.
//!
//! Verified: the timer of a thread goes on while that thread works, and stands still while another
//! does.
//! CRIU: makes the first thread's timers of them.

use std::time::Duration;

use crate::sys::Ask;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const WORK: Duration = Duration::from_millis(40);

fn make() -> i32 {
    let ask = Ask {
        clock: libc::CLOCK_THREAD_CPUTIME_ID,
        notify: libc::SIGEV_NONE,
        signal: 0,
        tid: 0,
        value: 0,
    };
    let id = sys::timer_create(&ask).expect("timer_create");
    sys::timer_start(id, Duration::from_secs(1_000), Duration::ZERO);
    id
}

fn left(id: i32) -> Duration {
    sys::timer_left(id).map_or(Duration::ZERO, |(left, _)| left)
}

fn run(cx: &mut Context) {
    let own = make();
    let (thread, _) = cx.thread(move |cx| {
        let id = make();
        cx.arrive(sys::gettid());
        cx.wait_go();
        let (mine, main) = (left(id), left(own));
        check!(mine > Duration::from_secs(999), "the thread's timer has {mine:?} left");
        // The main thread wakes up now and then.
        while mine - left(id) < WORK {}
        let others = main.saturating_sub(left(own));
        check!(others < WORK / 2, "the main thread's timer went on by {others:?} as well");
    });

    cx.ready_and_wait();
    check!(thread.join().is_ok(), "the thread panicked");
    let main = left(own);
    check!(main > Duration::from_secs(999), "the main thread's timer has {main:?} left");
    check!(left(own) < main, "the main thread's timer stands still while it works");
}
