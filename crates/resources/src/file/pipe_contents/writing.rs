//! Puts contents into pipes.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::pipe::{SpliceFlags, tee};

use super::{BUFFER, PipeContents, Run, resize};
use crate::file::probe::reopen;
use crate::{Error, Result};

impl PipeContents {
    /// Makes the pipe behind `file`, any descriptor of it, hold this.
    pub(crate) fn fill(&self, file: BorrowedFd<'_>) -> Result<()> {
        let Self { capacity, runs } = self;
        if capacity.is_none() && runs.is_empty() {
            return Ok(());
        }
        // Both ends: there need be no other reader, nor a writer.
        let pipe = reopen(file, OFlags::RDWR | OFlags::NONBLOCK)
            .map_err(Error::kernel("open", "a pipe"))?;
        let held = runs.iter().map(|run| run.bytes.len()).sum::<usize>();
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        match *capacity {
            Some(capacity) => resize(&pipe, capacity)?,
            None if held > super::capacity(file)? => resize(&pipe, held)?,
            None => {}
        }
        let (mut packets, mut aside) = (false, None);
        for (index, Run { bytes, packet }) in runs.iter().enumerate() {
            if packets != *packet {
                packets = *packet;
                set_packets(&pipe, packets)?;
            }
            let is_last = index + 1 == runs.len();
            let len = bytes.len();
            let (whole, part) =
                bytes.split_at(if *packet || is_last { len } else { len - len % BUFFER });
            write_all(&pipe, whole)?;
            if !part.is_empty() {
                let aside = match &mut aside {
                    Some(aside) => aside,
                    none => none.insert(super::pipe()?),
                };
                append_apart(&pipe, part, aside)?;
            }
        }
        Ok(())
    }
}

fn write_all(pipe: &OwnedFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let written = write(pipe, bytes).map_err(Error::kernel("write", "a pipe"))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Appends less of a stream than fills a buffer. If it were just written, the kernel would add
/// what follows to that buffer (`pipe_write`, `fs/pipe.c`); it does not if that came by `tee(2)`
/// from a pipe that is `aside`, and empty.
fn append_apart(pipe: &OwnedFd, bytes: &[u8], (aside, into): &(OwnedFd, OwnedFd)) -> Result<()> {
    write_all(into, bytes)?;
    let copied = tee(aside, pipe, bytes.len(), SpliceFlags::NONBLOCK)
        .map_err(Error::kernel("tee", "a pipe"))?;
    read(aside, &mut vec![0; bytes.len()][..]).map_err(Error::kernel("read", "a pipe"))?;
    // Fewer, only if there is no room.
    if copied == bytes.len() { Ok(()) } else { Err(Error::kernel("tee", "a pipe")(Errno::AGAIN)) }
}

/// Whether what is written from now on is packets.
fn set_packets(pipe: &OwnedFd, packets: bool) -> Result<()> {
    let old = fcntl_getfl(pipe).map_err(Error::kernel("F_GETFL", "a pipe"))?;
    let mut new = old;
    new.set(OFlags::DIRECT, packets);
    if new == old {
        return Ok(());
    }
    fcntl_setfl(pipe, new).map_err(Error::kernel("F_SETFL", "a pipe"))
}
