//! The contents of a regular file that are in the images.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use dormouse_image::proto::files::reg::GhostChunkEntry;
use dormouse_image::store::ImageReader;
use dormouse_image::{ImageDir, ImageName, Writer};
use rustix::io::Errno;

use crate::file::Origin;
use crate::{Error, Result};

/// Files of this size in bytes and more are stored in chunks, with their
/// holes left out, as CRIU has it.
const CHUNKS_FROM: u64 = 3 * 4096;

/// Where the contents are.
#[derive(Debug)]
pub(super) enum Contents {
    /// It is no regular file.
    None,
    /// In the file itself, at the dump.
    Open(Origin),
    /// In its image, at the restore.
    Stored(Vec<Extent>),
}

/// A part of a file that is no hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where the bytes are in the image.
    image: Range<u64>,
    /// Where they go in the file.
    offset: u64,
}

impl Extent {
    fn end(&self) -> u64 {
        self.offset + (self.image.end - self.image.start)
    }
}

impl Contents {
    /// Whether they are stored in chunks, of a file of that size.
    pub(super) fn are_chunks(&self, size: u64) -> bool {
        matches!(self, Self::Open(_)) && size >= CHUNKS_FROM
    }

    /// Writes the contents of a file of `size` bytes.
    pub(super) fn encode(&self, size: u64, writer: &mut Writer<'_>) -> Result<()> {
        let Self::Open(origin) = self else { return Ok(()) };
        let mut file = File::from(origin.reopen_unseen()?);
        if !self.are_chunks(size) {
            return copy(&mut file, size, writer);
        }
        let mut end = 0;
        while let Some(data) = next_data(&file, end, size)? {
            end = data.end;
            let len = data.end - data.start;
            writer.put(&GhostChunkEntry { len, off: data.start })?;
            file.seek(SeekFrom::Start(data.start)).map_err(failed("lseek"))?;
            copy(&mut file, len, writer)?;
        }
        Ok(())
    }

    /// Notes where in an image the contents are.
    pub(super) fn decode(reader: &mut ImageReader, chunks: bool, is_regular: bool) -> Result<Self> {
        if !is_regular {
            return Ok(Self::None);
        }
        let mut extents = Vec::new();
        if chunks {
            while let Some(chunk) = reader.next_message::<GhostChunkEntry>()? {
                let GhostChunkEntry { len, off: offset } = chunk;
                extents.push(Extent { image: reader.skip_payload(len)?, offset });
            }
        } else {
            let len = reader.remaining();
            extents.push(Extent { image: reader.skip_payload(len)?, offset: 0 });
        }
        Ok(Self::Stored(extents))
    }

    /// Behind the last byte that is stored.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::None | Self::Open(_) => 0,
            Self::Stored(extents) => {
                let end = |extent: &Extent| {
                    extent.offset.checked_add(extent.image.end - extent.image.start)
                };
                extents.iter().map(|extent| end(extent).unwrap_or(u64::MAX)).max().unwrap_or(0)
            }
        }
    }

    /// Makes `file`, which is new, hold the contents: `size` bytes, read from
    /// `image`.
    pub(super) fn create(
        &self,
        file: &File,
        size: u64,
        (dir, image): (&ImageDir, ImageName),
    ) -> Result<()> {
        let Self::Stored(extents) = self else { return Ok(()) };
        file.set_len(size).map_err(failed("ftruncate"))?;
        let Some(stored) = dir.find_file(image)? else {
            return Err(dormouse_image::ImageError::Missing { path: dir.path_of(image) }.into());
        };
        let mut buffer = vec![0; 1 << 16];
        for extent in extents {
            let (mut from, mut to) = (extent.image.start, extent.offset);
            while to < extent.end() {
                let len = usize::try_from(extent.end() - to).unwrap_or(usize::MAX);
                let part = &mut buffer[..len.min(1 << 16)];
                stored.read_exact_at(part, from).map_err(failed("read a ghost file's image"))?;
                file.write_all_at(part, to).map_err(failed("write a ghost file"))?;
                from += part.len() as u64;
                to += part.len() as u64;
            }
        }
        Ok(())
    }
}

/// The next range at or behind `start` that is no hole.
fn next_data(file: &File, start: u64, size: u64) -> Result<Option<Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    if start >= size {
        return Ok(None);
    }
    let data = match seek(file, SeekFrom::Data(start)) {
        Ok(data) => data,
        // No more of it.
        Err(Errno::NXIO) => return Ok(None),
        Err(source) => return Err(Error::kernel("lseek", "an unlinked file")(source)),
    };
    let hole =
        seek(file, SeekFrom::Hole(data)).map_err(Error::kernel("lseek", "an unlinked file"))?;
    Ok(Some(data..hole.min(size)).filter(|range| !range.is_empty()))
}

/// Copies exactly `len` bytes.
fn copy(file: &mut File, len: u64, writer: &mut Writer<'_>) -> Result<()> {
    let copied = writer.copy_payload(&mut file.take(len))?;
    if copied == len {
        return Ok(());
    }
    // The tree stands still, so somebody else has cut the file.
    Err(Error::kernel("read", "an unlinked file")(Errno::AGAIN))
}

fn failed(call: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| {
        let source = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Error::kernel(call, "an unlinked file")(source)
    }
}
