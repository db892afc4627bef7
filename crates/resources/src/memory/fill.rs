//! Filling memory from pages files.
//!
//! Threads read from a file and write into the process, without help of either the process or the
//! thread that traces it. Reading into a buffer the size of the processor's cache and writing from
//! there is as fast as writing straight from a mapping of the file, whose page faults cost more
//! than the copy.

use std::io::IoSlice;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::remote_memory::{self, Mem};
use dormouse_kernel::{AddrRange, HostPid};
use rustix::mm::ProtFlags;

use super::contents::{ContentRun, Contents, PageSource, overlaps};
use super::error::Result;
use super::pieces::skip;
use super::saved::PagesFiles;
use super::vma::Vma;
use super::workers::{self, Buffer, Chunk};

/// The pages to be put into one process.
#[derive(Debug)]
pub(super) struct Filler {
    pid: HostPid,
    pieces: Vec<Piece>,
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
struct Piece {
    run: ContentRun,
    writable: bool,
}

impl Filler {
    /// `contents` are to be put into the process, whose mappings are in their working state.
    pub(super) fn new(pid: HostPid, vmas: &[Vma], contents: &Contents) -> Result<Self> {
        let mut pieces = Vec::new();
        overlaps(
            vmas,
            |vma| vma.range,
            contents.runs(),
            |run| run.range,
            |vma, run| {
                let writable = vma.working().prot.contains(ProtFlags::WRITE);
                pieces.extend(run.cut(vma.range).map(|run| Piece { run, writable }));
            },
        );
        let chunks = Chunk::cut(pieces.iter().map(|piece| piece.run.range.len()));
        Ok(Self { pid, pieces, chunks })
    }

    fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    fn fill(&self, chunk: Chunk, files: &PagesFiles, buffer: &mut [u8]) -> Result<u64> {
        // Pieces that go the same way, and where in the buffer they are.
        let mut remote: Vec<AddrRange> = Vec::new();
        let (mut start, mut end) = (0, 0);
        // What of the buffer is still to be read, in one go, and from where.
        let mut unread: Option<(PageSource, usize)> = None;
        // For mappings the process cannot write to. Kept, there would be one for every process.
        let mut mem = None;
        let mut parts = chunk.parts(&self.pieces, |piece| piece.run.range.len()).peekable();
        while let Some((number, skip, len)) = parts.next() {
            let Piece { run, writable } = &self.pieces[number];
            let at = run.range.start().checked_add(skip).expect("inside of the piece");
            let range = AddrRange::with_len(at, len).expect("inside of the piece");
            let run = run.cut(range).expect("inside of the piece");
            unread = match unread {
                Some((source, from)) if source.skip((end - from) as u64) == run.source => unread,
                _ => {
                    read(files, unread, &mut buffer[..end])?;
                    Some((run.source, end))
                }
            };
            end += len as usize;
            remote.push(range);
            let same_way =
                parts.peek().is_some_and(|&(next, ..)| self.pieces[next].writable == *writable);
            if !same_way {
                read(files, unread.take(), &mut buffer[..end])?;
                if *writable {
                    self.write(&remote, &buffer[start..end])?;
                } else {
                    let open = match mem.take() {
                        Some(open) => open,
                        None => Mem::open(&ProcDir::open(self.pid)?)?,
                    };
                    overwrite(&open, &remote, &buffer[start..end])?;
                    mem = Some(open);
                }
                remote.clear();
                start = end;
            }
        }
        Ok(chunk.bytes)
    }

    fn write(&self, remote: &[AddrRange], mut from: &[u8]) -> Result<()> {
        let mut remote = &mut *remote.to_vec();
        while !from.is_empty() {
            let moved = remote_memory::write(self.pid, remote, &[IoSlice::new(from)])?;
            from = &from[moved..];
            remote = skip(remote, moved);
        }
        Ok(())
    }
}

/// Writes where the process cannot.
fn overwrite(mem: &Mem, remote: &[AddrRange], mut from: &[u8]) -> Result<()> {
    for range in remote {
        let (now, later) = from.split_at(range.len() as usize);
        mem.write_exact(range.start(), now)?;
        from = later;
    }
    Ok(())
}

/// Reads what is `unread` of `buffer`: all from a place on, if any.
fn read(files: &PagesFiles, unread: Option<(PageSource, usize)>, buffer: &mut [u8]) -> Result<()> {
    unread.map_or(Ok(()), |(source, from)| files.read(source, &mut buffer[from..]))
}

/// Fills processes now.
pub(super) fn fill(fillers: &[Filler], files: &PagesFiles) -> Result<()> {
    let jobs = jobs(fillers);
    let work = |buffer: &mut Buffer, job: usize| {
        let (filler, chunk) = jobs[job];
        fillers[filler].fill(chunk, files, buffer)
    };
    workers::run(jobs.len(), Buffer::default, work, &mut |_| ControlFlow::Continue(()))
}

fn jobs(fillers: &[Filler]) -> Vec<(usize, Chunk)> {
    let of = |(number, filler): (usize, &Filler)| {
        filler.chunks.clone().into_iter().map(move |chunk| (number, chunk))
    };
    fillers.iter().enumerate().flat_map(of).collect()
}

/// Threads at work filling memory. Dropped, they stop; [`wait`](Self::wait) says how it went.
#[derive(Debug)]
#[must_use = "memory is full only when wait() says so"]
pub struct Filling {
    work: Arc<Work>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Work {
    fillers: Vec<Filler>,
    files: Arc<PagesFiles>,
    jobs: Vec<(usize, Chunk)>,
    next: std::sync::atomic::AtomicUsize,
    stop: AtomicBool,
    done: AtomicU64,
}

impl Work {
    fn labour(&self) -> Result<()> {
        let mut buffer = Buffer::default();
        while !self.stop.load(Ordering::Relaxed) {
            let job = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(&(filler, chunk)) = self.jobs.get(job) else { break };
            match self.fillers[filler].fill(chunk, &self.files, &mut buffer) {
                Ok(bytes) => {
                    self.done.fetch_add(bytes, Ordering::Relaxed);
                }
                Err(error) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Less than this is left to the thread that waits: a thread costs as much.
const WORTH_A_THREAD: u64 = 1 << 20;

impl Filling {
    pub(super) fn start(fillers: Vec<Filler>, files: Arc<PagesFiles>) -> Self {
        let jobs = jobs(&fillers);
        let work = Arc::new(Work {
            fillers,
            files,
            jobs,
            next: 0.into(),
            stop: false.into(),
            done: 0.into(),
        });
        let bytes: u64 = work.fillers.iter().map(Filler::bytes).sum();
        // The thread that waits is one more.
        let count = if bytes < WORTH_A_THREAD { 0 } else { workers::threads().saturating_sub(1) };
        let thread = || {
            let work = Arc::clone(&work);
            std::thread::spawn(move || work.labour())
        };
        let threads = (0..count.max(usize::from(bytes >= WORTH_A_THREAD))).map(|_| thread());
        let threads = threads.collect();
        Self { work, threads }
    }

    /// Bytes to be filled.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.work.fillers.iter().map(Filler::bytes).sum()
    }

    /// Bytes that are filled.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.work.done.load(Ordering::Relaxed)
    }

    /// Works along until all is filled.
    ///
    /// # Errors
    ///
    /// The first thing that went wrong.
    pub fn wait(mut self) -> Result<()> {
        let own = self.work.labour();
        self.join().and(own)
    }

    fn join(&mut self) -> Result<()> {
        let mut first = Ok(());
        // All of them are joined, whatever the first says.
        for thread in self.threads.drain(..) {
            let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            first = first.and(result);
        }
        first
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.work.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Who drops this does not ask.
            let _ = thread.join();
        }
    }
}
