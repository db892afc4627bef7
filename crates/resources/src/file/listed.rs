//! What the kernel lists of all sockets of a kind at once.

use std::collections::BTreeMap;

use dormouse_kernel::sock_diag::{self, SockDiag};

use crate::Result;

/// Sockets by inode, listed when the first is asked for.
#[derive(Debug)]
pub(super) struct Listed<T>(Option<BTreeMap<u32, T>>);

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Clone> Listed<T> {
    /// What is listed of the socket with an inode, if it is; `list` gives all, `inode` that of each.
    pub(super) fn of(
        &mut self,
        wanted: u32,
        list: impl FnOnce(&SockDiag) -> Result<Vec<T>, sock_diag::Error>,
        inode: impl Fn(&T) -> u32,
    ) -> Result<Option<T>> {
        let listed = match &self.0 {
            Some(listed) => listed,
            None => {
                let all = list(&SockDiag::open()?)?;
                self.0.insert(all.into_iter().map(|socket| (inode(&socket), socket)).collect())
            }
        };
        Ok(listed.get(&wanted).cloned())
    }
}
