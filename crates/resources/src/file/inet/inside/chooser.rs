//! The program that chooses among sockets that share a port.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use epoll_interest::kernel_memory::{Address, ReadError};

use super::{Inside, InsideError, Layout};
use crate::steady::ATTEMPTS;

/// A program that chooses among the sockets that share a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Chooser {
    /// As which of them the program knows the socket that was asked for.
    pub(in super::super) place: u32,
    /// Its instructions; `None` if it is eBPF, which the kernel keeps in a form
    /// that cannot be loaded again.
    pub(in super::super) classic: Option<Vec<[u8; 8]>>,
}

/// Sockets that share a port.
pub(super) struct Group {
    /// The place of each.
    places: BTreeMap<Address, u32>,
    /// As in [`Chooser`], if a program chooses.
    program: Option<Option<Vec<[u8; 8]>>>,
}

impl Inside {
    /// The program that chooses among the sockets that share a socket's port.
    pub(in super::super) fn chooser(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Option<Chooser>, InsideError> {
        for _ in 0..ATTEMPTS {
            match self.try_chooser(socket) {
                Err(ReadError::Fault) => {}
                read => return Ok(read?),
            }
        }
        Err(InsideError::Restless)
    }

    fn try_chooser(&mut self, socket: BorrowedFd<'_>) -> Result<Option<Chooser>, ReadError> {
        let sock = self.socks(&[socket])?[0];
        let group = self.memory.word(sock + self.layout.group as u64)?;
        if group == 0 {
            return Ok(None);
        }
        if !self.groups.contains_key(&group) {
            let read = self.group(group)?;
            self.groups.insert(group, read);
        }
        let Group { places, program } = &self.groups[&group];
        // One that is not bound yet is of a group of its own.
        let place = places.get(&sock).copied().unwrap_or(0);
        Ok(program.clone().map(|classic| Chooser { place, classic }))
    }

    /// Reads who shares a port.
    fn group(&mut self, group: Address) -> Result<Group, ReadError> {
        let Layout { group_len, group_program, group_members, .. } = self.layout;
        let Layout { program_original, original_len, original_code, .. } = self.layout;
        let program = self.memory.word(group + group_program as u64)?;
        if program == 0 {
            return Ok(Group { places: BTreeMap::new(), program: None });
        }
        let members = self.memory.word(group + group_len as u64)? as u16;
        let members = self.memory.words(&row(group + group_members as u64, members))?;
        let original = self.memory.word(program + program_original as u64)?;
        let mut classic = None;
        if original != 0 {
            let len = self.memory.word(original + original_len as u64)? as u16;
            let code = self.memory.word(original + original_code as u64)?;
            classic = Some(self.memory.read(&row(code, len), 8)?.as_chunks::<8>().0.to_vec());
        }
        Ok(Group { places: members.into_iter().zip(0..).collect(), program: Some(classic) })
    }
}

/// Where so many words are, one after the other.
fn row(first: Address, len: u16) -> Vec<Address> {
    (0..u64::from(len)).map(|index| first + 8 * index).collect()
}
