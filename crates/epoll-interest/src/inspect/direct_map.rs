//! Where the kernel has the contents of a page that it knows by its `struct
//! page`.
//!
//! Truth from: `page_to_virt` and `CONFIG_SPARSEMEM_VMEMMAP` of x86-64: the
//! structures of all pages are one array, and all memory is mapped in one piece;
//! `arch/x86/mm/kaslr.c`: each begins at a multiple of a gibibyte, which no
//! call tells. So a page of this process, which is filled with what no other
//! has, is looked for at every place where it can be.

use std::os::fd::AsFd as _;

use rustix::io::{Errno, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::rand::{GetRandomFlags, getrandom};

use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError};
use super::open_files::OpenFiles;

const PAGE: u64 = 4096;
const GIBIBYTE: u64 = 1 << 30;
/// What is looked for, in bytes: as much as is read at once.
const MARK: usize = 256;

/// Offsets and lengths in bytes.
#[derive(Clone, Copy, Debug)]
struct Layout {
    files: OpenFiles,
    page_len: usize,
    pipe_buffers: usize,
    buffer_page: usize,
}

/// Finds the contents of pages.
#[derive(Clone, Copy, Debug)]
pub struct DirectMap {
    /// The structure of the first page.
    pages: Address,
    /// Bytes from one to the next.
    page_len: u64,
    /// The contents of the first page.
    memory: Address,
}

impl DirectMap {
    /// Finds out where the kernel has its memory; `None` if that is nowhere
    /// where it can be.
    ///
    /// # Errors
    /// Kernel memory cannot be read.
    pub fn find(btf: &Btf<'_>, memory: &mut KernelMemory) -> Result<Option<Self>, FindError> {
        let layout = Layout {
            files: OpenFiles::new(btf)?,
            page_len: btf.structure("page")?.size(),
            pipe_buffers: btf.structure("pipe_inode_info")?.offset("bufs")?,
            buffer_page: btf.structure("pipe_buffer")?.offset("page")?,
        };
        let mut mark = [0; MARK];
        getrandom(&mut mark, GetRandomFlags::empty())?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        write(&writer, &mark)?;
        let pipe = layout.files.private_data(memory, &[reader.as_fd()])?[0];
        // In a new pipe, what is written first is in the first buffer.
        let buffers = memory.word(pipe + layout.pipe_buffers as u64)?;
        let page = memory.word(buffers + layout.buffer_page as u64)?;
        let page_len = layout.page_len as u64;
        let most = rustix::system::sysinfo().totalram.saturating_mul(2) / GIBIBYTE + 64;
        for pages in downward(page, most * page_len / PAGE + 1) {
            let at = (page - pages) / page_len * PAGE;
            for start in downward(buffers, most) {
                match memory.read(&[start + at], MARK) {
                    Ok(found) if found == mark => {
                        return Ok(Some(Self { pages, page_len, memory: start }));
                    }
                    Ok(_) | Err(ReadError::Fault) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(None)
    }

    /// Where the contents of a page are.
    #[must_use]
    pub fn contents(&self, page: Address) -> Address {
        self.memory + page.wrapping_sub(self.pages) / self.page_len * PAGE
    }
}

/// So many multiples of a gibibyte, from the first below an address.
fn downward(from: Address, most: u64) -> impl Iterator<Item = Address> {
    (0..most).map_while(move |number| (from / GIBIBYTE).checked_sub(number)).map(|at| at * GIBIBYTE)
}

/// Why the memory of the kernel was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The type information is not of the form known here.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// Memory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no pipe, or nothing at random.
    #[error("cannot fill a page of a pipe")]
    Pipe(#[from] Errno),
}

#[cfg(test)]
mod tests {
    use super::super::type_information::TypeInformation;
    use super::{DirectMap, KernelMemory};

    #[test]
    fn memory_is_found() {
        let types = TypeInformation::open().unwrap();
        let (mut memory, ()) = KernelMemory::open(|_| Ok(())).unwrap();
        // It finds its own page only at the right place.
        assert!(DirectMap::find(&types.parse().unwrap(), &mut memory).unwrap().is_some());
    }
}
