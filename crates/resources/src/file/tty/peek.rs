//! Reading what is in a pseudo terminal, without taking it out.
//!
//! No system call does that, so this reads the kernel's own structures: the
//! buffer of the line discipline (`struct n_tty_data`), and what waits for room
//! in it (`struct tty_buffer`).

use std::os::fd::BorrowedFd;

use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, OpenError, OpenFiles, ReadError,
};

use super::flow::{Flow, Flows};
use super::queue::{Queue, ROOM};

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeekError {
    /// The system does not let it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nothing is where it should be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was never twice the same.
    #[error("what is in a terminal never stood still")]
    Restless,
}

/// How often it is read until it is twice the same.
const ATTEMPTS: usize = 64;
/// More than there are buffers in the chain of a terminal.
const MOST_BUFFERS: usize = 4096;

/// Offsets in bytes.
#[derive(Clone, Copy)]
struct Layout {
    files: OpenFiles,
    private_tty: usize,
    discipline: usize,
    link: usize,
    /// The two flags that say whether output is stopped.
    stopped: (usize, usize),
    /// Where what is to be shown of what was typed ends, and where it begins.
    echoes: (usize, usize),
    port: usize,
    first_buffer: usize,
    buffer_next: usize,
    buffer_end: usize,
    buffer_begin: usize,
    buffer_bytes: usize,
    head: usize,
    tail: usize,
    ends: usize,
    bytes: usize,
}

/// What the slave can read, and what the master can.
pub(super) type Queues = (Queue, Queue);

/// What reads it.
pub(super) struct Peek {
    memory: KernelMemory,
    layout: Layout,
}

fn layout(btf: &Btf<'_>) -> Result<Layout, BtfError> {
    let tty = btf.structure("tty_struct")?;
    let port = btf.structure("tty_port")?;
    let (buffers, head) = port.member("buf")?;
    let buffer = btf.structure("tty_buffer")?;
    let (flow, flags) = tty.member("flow")?;
    let discipline = btf.structure("n_tty_data")?;
    Ok(Layout {
        files: OpenFiles::new(btf)?,
        private_tty: btf.structure("tty_file_private")?.offset("tty")?,
        discipline: tty.offset("disc_data")?,
        link: tty.offset("link")?,
        echoes: (discipline.offset("echo_head")?, discipline.offset("echo_tail")?),
        stopped: (flow + flags.offset("stopped")?, flow + flags.offset("tco_stopped")?),
        port: tty.offset("port")?,
        first_buffer: buffers + head.offset("head")?,
        buffer_next: buffer.offset("next")?,
        buffer_end: buffer.offset("commit")?,
        buffer_begin: buffer.offset("read")?,
        buffer_bytes: buffer.offset("data")?,
        head: discipline.offset("read_head")?,
        tail: discipline.offset("read_tail")?,
        ends: discipline.offset("read_flags")?,
        bytes: discipline.offset("read_buf")?,
    })
}

impl Peek {
    pub(super) fn open() -> Result<Self, PeekError> {
        let (memory, layout) = KernelMemory::open(layout)?;
        Ok(Self { memory, layout })
    }

    /// What the slave of `master` can read, and what the master can, and whether
    /// output of each is stopped. The slave reads in lines if it `is_canonical`.
    pub(super) fn both(
        &mut self,
        master: BorrowedFd<'_>,
        is_canonical: bool,
    ) -> Result<(Queues, Flows), PeekError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let now = self.try_both(master, is_canonical);
            match now {
                Ok(now) if last.as_ref() == Some(&now) => return Ok(now),
                Ok(now) => last = Some(now),
                Err(PeekError::Read(ReadError::Fault)) => last = None,
                Err(error) => return Err(error),
            }
            // The kernel's workers may be moving it.
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        Err(PeekError::Restless)
    }

    fn try_both(
        &mut self,
        master: BorrowedFd<'_>,
        is_canonical: bool,
    ) -> Result<(Queues, Flows), PeekError> {
        let Layout { link, .. } = self.layout;
        let master = self.terminal(master)?;
        let slave = self.memory.word(master + link as u64)?;
        let (own, other) = (self.flow(slave)?, self.flow(master)?);
        let flows = Flows { slave: own, master: other, echoes: self.has_echoes(slave)? };
        Ok(((self.queue(slave, is_canonical)?, self.queue(master, false)?), flows))
    }

    fn flow(&mut self, terminal: Address) -> Result<Flow, PeekError> {
        let Self { memory, layout } = self;
        let (stopped, held) = layout.stopped;
        let flags = memory.read(&[stopped, held].map(|at| terminal + at as u64), 1)?;
        Ok(Flow::of(flags[0] != 0, flags[1] != 0))
    }

    /// Whether some of what was typed is still to be shown.
    fn has_echoes(&mut self, terminal: Address) -> Result<bool, PeekError> {
        let Self { memory, layout } = self;
        let discipline = memory.word(terminal + layout.discipline as u64)?;
        let (head, tail) = layout.echoes;
        let places = memory.words(&[head, tail].map(|at| discipline + at as u64))?;
        Ok(places[0] != places[1])
    }

    /// The `struct tty_struct` behind a descriptor of this process.
    fn terminal(&mut self, file: BorrowedFd<'_>) -> Result<Address, PeekError> {
        let Self { memory, layout } = self;
        let private = layout.files.private_data(memory, &[file])?[0];
        Ok(memory.word(private + layout.private_tty as u64)?)
    }

    fn queue(&mut self, terminal: Address, is_canonical: bool) -> Result<Queue, PeekError> {
        let Self { memory, layout } = self;
        let discipline = memory.word(terminal + layout.discipline as u64)?;
        let head = memory.word(discipline + layout.head as u64)? as usize;
        let tail = memory.word(discipline + layout.tail as u64)? as usize;
        let len = head.wrapping_sub(tail);
        if len > ROOM {
            return Err(PeekError::Read(ReadError::Fault));
        }
        let (mut ready, mut ends) = (Vec::new(), Vec::new());
        if len > 0 {
            let bytes = memory.bytes(discipline + layout.bytes as u64, ROOM)?;
            let marks = bytes_of_marks(memory, discipline + layout.ends as u64)?;
            for at in 0..len {
                let place = tail.wrapping_add(at) % ROOM;
                ready.push(bytes[place]);
                if is_canonical && marks[place / 8] >> (place % 8) & 1 == 1 {
                    ends.push(at as u32);
                }
            }
        }
        Ok(Queue { ready, ends, waiting: self.waiting(terminal)? })
    }

    /// The chain of buffers of the terminal's port, oldest first.
    fn waiting(&mut self, terminal: Address) -> Result<Vec<u8>, PeekError> {
        let Self { memory, layout } = self;
        let port = memory.word(terminal + layout.port as u64)?;
        let mut buffer = memory.word(port + layout.first_buffer as u64)?;
        let mut waiting = Vec::new();
        for _ in 0..MOST_BUFFERS {
            if buffer == 0 {
                break;
            }
            let number = |memory: &mut KernelMemory, at: usize| {
                memory.word(buffer + at as u64).map(|word| word as u32 as usize)
            };
            let begin = number(memory, layout.buffer_begin)?;
            let end = number(memory, layout.buffer_end)?;
            if begin < end {
                let at = buffer + (layout.buffer_bytes + begin) as u64;
                waiting.extend(memory.bytes(at, end - begin)?);
            }
            buffer = memory.word(buffer + layout.buffer_next as u64)?;
        }
        Ok(waiting)
    }
}

/// One bit for each byte; the words of a bitmap are in the processor's order,
/// which for single bytes is this only where that is little-endian.
fn bytes_of_marks(memory: &mut KernelMemory, at: Address) -> Result<Vec<u8>, PeekError> {
    const _: () = assert!(cfg!(target_endian = "little"));
    Ok(memory.bytes(at, ROOM / 8)?)
}
