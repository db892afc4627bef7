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

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};

use dormouse_image::proto::files::pipe::{PipeDataEntry, PipeRunEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread, read, write};
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice, tee,
};

use super::InodeId;
use super::probe::reopen;
use crate::corrupt::corrupt;
use crate::{Error, Result};

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
            None if held > self::capacity(file)? => resize(&pipe, held)?,
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
                    none => none.insert(self::pipe()?),
                };
                append_apart(&pipe, part, aside)?;
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::{BUFFER, PipeContents, PipeDataEntry, Run, Tools, capacity};
    use crate::file::InodeId;
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pipe::{fcntl_setpipe_size, pipe};
    use std::os::fd::AsFd as _;

    fn stream(bytes: &[u8]) -> Run {
        Run { bytes: bytes.to_vec(), packet: false }
    }

    fn packet(bytes: &[u8]) -> Run {
        Run { bytes: bytes.to_vec(), packet: true }
    }

    /// Streams and packets, in any order and of any length, are told apart,
    /// put back, and still there to be read afterwards.
    #[test]
    fn a_pipe_is_read_without_being_consumed() {
        let mut tools = Tools::default();
        let page = [7; BUFFER];
        let full: Vec<Run> = (0..32).map(|_| stream(&[1; 3000])).collect();
        let cases: [&[Run]; 8] = [
            &[],
            &[stream(b"a")],
            &[packet(b"a")],
            &[packet(b"a"), packet(b"bc"), packet(b"d")],
            &[
                stream(b"ab"),
                packet(b"c"),
                stream(&page),
                stream(&[7; 9]),
                packet(&[9; BUFFER]),
                stream(b"z"),
            ],
            &[packet(b"a"), stream(b"b"), packet(b"c")],
            &[stream(b"a"), stream(b"bc"), stream(&[5; BUFFER]), stream(b"d"), stream(b"e")],
            &full,
        ];
        for runs in cases {
            let wanted = PipeContents { capacity: Some(1 << 17), runs: runs.to_vec() };
            let (read, write) = pipe().unwrap();
            wanted.fill(write.as_fd()).unwrap();
            for _ in 0..2 {
                assert_eq!(PipeContents::collect(read.as_fd(), &mut tools).unwrap(), wanted);
            }
            for Run { bytes, packet } in runs {
                let mut got = vec![0; bytes.len() + usize::from(*packet)];
                assert_eq!(rustix::io::read(&read, &mut got[..]).unwrap(), bytes.len());
                assert_eq!(&got[..bytes.len()], bytes);
            }
            drop(write);
            assert_eq!(rustix::io::read(&read, &mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_full_pipe_of_any_size_is_restored() {
        let mut tools = Tools::default();
        for size in [4096, 65536, 1 << 20] {
            let (read, write) = pipe().unwrap();
            fcntl_setpipe_size(&write, size).unwrap();
            fcntl_setfl(&write, OFlags::NONBLOCK).unwrap();
            let mut total = 0;
            while let Ok(written) = rustix::io::write(&write, &vec![total as u8; 1000]) {
                total += written;
            }
            assert!(total <= size);
            let contents = PipeContents::collect(read.as_fd(), &mut tools).unwrap();
            let (other, _write) = pipe().unwrap();
            contents.fill(other.as_fd()).unwrap();
            assert_eq!(PipeContents::collect(other.as_fd(), &mut tools).unwrap(), contents);
            assert_eq!(capacity(other.as_fd()).unwrap() as usize, size);
        }
    }

    #[test]
    fn contents_survive_the_image() {
        for runs in [vec![], vec![stream(b"abc")], vec![stream(b"ab"), packet(b"c")]] {
            let contents = PipeContents { capacity: Some(1 << 16), runs };
            let (entry, bytes) = contents.encode(InodeId::from_raw(1));
            assert_eq!(PipeContents::decode(&entry, bytes), Ok(contents));
        }
    }

    #[test]
    fn contents_that_cannot_be_are_refused() {
        let contents =
            PipeContents { capacity: Some(1 << 16), runs: vec![stream(b"ab"), packet(b"c")] };
        let (entry, bytes) = contents.encode(InodeId::from_raw(1));
        let changes: [fn(&mut PipeDataEntry); 6] = [
            |entry| entry.size = Some(2),
            |entry| entry.size = Some(4096),
            |entry| entry.size = Some(0),
            |entry| entry.runs[0].bytes = 4,
            |entry| entry.runs[1].bytes = 0,
            |entry| entry.runs.truncate(1),
        ];
        for change in changes {
            let mut entry = entry.clone();
            change(&mut entry);
            assert!(PipeContents::decode(&entry, bytes.clone()).is_err(), "{entry:?}");
        }
    }
}
