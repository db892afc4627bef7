//! Landlock domains, of which the kernel does not tell the rules.

use std::collections::BTreeMap;

use dormouse_kernel::HostPid;

use dormouse_resources::task::Refusal;

use super::Living;
use crate::cause::{At, Cause};
use crate::dump::traced::Traced;
use crate::landlock::{self, Domains, Unknown};
use crate::{Error, Phase};

/// Refuses threads in Landlock domains. Those that have shown to be in none are not asked for.
pub(super) fn check(read: &BTreeMap<HostPid, Living>) -> Result<(), Error> {
    const PHASE: Phase = Phase::Collect;
    if !dormouse_kernel::landlock::is_there() {
        return Ok(());
    }
    // In a domain itself, dormouse would take those for free that are in the same.
    let none_is_free = landlock::of_self().map_err(Cause::from).at(PHASE)?;
    let threads = read.iter().flat_map(|(&pid, process)| {
        process.threads.iter().map(move |thread| (pid, thread.tid, &thread.state.landlock))
    });
    let mut doubtful = threads.filter(|(.., landlock)| none_is_free || !landlock.is_free());
    let Some(first) = doubtful.next() else { return Ok(()) };
    let opened = Domains::open(Traced::new).map_err(Cause::from).of(PHASE, first.0);
    let (mut domains, traced) = opened?;
    let tasks = traced.newest(domains.memory(), usize::MAX).map_err(Unknown::from);
    let tasks = tasks.map_err(Cause::from).at(PHASE)?;
    let (tids, tasks): (Vec<_>, Vec<_>) = tasks.into_iter().unzip();
    let inside = domains.of(&tasks).map_err(Cause::from).at(PHASE)?;
    let inside: BTreeMap<_, _> = tids.into_iter().zip(inside).collect();
    for (pid, tid, _) in std::iter::once(first).chain(doubtful) {
        if inside.get(&tid) != Some(&false) {
            let refused = Refusal::LandlockDomain.error(format!("of tid {tid}"));
            return Err(refused).of(PHASE, pid);
        }
    }
    Ok(())
}
