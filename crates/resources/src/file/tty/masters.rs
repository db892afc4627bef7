//! The pseudo terminals of a dump whose masters are in the tree, and what keeps one from being saved.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use dormouse_kernel::terminal;
use tracing::debug;

use super::driver::{self, Driver};
use super::flow::{self, Flows};
use super::info::Pty;
use super::peek::{Peek, PeekError, Queues};
use super::queue;
use super::{FileKind, Terminal};
use crate::file::{CollectCx, Probe};
use crate::{Error, Result};

/// The pseudo terminals whose masters are in the tree.
pub(super) fn masters(cx: &CollectCx<'_>) -> Result<BTreeMap<u32, Rc<Pty>>> {
    let mut masters = BTreeMap::new();
    let (mut busy, mut open, mut still) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for probe in cx.probes.values().filter(|probe| Terminal::claims(probe)) {
        let is_master = match Driver::of(probe.device()) {
            Some(Driver::Master) => true,
            Some(Driver::Slave) => false,
            _ => continue,
        };
        let file = probe.duplicate()?;
        let index = if is_master {
            terminal::index(&file).map_err(Error::kernel("TIOCGPTN", &probe.link))?
        } else {
            open.insert(driver::index(probe.device()));
            driver::index(probe.device())
        };
        // A slave that has hung up has nothing, and says so.
        if terminal::readable(&file).unwrap_or(0) > 0 {
            busy.insert(index);
        }
        if !flow::runs(file.as_fd())? {
            still.insert(index);
        }
        if is_master {
            let pty = Pty::default();
            *pty.master.borrow_mut() = Some((probe.link.clone(), probe.flags()));
            if masters.contains_key(&index) {
                pty.problem.set(Some(SAME_NUMBER));
            }
            masters.insert(index, (Rc::new(pty), file, probe));
        }
    }
    let mut peek = None;
    for (&index, (pty, master, probe)) in &masters {
        let termios = terminal::termios(master).map_err(Error::kernel("TCGETS2", &probe.link))?;
        let is_canonical = queue::is_canonical(&termios);
        // Elsewhere all that is typed can be read, and the slave says how much.
        let is_open = open.contains(&index);
        if busy.contains(&index) || still.contains(&index) || is_canonical || !is_open {
            let peek = peek.get_or_insert_with(Peek::open);
            let found = look(peek, master.as_fd(), is_canonical);
            match found {
                Ok((queues, flows)) => {
                    *pty.queues.borrow_mut() = queues;
                    pty.flows.set(flows);
                }
                Err(problem) => pty.problem.set(Some(problem)),
            }
        }
    }
    Ok(masters.into_iter().map(|(index, (pty, ..))| (index, pty)).collect())
}

pub(super) fn refused<T>(probe: &Probe, (reason, hint): Problem) -> Result<T> {
    Err(Error::Unsupported {
        object: "a terminal",
        detail: probe.link.clone().into(),
        reason,
        hint,
    })
}

/// What is in a pseudo terminal, and whether its output is stopped.
fn look(
    peek: &mut Result<Peek, PeekError>,
    master: BorrowedFd<'_>,
    is_canonical: bool,
) -> Result<(Queues, Flows), Problem> {
    let error = match peek {
        Ok(peek) => match peek.both(master, is_canonical) {
            Ok((_, flows)) if flows.echoes => return Err(ECHOES),
            Ok((queues, flows)) if !flows.fits(&queues.0) => return Err(FULL),
            Ok(found) => return Ok(found),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    debug!(error, "the kernel's structures cannot be read");
    Err(HIDDEN)
}

/// Why a pseudo terminal cannot be saved, and what can be done.
pub(super) type Problem = (&'static str, &'static str);

const SAME_NUMBER: Problem = (
    "another one of the tree has the same number, in another instance of devpts",
    "dump the programs of one container only",
);
const ECHOES: Problem = (
    "what was typed while its output was stopped or full has not been shown yet",
    "let the output go on, and have it read",
);
const FULL: Problem = (
    "its output is stopped, and it is full of what was typed",
    "let the output go on, or have the program read first",
);
const HIDDEN: Problem = (
    "it may hold a line that was begun, or more that was not read yet, and this system does not let \
     that be looked at",
    "run dormouse with CAP_BPF and CAP_PERFMON, on a kernel with type information (BTF)",
);
pub(super) const NEWS: Problem = (
    "it is in packet mode, and has not been told yet what happened to its slave",
    "have the program read from it first",
);
pub(super) const DISCIPLINE: Problem = (
    "it has another line discipline than terminals have",
    "stop what uses it first (PPP, SLIP, Bluetooth)",
);
