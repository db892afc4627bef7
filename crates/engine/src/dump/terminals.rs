//! Which sessions have which controlling terminals.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::proc::Stat;
use dormouse_kernel::{HostPid, NsPid};
use dormouse_resources::file::{Control, Controlled, File, FileId, Terminal};
use dormouse_resources::task::Refusal;

use super::frozen::Frozen;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// The sessions that have one, by the device, as `/proc` tells.
pub(super) fn controlled(frozen: &Frozen) -> Controlled {
    let mut controlled = Controlled::new();
    for stat in frozen.processes.iter().map(|process| &process.stat) {
        let (Some(device), Some(session)) = (stat.tty, stat.session) else { continue };
        let Some(session) = NsPid::from_raw(session.as_raw()) else { continue };
        let foreground = stat.tty_pgrp.map_or(0, |group| group.as_raw());
        controlled.insert(device, Control { session, foreground });
    }
    controlled
}

/// A leader can only get back a terminal that the images have.
pub(super) fn check(frozen: &Frozen, files: &BTreeMap<FileId, File>) -> Result<(), Error> {
    let control = |file: &File| file.as_terminal()?.control();
    let controlled: BTreeSet<i32> =
        files.values().filter_map(control).map(|control| control.session.as_raw()).collect();
    let inherited = |file: &&File| file.as_terminal().is_some_and(Terminal::is_inherited);
    let outer: BTreeSet<i32> = files
        .values()
        .filter(inherited)
        .filter_map(control)
        .map(|control| control.session.as_raw())
        .collect();
    for process in &frozen.processes {
        let stat = &process.stat;
        let leads = stat.session == Some(process.pid) && !process.is_zombie();
        let pid = process.pid.as_raw();
        if leads && stat.tty.is_some() && (outer.contains(&pid) || !controlled.contains(&pid)) {
            return Err(Cause::Unsupported(Refusal::ForeignTerminal))
                .of(Phase::Collect, process.pid);
        }
    }
    Ok(())
}

/// The processes that do not have the terminal that their session has.
pub(super) fn without(frozen: &Frozen) -> BTreeSet<HostPid> {
    let stats = || frozen.processes.iter().map(|process| &process.stat);
    let controlled: BTreeSet<_> =
        stats().filter(|stat| stat.tty.is_some()).filter_map(|stat| stat.session).collect();
    let lacks = |stat: &&Stat| {
        stat.tty.is_none() && stat.session.is_some_and(|session| controlled.contains(&session))
    };
    stats().filter(lacks).map(|stat| stat.pid).collect()
}
