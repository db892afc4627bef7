//! All epolls of a checkpoint as one set.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use dormouse_image::{ImageDir, ImageName};
use epoll_interest::{Rebuild, Wanted};

use super::Epoll;
use crate::Result;
use crate::corrupt::corrupt;
use crate::file::source::SourcePart;
use crate::file::{FileKind, FileRef};

/// All epolls of a checkpoint, to be filled together.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) wanted: RefCell<Vec<Wanted<FileRef>>>,
    /// Once all are known.
    rebuild: OnceCell<Rebuild<FileRef>>,
}

impl Set {
    pub(super) fn rebuild(&self) -> &Rebuild<FileRef> {
        self.rebuild.get().expect("set when all files were decoded")
    }
}

#[derive(Default)]
pub(super) struct Source(pub(super) Rc<Set>);

impl SourcePart for Source {
    fn open(_: &ImageDir) -> Result<Self> {
        Ok(Self::default())
    }

    fn end(self) -> Result<()> {
        let wanted = self.0.wanted.take();
        let epolls: Vec<_> = wanted.iter().map(|wanted| wanted.epoll).collect();
        let rebuild = Rebuild::new(wanted).map_err(|problem| {
            use epoll_interest::WantedError::{Loop, Mask, Pending, SameEpoll, SameKey};
            let (epoll, reason) = match problem {
                SameEpoll { epoll } => (epoll, "it is there twice"),
                SameKey { epoll, .. } => (epoll, "it has two items with one key"),
                Pending { epoll } => (epoll, "its pending items are not items of it, each once"),
                Mask { epoll, .. } => (epoll, "an item has a mask that cannot be"),
                Loop { epoll } => (epoll, "it watches itself"),
            };
            let id = epolls.get(epoll).map_or(0, |epoll| epoll.id().as_raw());
            corrupt(ImageName::Files, Epoll::NAME, id, reason)
        })?;
        // Nobody else sets it.
        let _ = self.0.rebuild.set(rebuild);
        Ok(())
    }
}
