//! Ten thousand mappings.
//!
//! Verified: contents of each; that they still are ten thousand (neighbours differ in protection).
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const COUNT: usize = 10_000;

fn run(cx: &mut Context) {
    let area = Area::anonymous(COUNT * PAGE);
    for page in 0..COUNT {
        area.write(page * PAGE, page as u64);
        if page % 2 == 1 {
            area.pages(page, 1).protect(libc::PROT_READ);
        }
    }

    cx.ready_and_wait();

    let wrong = (0..COUNT).find(|&page| area.read(page * PAGE) != page as u64);
    check_eq!(wrong, None, "the first page that differs");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
    let within = maps.lines().filter(|line| {
        let start = line.split('-').next().and_then(|s| usize::from_str_radix(s, 16).ok());
        start.is_some_and(|s| (area.start()..area.end()).contains(&s))
    });
    check!(within.count() >= COUNT, "mappings have become fewer");
}
