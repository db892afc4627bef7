//! Working and root directories, umasks.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use dormouse_puppet::Batch;
use dormouse_resources::file::{CreateCx, FileRef};
use rustix::fs::Stat;

use super::decode::{DirectoriesId, Thread, host};
use super::world::fetch;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

const PHASE: Phase = Phase::Install;

/// Those of all tasks. Must live until their batches are done.
pub(super) struct AllDirectories {
    own_root: Inode,
    done: BTreeSet<DirectoriesId>,
    open: BTreeMap<FileRef, (OwnedFd, Inode)>,
}

/// Which file it is: device and number.
type Inode = (u64, u64);

impl AllDirectories {
    pub(super) fn new() -> Result<Self, Error> {
        let own_root = inode(rustix::fs::stat("/"), "/").at(PHASE)?;
        Ok(Self { own_root, done: BTreeSet::new(), open: BTreeMap::new() })
    }

    /// Adds the calls that give a task its own, unless one with whom it shares them has done so.
    pub(super) fn give(
        &mut self,
        thread: &Thread,
        batch: &mut Batch,
        (link, cx): (u64, &mut CreateCx<'_>),
    ) -> Result<(), Error> {
        if !self.done.insert(thread.directories.number) {
            return Ok(());
        }
        let of = host(thread.tid);
        for file in [thread.directories.cwd, thread.directories.root] {
            if let Entry::Vacant(place) = self.open.entry(file) {
                let directory = cx.open_path(file).of(PHASE, of)?;
                let stat = rustix::fs::fstat(&directory);
                let inode = inode(stat, "a directory in use").of(PHASE, of)?;
                place.insert((directory, inode));
            }
        }
        let (cwd, _) = &self.open[&thread.directories.cwd];
        let (root, root_inode) = &self.open[&thread.directories.root];
        let cwd = fetch(link, batch, cwd.as_fd());
        let changed = *root_inode != self.own_root;
        let root = changed.then(|| fetch(link, batch, root.as_fd()));
        let slot = root.as_ref().map(Into::into);
        thread.directories.state.apply(batch, (&cwd).into(), slot);
        for slot in [Some(cwd), root].into_iter().flatten() {
            batch.call(libc::SYS_close, [(&slot).into()]);
        }
        Ok(())
    }
}

fn inode(stat: rustix::io::Result<Stat>, subject: &str) -> Result<Inode, Cause> {
    let failed = |source| Cause::Own { call: "stat", subject: subject.to_owned(), source };
    stat.map(|stat| (stat.st_dev, stat.st_ino)).map_err(failed)
}
