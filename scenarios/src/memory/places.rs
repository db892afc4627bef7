//! Mappings at unusual addresses: as low as allowed, right below the end of user space, next to each
//! other without merging, in the middle of nowhere.
//!
//! Verified: contents at each.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `vm.mmap_min_addr` is 65536 unless changed; user space ends a page below 2^47.
const PLACES: [usize; 7] = [
    0x1_0000,
    0x12_3000,
    0x1234_5000,
    0x1_0000_0000 - PAGE,
    0x1234_5678_9000,
    0x6000_0000_0000,
    0x7fff_ffff_e000,
];

fn run(cx: &mut Context) {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let areas: Vec<(usize, Area)> = PLACES
        .into_iter()
        .filter_map(|at| Some((at, Area::map_at(at, PAGE, prot, libc::MAP_PRIVATE, None).ok()?)))
        .collect();
    // The stack may lie at the upper end, by chance.
    check!(areas.len() >= PLACES.len() - 1, "only {} places can be mapped", areas.len());
    areas.iter().for_each(|(at, area)| area.fill(*at as u64 >> 12));
    let shared = Area::map_at(PLACES[1] + PAGE, PAGE, prot, libc::MAP_SHARED, None).expect("mmap");
    shared.fill(4);

    cx.ready_and_wait();

    areas.iter().for_each(|(at, area)| area.verify(*at as u64 >> 12, "an unusual place"));
    shared.verify(4, "the shared neighbour");
}
