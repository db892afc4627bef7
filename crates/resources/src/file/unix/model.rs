//! New sockets, which most are like.

use std::cell::OnceCell;

use super::creation::socket;
use super::spec::Kind;
use crate::Result;
use crate::file::likeness::Model;

/// One of each kind.
#[derive(Debug, Default)]
pub(super) struct Models([OnceCell<Model>; 3]);

impl Models {
    /// A new socket of a kind.
    pub(super) fn of(&self, kind: Kind) -> Result<&Model> {
        let model = &self.0[match kind {
            Kind::Stream => 0,
            Kind::Datagram => 1,
            Kind::SeqPacket => 2,
        }];
        if model.get().is_none() {
            // Nobody else sets it.
            let _ = model.set(Model::new(socket(kind)?));
        }
        Ok(model.get().expect("set above"))
    }
}
