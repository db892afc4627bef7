//! More shared memory objects than a restore can have open.
//!
//! Verified: the dump is refused, naming the limit; all that is mapped is as before.
//! CRIU: carries it over.

use rustix::process::{Resource, getrlimit};

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused_task("RLIMIT_NOFILE")
    .missing(|| (most() > 60_000).then(|| "more files may be open than can be mapped".into()));

/// The hard limit of descriptors.
fn most() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

fn run(cx: &mut Context) {
    let object = |number| {
        let area = Area::map(PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, None);
        area.write(0, number);
        area
    };
    let objects: Vec<Area> = (1..=most()).map(object).collect();
    cx.ready_and_wait();
    let wrong = (1..).zip(&objects).find(|(number, area)| area.read(0) != *number);
    check_eq!(wrong.map(|(number, _)| number), None, "the first object that differs");
}
