//! Memory in a task for batches.

use std::io::{IoSlice, IoSliceMut};

use dormouse_kernel::{Addr, AddrRange, HostPid, remote_memory};
use tracing::{Level, enabled, trace};

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

/// The same for several tasks of one process at once, each with a room of its
/// own: `task` is any of them.
pub(crate) fn put_all(task: HostPid, batches: &[(AddrRange, &Batch)]) -> Result<(), Error> {
    let mut bytes = Vec::with_capacity(batches.len());
    let mut pieces = Vec::with_capacity(batches.len());
    for &(room, batch) in batches {
        let needed = batch.size();
        let piece = AddrRange::with_len(room.start(), needed as u64);
        let Some(piece) = piece.filter(|_| needed as u64 <= room.len()) else {
            return Err(Error::TooLarge { task, needed, room: room.len() });
        };
        bytes.push(batch.lay_out(room.start()));
        pieces.push(piece);
    }
    let all: usize = bytes.iter().map(Vec::len).sum();
    let slices: Vec<_> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
    if all > 0 && remote_memory::write(task, &pieces, &slices)? < all {
        // One after the other they say which fails.
        for (piece, bytes) in pieces.iter().zip(&bytes) {
            remote_memory::write_exact(task, piece.start(), bytes)?;
        }
    }
    Ok(())
}

/// Reads the replies back; `left` calls were not made, the one that failed
/// among them.
pub(crate) fn take(task: HostPid, base: Addr, batch: &Batch, left: u64) -> Result<Replies, Error> {
    let mut memory = vec![0; batch.size()];
    remote_memory::read_exact(task, base, &mut memory)?;
    judge(task, batch, left, memory)
}

/// The same for several tasks of one process at once.
pub(crate) fn take_all(ran: &[(HostPid, Addr, &Batch, u64)]) -> Result<Vec<Replies>, Error> {
    let Some(&(any, ..)) = ran.first() else { return Ok(Vec::new()) };
    let mut memories: Vec<_> = ran.iter().map(|(_, _, batch, _)| vec![0; batch.size()]).collect();
    let pieces = ran.iter().map(|&(_, base, batch, _)| {
        AddrRange::with_len(base, batch.size() as u64).expect("it was written there")
    });
    let pieces: Vec<_> = pieces.collect();
    let all: usize = memories.iter().map(Vec::len).sum();
    let mut slices: Vec<_> = memories.iter_mut().map(|memory| IoSliceMut::new(memory)).collect();
    if all > 0 && remote_memory::read(any, &pieces, &mut slices)? < all {
        for (&(task, base, ..), memory) in ran.iter().zip(&mut memories) {
            remote_memory::read_exact(task, base, memory)?;
        }
    }
    let judged = ran.iter().zip(memories);
    judged.map(|(&(task, _, batch, left), memory)| judge(task, batch, left, memory)).collect()
}

/// Whether the log is to have every call.
pub(crate) fn is_told() -> bool {
    enabled!(Level::TRACE)
}

fn judge(task: HostPid, batch: &Batch, left: u64, memory: Vec<u8>) -> Result<Replies, Error> {
    if is_told() {
        let made = batch.len() - left.saturating_sub(1) as usize;
        for index in 0..made {
            let (call, args) = batch.describe(index, &memory);
            trace!(tid = %task, "{call}({args}) = {}", result(&memory, index));
        }
    }
    if left > 0 {
        let index = batch.len() - left as usize;
        let (call, args) = batch.describe(index, &memory);
        let source = failure(result(&memory, index)).unwrap_or(dormouse_kernel::Errno::IO);
        return Err(Error::Call { task, call, args, source });
    }
    Ok(batch.replies(memory))
}
