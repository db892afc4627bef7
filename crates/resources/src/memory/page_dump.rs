//! Writing the pages of a tree.
//!
//! A tree without much in common has CRIU's plain layout: for each process `pagemap-PID.img` and
//! its own `pages-N.img`. Pages that several processes have in common go into a directory `cow`,
//! to which a link `parent` leads: one `pages-1.img` for all, and `pagemap-PID.img` for each, which
//! passes over what is not its own ([`ParentPagemap`]). CRIU takes that for an incremental dump.
//!
//! Shared memory objects follow, each with `pagemap-shmem-ID.img` and a pages file.

use std::ops::ControlFlow;
use std::path::Path;

use dormouse_image::ImageName;
use dormouse_image::pagemap::{PagemapBuilder, PagemapProblem, ParentPagemap, Stored};
use dormouse_image::store::{NewDump, NewPart};
use dormouse_kernel::pagemap::Pagemap;
use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::remote_memory::Mem;
use dormouse_kernel::{Addr, AddrRange, PAGE_SIZE};

use super::copy::{self, LeftOut, Output, Piece, Source};
use super::error::{Error, Result};
use super::shared::SharedObjects;
use super::sharing::SharedPages;
use super::survey::{PageRun, StoredPages};
use super::vma::ShmemId;

/// A process whose pages are to be written.
#[derive(Debug)]
pub struct DumpedProcess<'a> {
    /// The number in the names of its images.
    pub image_pid: u32,
    /// The process, stopped.
    pub proc: &'a ProcDir,
    /// Its pages.
    pub pages: StoredPages,
    /// Where its lowest mapping begins.
    pub lowest: Addr,
}

/// All pages to be written, and how they are laid out.
#[derive(Debug)]
pub struct PageDump<'a> {
    processes: Vec<Process<'a>>,
    shared: SharedPages,
    objects: Vec<Object<'a>>,
}

#[derive(Debug)]
struct Process<'a> {
    image_pid: u32,
    proc: &'a ProcDir,
    lowest: Addr,
    /// All its pages.
    count: u64,
    /// Some of them need `/proc/PID/mem`.
    needs_mem: bool,
    /// Those it has alone.
    private: StoredPages,
}

#[derive(Debug)]
struct Object<'a> {
    id: ShmemId,
    source: super::shared::SharedObject<'a>,
    extents: Vec<AddrRange>,
    zero_is_nothing: bool,
}

/// How many pages there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpedPages {
    /// Private pages of all processes, each counted in each process.
    pub found: u64,
    /// Of these, written into the pages file of their process.
    pub written: u64,
    /// Of these, in common with another process.
    pub in_common: u64,
    /// Written into the file for those.
    pub written_in_common: u64,
    /// Pages of shared memory objects.
    pub found_shared: u64,
    /// Of these, written.
    pub written_shared: u64,
}

/// The directory for pages in common.
const COW: &str = "cow";

/// The least that must be saved to make another directory, in pages: 1 MiB. Restoring, equal pages
/// are found also where each process has its own copy.
const WORTH_SHARING: u64 = 256;

impl<'a> PageDump<'a> {
    /// Looks at what the processes have in common, and at shared memory. All processes must be
    /// stopped, and stay so until [`write`](Self::write) is done.
    ///
    /// # Errors
    ///
    /// The pagemap of a process or an object cannot be read.
    pub fn plan(mut processes: Vec<DumpedProcess<'a>>, objects: &'a SharedObjects) -> Result<Self> {
        let mut all: Vec<_> =
            processes.iter_mut().map(|process| std::mem::take(&mut process.pages)).collect();
        for (pages, process) in all.iter_mut().zip(&processes) {
            // There is no room for what passes over others' pages.
            if process.lowest.as_raw() < PAGE_SIZE {
                pages.runs.iter_mut().for_each(|run| run.traits.maybe_shared = false);
            }
        }
        let mut pagemaps: Vec<Option<Pagemap>> = processes.iter().map(|_| None).collect();
        let mut shared = SharedPages::find(&all, |process, range, entries| {
            let pagemap = match &mut pagemaps[process] {
                Some(pagemap) => pagemap,
                closed => closed.insert(Pagemap::open(processes[process].proc)?),
            };
            Ok(pagemap.entries(range, entries)?)
        })?;
        if shared.saved() < WORTH_SHARING {
            shared = SharedPages::default();
        }
        let own = processes.into_iter().zip(&all).map(|(process, pages)| {
            let DumpedProcess { image_pid, proc, pages: _, lowest } = process;
            let needs_mem = pages.runs.iter().any(|run| run.traits.needs_mem());
            (image_pid, proc, lowest, pages.count(), needs_mem)
        });
        let own: Vec<_> = own.collect();
        let processes = own
            .into_iter()
            .zip(shared.private(all))
            .map(|((image_pid, proc, lowest, count, needs_mem), private)| Process {
                image_pid,
                proc,
                lowest,
                count,
                needs_mem,
                private,
            })
            .collect();
        let with_zeros = objects.with_zeros();
        let objects = objects
            .iter()
            .map(|(id, source)| {
                let (extents, zero_is_nothing) = (source.extents()?, !with_zeros.contains(&id));
                Ok(Object { id, source, extents, zero_is_nothing })
            })
            .collect::<Result<_>>()?;
        Ok(Self { processes, shared, objects })
    }

    /// Bytes to be copied.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let private: u64 = self.processes.iter().map(|process| process.private.count()).sum();
        let shared: u64 = self.shared.groups.iter().map(|group| group.range.pages()).sum();
        (private + shared) * PAGE_SIZE
            + self.objects.iter().flat_map(|object| &object.extents).map(|e| e.len()).sum::<u64>()
    }

    /// Copies all pages and writes all pagemaps. `progress` hears of bytes copied.
    ///
    /// # Errors
    ///
    /// A page cannot be read, or an image not be written.
    pub fn write(
        self,
        dump: &NewDump,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<DumpedPages> {
        let mut sources = Vec::new();
        for process in &self.processes {
            let pid = process.proc.pid();
            sources.push(Source::Process(pid));
            sources.push(if process.needs_mem {
                Source::Mem(pid, Mem::open(process.proc)?)
            } else {
                // Nobody asks for it.
                Source::Process(pid)
            });
        }
        let first_object = sources.len();
        sources.extend(self.objects.iter().map(|object| Source::Object(object.source)));

        let mut outputs = Vec::new();
        let mut create: Vec<&NewPart> = Vec::new();
        let cow = if self.shared.groups.is_empty() { None } else { Some(dump.subdir(COW)?) };
        if let Some(cow) = &cow {
            dump.link_parent(Path::new(COW))?;
            create.push(cow);
            let pieces = self.shared.groups.iter().map(|group| {
                let owner = self.shared.members(group)[0];
                piece(owner, PageRun { range: group.range, traits: group.traits })
            });
            outputs.push(Output { image: ImageName::Pages(1), pieces: pieces.collect() });
        }
        let own = outputs.len();
        let pages = (1..).map(ImageName::Pages);
        let private = self.processes.iter().enumerate().map(|(number, process)| {
            process.private.runs.iter().map(|run| piece(number, *run)).collect::<Vec<_>>()
        });
        let objects = self.objects.iter().enumerate().map(|(number, object)| {
            let source = index(first_object + number);
            let zero_is_nothing = object.zero_is_nothing;
            let piece = |&range| Piece { source, zero_is_nothing, range };
            object.extents.iter().map(piece).collect()
        });
        outputs.extend(
            private.chain(objects).zip(pages).map(|(pieces, image)| Output { image, pieces }),
        );
        create.resize(outputs.len(), dump);

        let left_out = copy::copy(
            &sources,
            &outputs,
            |number| Ok(create[number].raw(outputs[number].image)?),
            progress,
        )?;
        self.write_pagemaps(dump, cow.as_ref(), &outputs, &left_out, own)
    }

    fn write_pagemaps(
        &self,
        dump: &NewDump,
        cow: Option<&NewPart>,
        outputs: &[Output],
        left_out: &[LeftOut],
        own: usize,
    ) -> Result<DumpedPages> {
        let mut pages = DumpedPages {
            found: self.processes.iter().map(|process| process.count).sum(),
            ..DumpedPages::default()
        };
        // What each process has in the common file, and the page of the file where it begins.
        let mut common: Vec<Vec<(AddrRange, u64)>> = vec![Vec::new(); self.processes.len()];
        if cow.is_some() {
            let mut at = 0;
            stored(&outputs[0].pieces, &left_out[0], |number, range| {
                for &process in self.shared.members(&self.shared.groups[number]) {
                    common[process].push((range, at));
                }
                at += range.pages();
            });
            pages.written_in_common = at;
        }
        for (number, (process, common)) in self.processes.iter().zip(&common).enumerate() {
            let image = ImageName::Pagemap(process.image_pid);
            let invalid = |problem| invalid(image, problem);
            let mut runs: Vec<_> =
                common.iter().map(|&(range, _)| (range, Stored::Parent)).collect();
            let output = own + number;
            stored(&outputs[output].pieces, &left_out[output], |_, range| {
                runs.push((range, Stored::Here));
                pages.written += range.pages();
            });
            // Two ascending lists.
            runs.sort_by_key(|(range, _)| range.start());
            let mut builder = PagemapBuilder::default();
            for (range, place) in runs {
                builder.push(range.start().as_raw(), range.pages(), place).map_err(invalid)?;
            }
            finish(dump, &builder, image, &outputs[output])?;
            if let Some(cow) = cow
                && !common.is_empty()
            {
                let mut parent = ParentPagemap::new(process.lowest.as_raw());
                for &(range, at) in common {
                    pages.in_common += range.pages();
                    parent.push(range.start().as_raw(), range.pages(), at).map_err(invalid)?;
                }
                parent.write(cow, image, 1)?;
            }
        }
        for (object, output) in self.objects.iter().zip(own + self.processes.len()..) {
            let image = ImageName::PagemapShmem(object.id.as_raw().into());
            let mut builder = PagemapBuilder::default();
            let mut result = Ok(());
            stored(&outputs[output].pieces, &left_out[output], |_, range| {
                pages.written_shared += range.pages();
                let (start, count) = (range.start().as_raw(), range.pages());
                if result.is_ok() {
                    result = builder.push(start, count, Stored::Here).map(|_| ());
                }
            });
            result.map_err(|problem| invalid(image, problem))?;
            pages.found_shared += object.extents.iter().map(|extent| extent.pages()).sum::<u64>();
            finish(dump, &builder, image, &outputs[output])?;
        }
        Ok(pages)
    }
}

/// The first source of a process is the fast one; the second can read everything.
fn piece(process: usize, run: PageRun) -> Piece {
    let PageRun { range, traits } = run;
    Piece {
        source: index(2 * process + usize::from(traits.needs_mem())),
        zero_is_nothing: traits.zero_is_nothing,
        range,
    }
}

fn index(source: usize) -> u32 {
    source.try_into().expect("fewer processes and objects than pids and inodes")
}

/// Calls `each` for what is in the file of `pieces`, in the order of the file.
fn stored(pieces: &[Piece], left_out: &LeftOut, mut each: impl FnMut(usize, AddrRange)) {
    let mut left_out = left_out.iter().peekable();
    for (number, piece) in pieces.iter().enumerate() {
        let mut at = piece.range.start();
        let mut up_to = |from, to| {
            if let Some(range) = AddrRange::new(from, to).filter(|range| !range.is_empty()) {
                each(number, range);
            }
        };
        while let Some((_, hole)) = left_out.next_if(|(of, _)| *of == number) {
            up_to(at, hole.start());
            at = hole.end();
        }
        up_to(at, piece.range.end());
    }
}

fn finish(
    dump: &NewDump,
    builder: &PagemapBuilder,
    image: ImageName,
    output: &Output,
) -> Result<()> {
    let ImageName::Pages(id) = output.image else { unreachable!("outputs are pages files") };
    // Otherwise it exists, be it empty.
    if output.pieces.is_empty() {
        drop(dump.raw(output.image)?);
    }
    Ok(builder.write(dump, image, id)?)
}

/// Runs that ascend and do not overlap make no such problems; the kernel gave others.
fn invalid(image: ImageName, problem: PagemapProblem) -> Error {
    Error::PageOrder { image, problem }
}

#[cfg(test)]
mod tests;
