//! Has sockets listen, and those connect that wait to be accepted.

use std::os::fd::{AsFd, AsRawFd};

use dormouse_puppet::Batch;

use super::address::{Address, Binding, Publish, bind_all};
use super::creation::{LONGEST, Maker, connect, reach_of, socket, widen};
use super::set::{Caller, Link};
use super::spec::Spec;
use super::waiting::Client;
use crate::file::FileId;
use crate::file::socket_options::Now;
use crate::file::stand_in::StandIn;
use crate::{Error, Result};

impl Maker<'_> {
    /// Has all that listen do so, and those connect that wait to be accepted.
    pub(super) fn listen_all(&mut self) -> Result<()> {
        let family = self.family;
        let mut listening: Vec<_> = family
            .of_kind(false)
            .filter_map(|(id, member)| match &member.link {
                Link::Listening(waiting) => Some((member.spec.peer.as_ref(), id, waiting)),
                _ => None,
            })
            .collect();
        listening.sort_by_key(|&(by, id, _)| (by, id));
        listening.iter().try_for_each(|&(_, id, _)| self.make_gone(id))?;
        for same in listening.chunk_by(|one, other| one.0 == other.0) {
            let listen = |of: &dyn Fn(FileId) -> i32| {
                let mut batch = Batch::new();
                for &(_, id, _) in same {
                    let fd = self.made.files[&id].as_raw_fd();
                    batch.call(libc::SYS_listen, [fd.into(), of(id).into()]);
                }
                // Only one can have a pid, and those who connect may want it, too.
                StandIn::new(same[0].0)?.run(batch).map(drop)
            };
            if same.iter().any(|(_, _, waiting)| !waiting.is_empty()) {
                listen(&|_| LONGEST)?;
                for (_, id, waiting) in same {
                    self.wait(*id, waiting)?;
                }
            }
            listen(&|id| family.get(id).spec.backlog.cast_signed())?;
            let idle = same.iter().filter(|(_, _, waiting)| waiting.is_empty());
            idle.copied().try_for_each(|(_, id, _)| self.call_on(id))?;
        }
        Ok(())
    }

    /// Has somebody wait, who is sent away when queues are filled. A listener
    /// on whom nobody calls reports nothing, and an epoll that has reported it
    /// can only be made as long as it does.
    fn call_on(&self, listener: FileId) -> Result<()> {
        let caller = socket(self.family.get(listener).spec.kind)?;
        dormouse_kernel::socket::connect(caller.as_fd(), &reach_of(self, listener))
            .map_err(Error::kernel("connect", "a unix socket"))
    }

    /// Connects those who wait, in their order.
    fn wait(&self, listener: FileId, callers: &[Caller]) -> Result<()> {
        if callers.is_empty() {
            return Ok(());
        }
        let spec = &self.family.get(listener).spec;
        let now = Now::New(self.made.models.of(spec.kind)?);
        spec.options.apply_inherited(self.made.files[&listener].as_fd(), now)?;
        let to = reach_of(self, listener);
        let known = self.family.get(listener).spec.waiting();
        let by_and_socket = |(place, caller): (usize, &Caller)| {
            let by = known.get(place).and_then(|waiting| waiting.by.as_ref());
            match caller {
                Caller::Socket(id) => {
                    let connector = self.family.get(*id).spec.connector.as_ref();
                    (by.or(connector), &self.made.files[id])
                }
                Caller::Gone => (by, &self.made.gone[&(listener, place)]),
            }
        };
        let waiting: Vec<_> = callers.iter().enumerate().map(by_and_socket).collect();
        for same in waiting.chunk_by(|one, other| one.0 == other.0) {
            let mut batch = Batch::new();
            for (_, client) in same {
                connect(&mut batch, client.as_fd(), &to);
            }
            StandIn::new(same[0].0)?.run(batch)?;
        }
        Ok(())
    }

    /// Makes those that have closed before a listener accepted them.
    fn make_gone(&mut self, listener: FileId) -> Result<()> {
        let spec: &Spec = &self.family.get(listener).spec;
        for (place, waiting) in spec.waiting().iter().enumerate() {
            let Client::Closed(name) = &waiting.client else { continue };
            let file = socket(spec.kind)?;
            if !name.is_empty() {
                let address = Address::lost(name.clone());
                let (socket, publish) = (file.as_fd(), Publish::IfMissing);
                bind_all(&[Binding { socket, address: &address, publish }])?;
            }
            widen(file.as_fd())?;
            self.made.gone.insert((listener, place), file);
        }
        Ok(())
    }
}
