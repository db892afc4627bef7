//! What is in a pipe or fifo, and how much it can take.
//!
//! Kernel object: `struct pipe_inode_info`: a ring of buffers, each of them a
//! part of a byte stream or one packet (`O_DIRECT`, `pipe(7)`).
//! Truth from: `tee(2)` into a pipe of our own, which consumes nothing and
//! keeps each buffer as it is. There they are taken out one at a time.
//! Image: `pipe_data_entry`, and the bytes behind it. CRIU knows no packets;
//! how the bytes are divided has a field of our own.
//! Fill: by writing, and by `tee(2)` where a buffer is not to be written on.
//! Not preserved: how a stream is spread over buffers, if some are longer than a page and
//! all would not find room then; whether the last can be written on.

mod reading;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};

use dormouse_image::proto::files::pipe::{PipeDataEntry, PipeRunEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

use super::InodeId;
use crate::corrupt::corrupt;
use crate::{Error, Result};

pub(crate) use self::reading::Tools;

/// What is in a pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PipeContents {
    /// In bytes; `None` in images of CRIU that do not say.
    capacity: Option<u32>,
    /// First to be read first.
    runs: Vec<Run>,
}

/// Bytes that are in one buffer, or a stream of which only the bytes are known.
#[derive(Clone, PartialEq, Eq)]
struct Run {
    bytes: Vec<u8>,
    packet: bool,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, packet } = self;
        write!(f, "{} {}", bytes.len(), if *packet { "packet" } else { "stream" })
    }
}

/// What is written at most into one buffer. The kernel makes several packets of a longer one.
const BUFFER: usize = 4096;

impl PipeContents {
    /// What can never be read, as nobody has a reading end of the pipe behind
    /// `file`: as many zeros. It decides whether the pipe can be written.
    pub(crate) fn unreadable(file: BorrowedFd<'_>) -> Result<Self> {
        let Self { capacity, mut runs } = Self::empty(file)?;
        let most = u64::from(capacity.unwrap_or(0));
        let bytes = vec![0; queued(file)?.min(most) as usize];
        if !bytes.is_empty() {
            runs.push(Run { bytes, packet: false });
        }
        Ok(Self { capacity, runs })
    }

    /// An empty pipe of the size of the one behind `file`.
    pub(crate) fn empty(file: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self { capacity: Some(capacity(file)?), runs: Vec::new() })
    }

    fn encode(&self, id: InodeId) -> (PipeDataEntry, Vec<u8>) {
        let Self { capacity, runs } = self;
        let bytes = runs.iter().flat_map(|run| &run.bytes).copied().collect::<Vec<u8>>();
        // Held against the capacity, which is 32 bits.
        let len = |bytes: &Vec<u8>| u32::try_from(bytes.len()).expect("a pipe's bytes are few");
        let run = |run: &Run| PipeRunEntry { bytes: len(&run.bytes), packet: run.packet };
        // As a stream is written that nothing more is known of.
        let is_plain = |(index, run): (usize, &Run)| {
            !run.packet && (run.bytes.len() == BUFFER || index + 1 == runs.len())
        };
        let divided = !runs.iter().enumerate().all(is_plain);
        let entry = PipeDataEntry {
            pipe_id: id.as_raw(),
            bytes: len(&bytes),
            size: *capacity,
            runs: if divided { runs.iter().map(run).collect() } else { Vec::new() },
        };
        (entry, bytes)
    }

    fn decode(entry: &PipeDataEntry, mut bytes: Vec<u8>) -> Result<Self, &'static str> {
        let PipeDataEntry { pipe_id: _, bytes: _, size: capacity, runs } = entry;
        // CRIU writes the capacity F_GETPIPE_SZ gave; the kernel takes no more
        // than 2^31 (round_pipe_size, fs/pipe.c).
        if capacity.is_some_and(|capacity| capacity == 0 || capacity > 1 << 31) {
            return Err("its capacity is none");
        }
        if capacity.is_some_and(|capacity| bytes.len() as u64 > u64::from(capacity)) {
            return Err("it holds more than its capacity");
        }
        if runs.len() > capacity.unwrap_or(0) as usize / BUFFER {
            return Err("its bytes are in more buffers than it has");
        }
        if runs.is_empty() && !bytes.is_empty() {
            let runs = vec![Run { bytes, packet: false }];
            return Ok(Self { capacity: *capacity, runs });
        }
        let mut divided = Vec::new();
        for &PipeRunEntry { bytes: len, packet } in runs {
            let len = len as usize;
            if len == 0 || len > bytes.len() || packet && len > BUFFER {
                return Err("its bytes are divided in a way that cannot be");
            }
            let rest = bytes.split_off(len);
            divided.push(Run { bytes, packet });
            bytes = rest;
        }
        match bytes.is_empty() {
            true => Ok(Self { capacity: *capacity, runs: divided }),
            false => Err("its bytes are not divided to the end"),
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(Error::kernel("pipe2", "a pipe"))
}

fn capacity(pipe: BorrowedFd<'_>) -> Result<u32> {
    let size = fcntl_getpipe_size(pipe).map_err(Error::kernel("F_GETPIPE_SZ", "a pipe"))?;
    Ok(u32::try_from(size).unwrap_or(u32::MAX))
}

fn resize(pipe: &OwnedFd, capacity: u32) -> Result<()> {
    match fcntl_setpipe_size(pipe, capacity as usize) {
        Ok(_) => Ok(()),
        Err(Errno::PERM) => Err(Error::Unsupported {
            object: "a pipe",
            detail: format!("{capacity} bytes").into(),
            reason: "its capacity is more than this process may ask for",
            hint: "raise /proc/sys/fs/pipe-max-size, or give it CAP_SYS_RESOURCE",
        }),
        Err(source) => Err(Error::kernel("F_SETPIPE_SZ", "a pipe")(source)),
    }
}

fn queued(pipe: BorrowedFd<'_>) -> Result<u64> {
    ioctl_fionread(pipe).map_err(Error::kernel("FIONREAD", "a pipe"))
}

/// Writes `pipes-data.img` or `fifo-data.img`.
pub(crate) fn encode_all<'a>(
    image: ImageName,
    all: impl IntoIterator<Item = (InodeId, &'a PipeContents)>,
    dump: &NewPart,
) -> Result<()> {
    let mut writer = dump.writer(image)?;
    for (id, contents) in all {
        let (entry, bytes) = contents.encode(id);
        writer.put(&entry)?;
        writer.put_payload(&bytes)?;
    }
    Ok(writer.finish()?)
}

/// Reads it back.
pub(crate) fn decode_all(
    image: ImageName,
    dir: &ImageDir,
) -> Result<BTreeMap<InodeId, PipeContents>> {
    let mut all = BTreeMap::new();
    let Some(mut reader) = dir.reader(image)? else { return Ok(all) };
    while let Some(entry) = reader.next_message::<PipeDataEntry>()? {
        let bytes = reader.payload(entry.bytes.into())?;
        let wrong = |reason| corrupt(image, "pipe", entry.pipe_id, reason);
        let contents = PipeContents::decode(&entry, bytes).map_err(wrong)?;
        if all.insert(InodeId::from_raw(entry.pipe_id), contents).is_some() {
            return Err(wrong("it is there twice"));
        }
    }
    Ok(all)
}
