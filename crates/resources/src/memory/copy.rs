//! Copying pages into pages files.
//!
//! What goes into a file is a list of pieces. The contents of each follow those of the one before,
//! less the pages of zeros that are as good left out; so where a page goes depends on those before
//! it. Threads read and look for zeros side by side, queue up for a moment to learn their place,
//! and write side by side. The files are the same every time.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dormouse_image::ImageName;
use dormouse_kernel::remote_memory::{self, Mem};
use dormouse_kernel::{Addr, AddrRange, Errno, HostPid, PAGE_SIZE};

use super::error::{Error, Result};
use super::pieces::skip;
use super::shared::SharedObject;
use super::workers::{self, Buffer, Chunk, Turnstile};

/// Where pages come from.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// Memory that its process may read, and shares with no other: see
    /// [`PageTraits::needs_mem`](super::survey::PageTraits::needs_mem).
    Process(HostPid),
    /// Any memory of a process.
    Mem(HostPid, Mem),
    /// A shared memory object; addresses are offsets in it.
    Object(SharedObject<'a>),
}

/// Pages from one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) source: u32,
    /// Pages of zeros are left out.
    pub(super) zero_is_nothing: bool,
    pub(super) range: AddrRange,
}

/// What goes into one pages file.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) image: ImageName,
    pub(super) pieces: Vec<Piece>,
}

/// What was left out: pages of a piece, by its index. In order.
pub(super) type LeftOut = Vec<(usize, AddrRange)>;

const PAGE: usize = PAGE_SIZE as usize;
static ZERO: [u8; PAGE] = [0; PAGE];

/// Copies all pages. `create` makes the file of an output, by its index. Says what was left out of
/// each.
pub(super) fn copy(
    sources: &[Source<'_>],
    outputs: &[Output],
    create: impl Fn(usize) -> Result<File> + Sync,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Vec<LeftOut>> {
    let jobs = jobs(outputs);
    let place = Place { output: None, left_out: outputs.iter().map(|_| LeftOut::new()).collect() };
    let places = Turnstile::new(place);
    let work = |own: &mut Own, number: usize| {
        let job = &jobs[number];
        let output = &outputs[job.output];
        let done = own.read(sources, output, job).and_then(|zeros| {
            let stored = job.chunk.bytes - zeros.iter().map(|(_, range)| range.len()).sum::<u64>();
            let at = places.pass(number, |place| {
                let at = place.take(job.output, stored, || create(job.output));
                place.left_out[job.output].extend_from_slice(&zeros);
                at
            });
            match at {
                Some(at) => {
                    let (file, offset) = at?;
                    own.write(output, job, &zeros, &file, offset)
                }
                // Another thread has failed, and says why.
                None => Ok(()),
            }
        });
        if done.is_err() {
            places.break_down();
        }
        done.map(|()| job.chunk.bytes)
    };
    workers::run(jobs.len(), Own::default, work, progress)?;
    Ok(places.into_inner().left_out)
}

/// A chunk of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    output: usize,
    chunk: Chunk,
}

fn jobs(outputs: &[Output]) -> Vec<Job> {
    let chunks = |(output, Output { pieces, .. }): (usize, &Output)| {
        let chunks = Chunk::cut(pieces.iter().map(|piece| piece.range.len()));
        chunks.into_iter().map(move |chunk| Job { output, chunk })
    };
    outputs.iter().enumerate().flat_map(chunks).collect()
}

impl Job {
    /// The pieces of the job, each cut to it, with its number.
    fn pieces<'a>(&self, output: &'a Output) -> impl Iterator<Item = (usize, Piece)> + use<'a> {
        let parts = self.chunk.parts(&output.pieces, |piece| piece.range.len());
        parts.map(|(number, skip, len)| {
            let piece = output.pieces[number];
            let start = piece.range.start().checked_add(skip);
            let range = start.and_then(|start| AddrRange::with_len(start, len));
            (number, Piece { range: range.expect("inside of the piece"), ..piece })
        })
    }
}

/// Where the next contents go.
struct Place {
    output: Option<(usize, Arc<File>, u64)>,
    left_out: Vec<LeftOut>,
}

impl Place {
    fn take(
        &mut self,
        output: usize,
        bytes: u64,
        create: impl FnOnce() -> Result<File>,
    ) -> Result<(Arc<File>, u64)> {
        if self.output.as_ref().is_none_or(|(current, ..)| *current != output) {
            self.output = Some((output, Arc::new(create()?), 0));
        }
        let (_, file, end) = self.output.as_mut().expect("it was just created");
        let at = *end;
        *end += bytes;
        Ok((Arc::clone(file), at))
    }
}

/// What a thread has of its own.
#[derive(Default)]
struct Own {
    buffer: Buffer,
    remote: Vec<AddrRange>,
    /// The object read last.
    object: Option<(u32, OwnedFd)>,
}

impl Own {
    /// Reads what the job says, and finds the pages that can be left out.
    fn read(&mut self, sources: &[Source<'_>], output: &Output, job: &Job) -> Result<LeftOut> {
        let Self { buffer, remote, object } = self;
        let mut rest = &mut buffer[..job.chunk.bytes as usize];
        let mut pieces = job.pieces(output).peekable();
        while let Some((_, Piece { source, range, .. })) = pieces.next() {
            remote.clear();
            remote.push(range);
            let mut len = range.len();
            while let Some((_, next)) = pieces.next_if(|(_, next)| next.source == source) {
                remote.push(next.range);
                len += next.range.len();
            }
            let (now, later) = rest.split_at_mut(len as usize);
            fetch((&sources[source as usize], source), remote, object, now)?;
            rest = later;
        }
        Ok(zeros(buffer, job.pieces(output)))
    }

    /// Writes what was read, but for `zeros`.
    fn write(
        &self,
        output: &Output,
        job: &Job,
        zeros: &LeftOut,
        file: &File,
        offset: u64,
    ) -> Result<()> {
        let mut slices = Vec::new();
        let mut zeros = zeros.iter().peekable();
        let mut at = 0;
        let mut from = 0;
        for (number, piece) in job.pieces(output) {
            while let Some((_, zero)) =
                zeros.next_if(|(of, zero)| *of == number && zero.start() < piece.range.end())
            {
                let start = at + (zero.start().as_raw() - piece.range.start().as_raw()) as usize;
                slices.push(IoSlice::new(&self.buffer[from..start]));
                from = start + zero.len() as usize;
            }
            at += piece.range.len() as usize;
        }
        slices.push(IoSlice::new(&self.buffer[from..at]));
        write_all(file, &mut slices, offset).map_err(|source| Error::Pages {
            operation: "write",
            image: output.image,
            source,
        })
    }
}

/// Reads all of `remote`, which is used up, from the source with a number. `object` is the one that
/// was read last.
fn fetch(
    (source, number): (&Source<'_>, u32),
    remote: &mut [AddrRange],
    object: &mut Option<(u32, OwnedFd)>,
    into: &mut [u8],
) -> Result<()> {
    match source {
        Source::Process(pid) => read_process(*pid, remote, into),
        Source::Mem(pid, mem) => each(remote, into, |start, into| {
            mem.read_exact(start, into).map_err(|error| vanished(*pid, error))
        }),
        Source::Object(of) => {
            if object.as_ref().is_none_or(|(open, _)| *open != number) {
                *object = Some((number, of.open()?));
            }
            let (_, file) = object.as_ref().expect("it was just opened");
            each(remote, into, |start, into| read_object(file, start.as_raw(), into))
        }
    }
}

/// Reads ranges one by one.
fn each(
    ranges: &[AddrRange],
    mut into: &mut [u8],
    read: impl Fn(Addr, &mut [u8]) -> Result<()>,
) -> Result<()> {
    for range in ranges {
        let (now, later) = into.split_at_mut(range.len() as usize);
        read(range.start(), now)?;
        into = later;
    }
    Ok(())
}

/// The pages of zeros in `buffer`, which holds the contents of `pieces`, that may be left out.
fn zeros(buffer: &[u8], pieces: impl Iterator<Item = (usize, Piece)>) -> LeftOut {
    let mut zeros = LeftOut::new();
    let mut at = 0;
    for (number, piece) in pieces {
        let len = piece.range.len() as usize;
        let contents = &buffer[at..at + len];
        at += len;
        if !piece.zero_is_nothing {
            continue;
        }
        for (page, contents) in contents.chunks_exact(PAGE).enumerate() {
            if contents != ZERO {
                continue;
            }
            let start = piece.range.start().checked_add(page as u64 * PAGE_SIZE);
            let range = start.and_then(|start| AddrRange::with_len(start, PAGE_SIZE));
            let range = range.expect("inside of the piece");
            match zeros.last_mut() {
                Some((of, last)) if *of == number && last.end() == range.start() => {
                    *last = AddrRange::new(last.start(), range.end()).expect("pages ascend");
                }
                _ => zeros.push((number, range)),
            }
        }
    }
    zeros
}

/// Reads all of `remote`, which is used up.
fn read_process(pid: HostPid, remote: &mut [AddrRange], into: &mut [u8]) -> Result<()> {
    let (mut remote, mut into) = (remote, into);
    while !into.is_empty() {
        let mut local = [IoSliceMut::new(into)];
        let moved =
            remote_memory::read(pid, remote, &mut local).map_err(|error| vanished(pid, error))?;
        into = &mut into[moved..];
        remote = skip(remote, moved);
    }
    Ok(())
}

/// `EFAULT` and `EIO` mean that there is no page.
fn vanished(pid: HostPid, error: remote_memory::Error) -> Error {
    match error.source {
        Errno::FAULT | Errno::IO => Error::Vanished { pid, at: error.addr },
        _ => Error::Remote(error),
    }
}

fn read_object(file: &OwnedFd, mut offset: u64, mut into: &mut [u8]) -> Result<()> {
    let failed = |source| Error::Kernel { operation: "read a shared memory object", source };
    while !into.is_empty() {
        match rustix::io::pread(file, &mut *into, offset) {
            // Behind the end of the object, within its last page.
            Ok(0) => {
                into.fill(0);
                return Ok(());
            }
            Ok(read) => (into, offset) = (&mut into[read..], offset + read as u64),
            Err(Errno::INTR) => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(())
}

fn write_all(file: &File, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    // Without those that are empty, a write of nothing is a failure.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::pwritev(file, slices, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
