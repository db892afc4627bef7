//! Memory in a task for batches.

use dormouse_kernel::{Addr, AddrRange, HostPid, remote_memory};

use crate::batch::{Batch, failure, result};
use crate::{Error, Replies};

/// Writes the batch to the beginning of `room`.
pub(crate) fn put(task: HostPid, room: AddrRange, batch: &Batch) -> Result<(), Error> {
    let needed = batch.size();
    if needed as u64 > room.len() {
        return Err(Error::TooLarge { task, needed, room: room.len() });
    }
    Ok(remote_memory::write_exact(task, room.start(), &batch.lay_out(room.start()))?)
}

/// Reads the replies back; `left` calls were not made, the one that failed
/// among them.
pub(crate) fn take(task: HostPid, base: Addr, batch: &Batch, left: u64) -> Result<Replies, Error> {
    let mut memory = vec![0; batch.size()];
    remote_memory::read_exact(task, base, &mut memory)?;
    if left > 0 {
        let index = batch.len() - left as usize;
        let (call, args) = batch.describe(index, &memory);
        let source = failure(result(&memory, index)).unwrap_or(dormouse_kernel::Errno::IO);
        return Err(Error::Call { task, call, args, source });
    }
    Ok(batch.replies(memory))
}
