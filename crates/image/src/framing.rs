//! An image as a sequence of messages: magics, then each message behind its length (32 bits,
//! little endian), some followed by raw bytes.
//!
//! Reading never allocates by a length it was told before that length was held against what is
//! left of the file.

use std::any::type_name;
use std::io::{self, BufReader, Cursor, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use prost::Message;

use crate::error::{ImageError, Problem, Result};
use crate::magic::Magic;

/// The longest message that is written or read, in bytes: an epoll with ten million items has room.
pub const MAX_MESSAGE: u64 = 1 << 30;

/// Size of a buffer in bytes; most images are far smaller.
const BUFFER: usize = 64 << 10;

/// Reads an image from beginning to end.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    path: PathBuf,
    offset: u64,
    len: u64,
    message: Vec<u8>,
}

impl<'a> Reader<Cursor<&'a [u8]>> {
    /// Reads an image in memory. `path` is for errors.
    ///
    /// # Errors
    /// When it does not begin as `magic` says.
    pub fn from_bytes(bytes: &'a [u8], magic: Magic, path: &Path) -> Result<Self> {
        Self::new(Cursor::new(bytes), bytes.len() as u64, magic, path)
    }
}

impl Reader<BufReader<std::fs::File>> {
    /// Reads an image file from its beginning. `path` is for errors.
    ///
    /// # Errors
    /// When it cannot be read or does not begin as `magic` says.
    pub fn from_file(file: std::fs::File, magic: Magic, path: &Path) -> Result<Self> {
        let len = file.metadata().map_err(|e| ImageError::io("stat", path, e))?.len();
        Self::of_len(file, len, magic, path)
    }

    /// The same for a file of so many bytes.
    pub(crate) fn of_len(file: std::fs::File, len: u64, magic: Magic, path: &Path) -> Result<Self> {
        // Memory for all of a small image and no more: it is had and given back for each of thousands.
        let room = usize::try_from(len).map_or(BUFFER, |len| len.clamp(1, BUFFER));
        Self::new(BufReader::with_capacity(room, file), len, magic, path)
    }
}

impl<R: Read + Seek> Reader<R> {
    fn new(inner: R, len: u64, magic: Magic, path: &Path) -> Result<Self> {
        let mut reader = Self { inner, path: path.to_owned(), offset: 0, len, message: Vec::new() };
        for expected in magic.words() {
            let at = reader.offset;
            let found = reader.word()?;
            if found != expected {
                return Err(reader.corrupt(at, Problem::Magic { found, expected }));
            }
        }
        Ok(reader)
    }

    /// Where the next message or payload begins, in bytes from the beginning of the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes between [`Reader::offset`] and the end.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.len - self.offset
    }

    /// The next message, or `None` at the end of the file.
    ///
    /// # Errors
    /// When the file ends within the message, or it is not an `M`.
    pub fn next_message<M: Message + Default>(&mut self) -> Result<Option<M>> {
        if self.remaining() == 0 {
            return Ok(None);
        }
        let at = self.offset;
        let len = u64::from(self.word()?);
        if len > MAX_MESSAGE {
            return Err(self.corrupt(at, Problem::TooBig { len }));
        }
        // Zeros would be messages as many as there are words: a file of holes, and all of memory.
        if len == 0 && self.remaining() > 0 {
            return Err(self.corrupt(at, Problem::Empty));
        }
        let mut bytes = std::mem::take(&mut self.message);
        self.fill(&mut bytes, len)?;
        let decoded = M::decode(&*bytes);
        self.message = bytes;
        decoded.map(Some).map_err(|source| {
            self.corrupt(at, Problem::Message { message: type_name::<M>(), source })
        })
    }

    /// The next message, which has to be there.
    ///
    /// # Errors
    /// As [`Reader::next_message`], and at the end of the file.
    pub fn need_message<M: Message + Default>(&mut self) -> Result<M> {
        let at = self.offset;
        self.next_message()?
            .ok_or_else(|| self.corrupt(at, Problem::NoMessage { message: type_name::<M>() }))
    }

    /// The next `len` raw bytes.
    ///
    /// # Errors
    /// When the file has fewer.
    pub fn payload(&mut self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.fill(&mut bytes, len)?;
        Ok(bytes)
    }

    /// Skips the next `len` raw bytes and says where they are in the file.
    ///
    /// # Errors
    /// When the file has fewer.
    pub fn skip_payload(&mut self, len: u64) -> Result<Range<u64>> {
        self.check(len)?;
        let start = self.offset;
        // `check` held it against the size of a file, which is below i64::MAX.
        let step = i64::try_from(len).expect("a file is shorter than i64::MAX");
        self.inner.seek_relative(step).map_err(|e| ImageError::io("seek in", &self.path, e))?;
        self.offset += len;
        Ok(start..self.offset)
    }

    /// Copies the next `len` raw bytes to `out`.
    ///
    /// # Errors
    /// When the file has fewer, or `out` does not take them.
    pub fn copy_payload(&mut self, len: u64, out: &mut impl Write) -> Result<()> {
        self.check(len)?;
        let copied = io::copy(&mut self.inner.by_ref().take(len), out)
            .map_err(|e| ImageError::io("copy from", &self.path, e))?;
        self.offset += copied;
        self.check(len - copied)
    }

    /// Ends reading here.
    ///
    /// # Errors
    /// When something is left.
    pub fn end(self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.corrupt(self.offset, Problem::Trailing { left })),
        }
    }

    fn word(&mut self) -> Result<u32> {
        let mut word = [0; 4];
        self.check(4)?;
        self.read_exact(&mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, len: u64) -> Result<()> {
        self.check(len)?;
        bytes.clear();
        bytes.resize(
            usize::try_from(len).map_err(|_| self.corrupt(self.offset, Problem::TooBig { len }))?,
            0,
        );
        self.read_exact(bytes)
    }

    fn check(&self, needed: u64) -> Result<()> {
        match self.remaining() {
            left if left < needed => {
                Err(self.corrupt(self.offset, Problem::Truncated { needed, left }))
            }
            _ => Ok(()),
        }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.inner.read_exact(bytes).map_err(|e| ImageError::io("read", &self.path, e))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn corrupt(&self, offset: u64, problem: impl Into<Problem>) -> ImageError {
        ImageError::Corrupt { path: self.path.clone(), offset, problem: problem.into() }
    }
}

/// Begins an image.
///
/// # Errors
/// What writing to `out` says.
pub fn write_header(out: &mut impl Write, magic: Magic) -> io::Result<()> {
    magic.words().try_for_each(|word| out.write_all(&word.to_le_bytes()))
}

/// Appends a message behind its length. `scratch` is room to encode it in.
///
/// # Errors
/// What writing to `out` says; `InvalidInput` if the message is longer than [`MAX_MESSAGE`].
pub fn write_message(
    out: &mut impl Write,
    message: &impl Message,
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    let len = message.encoded_len();
    let word = u32::try_from(len)
        .ok()
        .filter(|&len| u64::from(len) <= MAX_MESSAGE)
        .ok_or(io::ErrorKind::InvalidInput)?;
    scratch.clear();
    message.encode(scratch).expect("a Vec has room");
    out.write_all(&word.to_le_bytes())?;
    out.write_all(scratch)
}
