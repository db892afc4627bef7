//! What the kernel finds by walking through the page tables of a process.

use std::thread;

use dormouse_kernel::pagemap::{PageRegion, Pagemap};
use dormouse_kernel::proc::{ProcDir, Smap};

use super::error::Result;
use super::survey;

/// The mappings of a stopped process, and perhaps which of its pages there are.
#[derive(Clone, Debug)]
pub struct Walked {
    pub(super) smaps: Vec<Smap>,
    /// As far as it is known already.
    pub(super) pages: Option<Vec<PageRegion>>,
}

impl Walked {
    /// Reads the mappings. Pages are looked for later, where that is not
    /// plain from them.
    ///
    /// # Errors
    ///
    /// As [`ProcDir::smaps`].
    pub fn read(proc: &ProcDir) -> Result<Self> {
        Ok(Self { smaps: proc.smaps()?, pages: None })
    }

    /// Reads both at the same time, for a process with large page tables.
    ///
    /// # Errors
    ///
    /// The same, and the pagemap cannot be read.
    pub fn read_by_two(proc: &ProcDir) -> Result<Self> {
        let pagemap = Pagemap::open(proc)?;
        thread::scope(|scope| {
            let scanning = scope.spawn(|| survey::all_pages(&pagemap));
            let smaps = proc.smaps();
            match scanning.join() {
                Ok(pages) => Ok(Self { smaps: smaps?, pages: pages? }),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}
