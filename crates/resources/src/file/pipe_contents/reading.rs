//! Takes copies of what is in pipes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, read, write};
use rustix::pipe::{SpliceFlags, splice, tee};

use super::{BUFFER, PipeContents, Run, capacity, pipe, queued, resize};
use crate::{Error, Result};

impl PipeContents {
    /// Looks into the pipe behind `file`, a descriptor to read from.
    pub(crate) fn collect(file: BorrowedFd<'_>, tools: &mut Tools) -> Result<Self> {
        let capacity = capacity(file)?;
        let Tools { copies, parts } = tools;
        let (copy, into) = match copies.entry(capacity) {
            Entry::Occupied(pipe) => pipe.into_mut(),
            Entry::Vacant(place) => {
                let (copy, into) = pipe()?;
                resize(&into, capacity)?;
                place.insert((copy, into))
            }
        };
        let (copy, into) = (&*copy, &*into);
        // A buffer need not be a page: ask for all there is.
        let wanted = i32::MAX as usize;
        let copied = match tee(file, into, wanted, SpliceFlags::NONBLOCK) {
            Ok(copied) => copied as u64,
            Err(Errno::AGAIN) => 0,
            Err(source) => return Err(Error::kernel("tee", "a pipe")(source)),
        };
        if copied != queued(file)? || copied > u64::from(capacity) {
            return Err(Error::Unsupported {
                object: "a pipe",
                detail: format!("{copied} bytes in a pipe for {capacity}").into(),
                reason: "it holds more than can be put into another of its size",
                hint: "checkpoint the program when it has read some of that",
            });
        }
        let mut runs = match copied {
            0 => Vec::new(),
            _ => match parts {
                Some(parts) => take_apart(copy, copied, parts)?,
                none => take_apart(copy, copied, none.insert(Parts::new()?))?,
            },
        };
        let buffers: usize = runs.iter().map(|run| run.bytes.len().div_ceil(BUFFER)).sum();
        if buffers > capacity as usize / BUFFER {
            runs = joined(runs);
        }
        Ok(Self { capacity: Some(capacity), runs })
    }
}

/// The same with all that is a stream in one piece.
fn joined(runs: Vec<Run>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    for mut run in runs {
        match joined.last_mut() {
            Some(last) if !run.packet && !last.packet => last.bytes.append(&mut run.bytes),
            _ => joined.push(run),
        }
    }
    joined
}

/// Pipes of this process that the contents of others go through. They are empty
/// between two, unless one could not be read, and then there is no dump.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// For copies, by their capacity.
    copies: BTreeMap<u32, (OwnedFd, OwnedFd)>,
    parts: Option<Parts>,
}

/// What takes buffers apart.
#[derive(Debug)]
struct Parts {
    /// With room for one buffer, whatever it holds.
    one: (OwnedFd, OwnedFd),
    two: (OwnedFd, OwnedFd),
}

impl Parts {
    fn new() -> Result<Self> {
        let (one, two) = (pipe()?, pipe()?);
        resize(&one.1, 1)?;
        Ok(Self { one, two })
    }
}

/// Takes the buffers out of a pipe that holds `left` bytes.
fn take_apart(pipe: &OwnedFd, mut left: u64, parts: &Parts) -> Result<Vec<Run>> {
    let failed = |call| Error::kernel(call, "a pipe");
    let Parts { one: (one, into_one), two: (two, into_two) } = parts;
    let mut runs: Vec<Run> = Vec::new();
    while left > 0 {
        let len = splice(pipe, None, into_one, None, left as usize, SpliceFlags::NONBLOCK)
            .map_err(failed("splice"))?;
        splice(one, None, into_two, None, len, SpliceFlags::NONBLOCK).map_err(failed("splice"))?;
        // A read stops behind a packet, and goes on behind a part of a stream.
        write(into_two, &[0]).map_err(failed("write"))?;
        let mut bytes = vec![0; len + 1];
        let got = read(two, &mut bytes[..]).map_err(failed("read"))?;
        let packet = got == len;
        if packet {
            read(two, &mut [0]).map_err(failed("read"))?;
        }
        bytes.truncate(len);
        left -= len as u64;
        runs.push(Run { bytes, packet });
    }
    Ok(runs)
}
