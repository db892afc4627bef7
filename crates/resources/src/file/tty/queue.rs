//! What is in a pseudo terminal, not read yet.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use dormouse_image::ImageName;
use dormouse_image::proto::files::tty::TtyDataEntry;
use dormouse_kernel::terminal::{self, Termios};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{FileKind, Terminal};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// What one end of a pseudo terminal can read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    /// Bytes that the line discipline has dealt with.
    pub(super) ready: Vec<u8>,
    /// Where in it a line ends that is read as a whole. Its last byte is a
    /// line feed, a zero for an end of file, or another that ended it.
    pub(super) ends: Vec<u32>,
    /// Bytes that it had no room for.
    pub(super) waiting: Vec<u8>,
}

/// How much the line discipline holds (`N_TTY_BUF_SIZE`).
pub(super) const ROOM: usize = 4096;
/// More than may wait beside that.
const MOST_WAITING: usize = 1 << 20;
/// Bytes written at a time.
const CHUNK: usize = 128;
/// Bytes in one write. The kernel counts buffers, not bytes, against its limit;
/// of all sizes this fills them best (`tty_buffer_alloc`, `drivers/tty`).
const PIECE: usize = 1024;
/// How long the kernel's workers may take to move a chunk.
const PATIENCE: Duration = Duration::from_secs(10);

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty()
    }

    /// Whether the line discipline has no room for another byte.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= ROOM - 1 || !self.waiting.is_empty()
    }

    pub(super) fn encode(&self, id: u32) -> TtyDataEntry {
        let Self { ready, ends, waiting } = self;
        TtyDataEntry {
            tty_id: id,
            data: ready.clone(),
            line_ends: ends.clone(),
            waiting: (!waiting.is_empty()).then(|| waiting.clone()),
        }
    }

    pub(super) fn decode(entry: TtyDataEntry) -> Result<Self> {
        let TtyDataEntry { tty_id, data: mut ready, line_ends: ends, waiting } = entry;
        let wrong = |reason| corrupt(ImageName::TtyData, Terminal::NAME, tty_id, reason);
        let mut waiting = waiting.unwrap_or_default();
        if ready.len() >= ROOM {
            // CRIU has what it could read in one piece.
            waiting.splice(0..0, ready.drain(ROOM - 1..));
        }
        let sound = |pair: &[u32]| pair[0] < pair[1];
        let last = ends.last().map_or(0, |&end| end as usize + 1);
        if last > ready.len() || !ends.windows(2).all(sound) {
            return Err(wrong("a line ends where nothing is"));
        }
        if waiting.len() > MOST_WAITING {
            return Err(wrong("more is waiting than ever does"));
        }
        Ok(Self { ready, ends, waiting })
    }

    /// Has the slave of `master` read what is ready, with nothing else in the
    /// way; as lines if the line discipline `is_canonical`.
    pub(super) fn type_in(&self, master: BorrowedFd<'_>, is_canonical: bool) -> Result<()> {
        let mut ends = self.ends.iter().map(|&end| end as usize).peekable();
        let keys = self.ready.iter().enumerate().map(|(at, &byte)| {
            let ends_line = ends.next_if_eq(&at).is_some();
            match (byte, ends_line) {
                (b'\n', true) => Key::Byte(b'\n'),
                (b'\n', false) if is_canonical => Key::Literally(b'\n'),
                (0, true) => Key::EndOfFile,
                (byte, true) => Key::End(byte),
                (byte, false) => Key::Byte(byte),
            }
        });
        let keys: Vec<Key> = keys.collect();
        if keys.is_empty() {
            return Ok(());
        }
        terminal::set_packet(master, true).map_err(failed("TIOCPKT"))?;
        let alone = |key: &Key| matches!(key, Key::End(_));
        for chunk in keys.chunk_by(|one, next| !alone(one) && !alone(next)) {
            for chunk in chunk.chunks(CHUNK) {
                type_keys(master, chunk, is_canonical)?;
            }
        }
        terminal::set_packet(master, false).map_err(failed("TIOCPKT"))
    }

    /// Has `master` read what is ready. `slave` is open, or has never been.
    pub(super) fn print(
        &self,
        master: BorrowedFd<'_>,
        slave: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let silent = Termios { c_lflag: 0, ..raw(master)? };
        match slave {
            Some(slave) => {
                terminal::set_termios(slave, &silent).map_err(failed("TCSETS"))?;
                write(slave, &self.ready)?;
                write(slave, &self.waiting)
            }
            // Only the echo of what is typed gets there.
            None => {
                let echo = Termios { c_lflag: libc::ECHO, ..silent };
                terminal::set_termios(master, &echo).map_err(failed("TCSETS"))?;
                let mut echoed = 0;
                for chunk in self.ready.chunks(CHUNK) {
                    write(master, chunk)?;
                    echoed += chunk.len();
                    until(|| Ok(terminal::readable(master).map_err(failed("TIOCINQ"))? >= echoed))?;
                    discard_typed(master)?;
                    terminal::set_termios(master, &echo).map_err(failed("TCSETS"))?;
                }
                Ok(())
            }
        }
    }
}

/// What is typed.
#[derive(Clone, Copy, Debug)]
enum Key {
    /// A byte that means what it means.
    Byte(u8),
    /// A byte that means nothing.
    Literally(u8),
    /// The end of a file.
    EndOfFile,
    /// A byte that ends a line, and is no line feed.
    End(u8),
}

/// Types so many keys, and waits until the line discipline has dealt with them:
/// output is stopped before the last of them, which starts it again, and that is
/// told to the master. (All may be full after that key.)
fn type_keys(master: BorrowedFd<'_>, keys: &[Key], is_canonical: bool) -> Result<()> {
    let mut used = [false; 256];
    for key in keys {
        if let Key::Byte(byte) | Key::Literally(byte) | Key::End(byte) = *key {
            used[usize::from(byte)] = true;
        }
    }
    // A zero stands for a character that is not set.
    let mut free = (1..=u8::MAX).filter(|&byte| byte != b'\n' && !used[usize::from(byte)]);
    let mut free = || free.next().expect("a chunk uses less than half of all bytes");
    let (stop, literally, end_of_file) = (free(), free(), free());
    let mut termios = raw(master)?;
    termios.c_iflag = libc::IXON | libc::IXANY;
    termios.c_cc[libc::VSTOP] = stop;
    if is_canonical {
        termios.c_lflag = libc::ICANON | libc::IEXTEN;
        termios.c_cc[libc::VMIN] = 0;
        termios.c_cc[libc::VLNEXT] = literally;
        termios.c_cc[libc::VEOF] = end_of_file;
    }
    let mut bytes = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        if at + 1 == keys.len() {
            bytes.push(stop);
        }
        match *key {
            Key::Byte(byte) => bytes.push(byte),
            Key::Literally(byte) => bytes.extend([literally, byte]),
            Key::EndOfFile => bytes.push(end_of_file),
            Key::End(byte) => {
                termios.c_cc[libc::VEOL] = byte;
                bytes.push(byte);
            }
        }
    }
    terminal::set_termios(master, &termios).map_err(failed("TCSETS"))?;
    write(master, &bytes)?;
    await_told(master, STARTED)
}

/// Has the output of the slave stopped by a character, behind everything that was typed.
pub(super) fn stop(master: BorrowedFd<'_>, is_canonical: bool) -> Result<()> {
    const STOP: u8 = 1;
    let mut termios = raw(master)?;
    termios.c_iflag = libc::IXON;
    // What was typed keeps the lines it is in.
    termios.c_lflag = if is_canonical { libc::ICANON } else { 0 };
    termios.c_cc[libc::VSTOP] = STOP;
    terminal::set_termios(master, &termios).map_err(failed("TCSETS"))?;
    terminal::set_packet(master, true).map_err(failed("TIOCPKT"))?;
    write(master, &[STOP])?;
    await_told(master, STOPPED)?;
    terminal::set_packet(master, false).map_err(failed("TIOCPKT"))
}

/// Has what was typed forgotten: an interrupt does that, for the line discipline
/// of a slave that nobody has open, and signals nobody.
fn discard_typed(master: BorrowedFd<'_>) -> Result<()> {
    const INTERRUPT: u8 = 1;
    let mut termios = raw(master)?;
    termios.c_lflag = libc::ISIG;
    termios.c_cc[libc::VINTR] = INTERRUPT;
    terminal::set_termios(master, &termios).map_err(failed("TCSETS"))?;
    terminal::set_packet(master, true).map_err(failed("TIOCPKT"))?;
    write(master, &[INTERRUPT])?;
    await_told(master, FLUSHED)?;
    terminal::set_packet(master, false).map_err(failed("TIOCPKT"))
}

/// `TIOCPKT_FLUSHREAD`: what was typed is forgotten.
const FLUSHED: u8 = 1;
/// `TIOCPKT_STOP`: output is stopped.
const STOPPED: u8 = 4;
/// `TIOCPKT_START`: output goes on.
const STARTED: u8 = 8;

/// Waits until a master in packet mode is told `what`, which comes before
/// everything that was printed.
fn await_told(master: BorrowedFd<'_>, what: u8) -> Result<()> {
    until(|| {
        let mut fds = [PollFd::from_borrowed_fd(master, PollFlags::PRI)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }))
            .map_err(failed("poll"))?;
        if !fds[0].revents().contains(PollFlags::PRI) {
            return Ok(false);
        }
        let mut told = [0];
        rustix::io::read(master, &mut told).map_err(failed("read"))?;
        Ok(told[0] & what != 0)
    })
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> Error {
    Error::kernel(call, Terminal::NAME)
}

/// Settings by which nothing happens to what passes.
fn raw(file: BorrowedFd<'_>) -> Result<Termios> {
    let now = terminal::termios(file).map_err(failed("TCGETS2"))?;
    let mut c_cc = [0; terminal::CONTROL_CHARACTERS];
    c_cc[libc::VMIN] = 1;
    Ok(Termios { c_iflag: 0, c_oflag: 0, c_lflag: 0, c_cc, ..now })
}

fn write(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    until(|| {
        while !bytes.is_empty() {
            match rustix::io::write(file, &bytes[..bytes.len().min(PIECE)]) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(false),
                Ok(written) => bytes = &bytes[written..],
                Err(error) => return Err(failed("write")(error)),
            }
        }
        Ok(true)
    })
}

/// Waits until something has happened.
fn until(mut happened: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !happened()? {
        if begun.elapsed() > PATIENCE {
            return Err(failed("write")(Errno::TIMEDOUT));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Whether lines are read as a whole.
pub(super) fn is_canonical(termios: &Termios) -> bool {
    termios.c_lflag & libc::ICANON != 0
}

/// Types what had no room.
pub(super) fn type_rest(master: impl AsFd, queue: &Queue) -> Result<()> {
    write(master.as_fd(), &queue.waiting)
}
