//! Every scenario, one line each.

use crate::Scenario;

/// All scenarios, by subject.
pub static ALL: &[&Scenario] = &[
    &crate::creds::ids::SCENARIO,
    &crate::files::eventfd::SCENARIO,
    &crate::files::eventfd_full::SCENARIO,
    &crate::files::eventfd_semaphore::SCENARIO,
    &crate::files::regular::SCENARIO,
    &crate::memory::anonymous::SCENARIO,
    &crate::pipes::bytes::SCENARIO,
    &crate::signals::actions::SCENARIO,
    &crate::syscalls::nanosleep::SCENARIO,
    &crate::threads::two::SCENARIO,
    &crate::tree::deep::SCENARIO,
    &crate::tree::sleeper::SCENARIO,
];
