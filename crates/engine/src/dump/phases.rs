//! The phases, in their order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use dormouse_image::ImageName;
use dormouse_image::store::{DumpPlace, NewDump};
use dormouse_kernel::{Addr, HostPid};
use dormouse_resources::file::RingSurvey;
use dormouse_resources::memory::{DumpedPages, DumpedProcess, PageDump};
use dormouse_resources::task::Filters;
use tracing::info;

use super::collect::{self, Living};
use super::enumerate::{self, Census};
use super::frozen::Frozen;
use super::{aio, checks, encode, files, freeze, queues, rings, stale};
use crate::cause::{At, Cause};
use crate::progress::Logged;
use crate::stats::Stats;
use crate::{AfterDump, DumpOptions, Error, Phase, Progress, processor};

/// What a dump cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpReport {
    /// How long it took until the last task stood still.
    pub freezing: Duration,
    /// How long the tree stood still.
    pub frozen: Duration,
    /// How long it took to find and copy the pages.
    pub memory: Duration,
    /// Pages, as they were found and written.
    pub pages: DumpedPages,
    /// Tasks.
    pub tasks: usize,
}

/// Dumps a tree. Whatever goes wrong, the tree runs on as if nothing had
/// happened, and nothing is left in the image directory; an earlier dump in it
/// stays complete if this one is refused.
pub fn dump(options: &DumpOptions, progress: &mut dyn Progress) -> Result<DumpReport, Error> {
    let progress = &mut Logged::new(progress);
    progress.phase(Phase::Freeze, None);
    let place = DumpPlace::open(&options.images).at(Phase::Encode)?;
    let work = options.work.as_ref().unwrap_or(&options.images);
    let stats = Stats::begin(work, ImageName::StatsDump, options.needs_stats).at(Phase::Encode)?;
    let begun = Instant::now();
    let looked = queues::look(options.pid);
    stale::check(&looked)?;
    let is_abandoned = || progress.is_abandoned();
    let mut frozen = freeze::freeze(options.pid, looked, options.timeout, &is_abandoned)
        .of(Phase::Freeze, options.pid)?;
    let mut report =
        DumpReport { freezing: begun.elapsed(), tasks: frozen.tasks(), ..DumpReport::default() };
    let still = Instant::now();

    progress.phase(Phase::Enumerate, None);
    let (mut census, (read, filters), rings) = stand_still(options, &mut frozen, progress)?;
    let (files, mut connections) = files::collect(options, &frozen, &mut census, rings)?;
    let inventory = encode::inventory(options, &census, connections.run());
    if options.after != AfterDump::Kill {
        // The program goes on, and so may its peers.
        drop(std::mem::take(&mut connections));
    }

    go_on(progress, Phase::Collect)?;
    // Whatever is refused has been, so an earlier dump may go.
    let dump = place.begin().at(Phase::Encode)?;
    let begun = Instant::now();
    report.pages = dump_pages(&frozen, &mut census, &dump, progress)?;
    report.memory = begun.elapsed();

    progress.phase(Phase::Encode, None);
    encode::encode(&frozen, &census, (&read, &filters), &dump)?;
    if options.cpu_info {
        dump.put_one(ImageName::CpuInfo, &processor::entry()).at(Phase::Encode)?;
    }
    let undo = files::encode(&census, &files, &dump)?;

    progress.phase(Phase::Commit, None);
    go_on(progress, Phase::Commit)?;
    // What can fail comes before the dump is complete.
    report.frozen = still.elapsed();
    stats.write_dump(&report);
    connections.outlast().at(Phase::Commit)?;
    dump.commit(&inventory).at(Phase::Commit)?;
    undo.keep();
    let DumpReport { tasks, frozen: still, pages, .. } = report;
    info!(tasks, ?still, pages = pages.found + pages.found_shared, "complete");

    progress.phase(Phase::Thaw, None);
    match options.after {
        AfterDump::Kill => {
            let killed = frozen.kill(|| connections.orphan());
            connections.close();
            killed.at(Phase::Thaw)?;
        }
        AfterDump::LeaveStopped => frozen.leave_stopped(),
        AfterDump::LeaveRunning => drop(frozen),
    }
    Ok(report)
}

/// What tasks have told.
type Read = (BTreeMap<HostPid, Living>, Filters);

/// Takes the census and reads every task, once nothing goes on that was asked
/// of the kernel before.
///
/// Requests of io_uring complete when the tasks that made them run for a moment, as they do to be
/// read. So where there are rings, what they change is looked at once more after that, when no task runs
/// any more. Should something complete also then, it is all done again.
fn stand_still(
    options: &DumpOptions,
    frozen: &mut Frozen,
    progress: &mut dyn Progress,
) -> Result<(Census, Read, RingSurvey), Error> {
    const TRIES: usize = 16;
    let begun = Instant::now();
    let tasks = frozen.processes.iter().flat_map(|process| &process.threads);
    let mut survey = RingSurvey::new(tasks.map(|task| task.tid()).collect());
    for attempt in 1.. {
        let patience = options.timeout.saturating_sub(begun.elapsed());
        let is_abandoned = || progress.is_abandoned();
        let mut census = enumerate::enumerate(frozen, &options.external)?;
        rings::settle(frozen, &census, &mut survey, (patience, &is_abandoned))?;
        let again = |frozen: &Frozen| {
            let mut census = enumerate::enumerate(frozen, &options.external)?;
            aio::settle(&mut census, Duration::ZERO, &|| false)?;
            Ok(census)
        };
        if aio::settle(&mut census, patience, &is_abandoned)? {
            // Requests may have been at work beside the census.
            census = again(frozen)?;
        }
        if attempt == 1 {
            checks::check_tree(options, frozen, &census)?;
            checks::check_files(frozen, &census)?;
            progress.phase(Phase::Collect, None);
        }
        go_on(progress, Phase::Collect)?;
        let (mut living, filters) = collect::collect(frozen, &census)?;
        go_on(progress, Phase::Collect)?;
        if survey.is_empty() {
            return Ok((census, (living, filters), survey));
        }
        let mut at_work = rings::at_work(&census, &mut survey)?;
        if at_work.is_none() {
            census = again(frozen)?;
            collect::renew_spaces(&mut living, &census);
            at_work = rings::gone_on(&census, &mut survey)?;
        }
        match at_work {
            None => return Ok((census, (living, filters), survey)),
            Some(ring) if attempt == TRIES => rings::restless(ring)?,
            Some(_) => {}
        }
    }
    unreachable!("the last attempt returns")
}

/// Fails if nobody wants the dump any more.
fn go_on(progress: &dyn Progress, phase: Phase) -> Result<(), Error> {
    if progress.is_abandoned() { Err(Cause::Abandoned).at(phase) } else { Ok(()) }
}

fn dump_pages(
    frozen: &Frozen,
    census: &mut Census,
    dump: &NewDump,
    progress: &mut dyn Progress,
) -> Result<DumpedPages, Error> {
    const PHASE: Phase = Phase::Pages;
    let mut processes = Vec::new();
    for process in &frozen.processes {
        // Zombies have none, and of what is shared each is dumped once.
        let Some(space) = census.spaces.get_mut(&process.first()) else { continue };
        let lowest = space.vmas.first().map(|vma| vma.range.start()).unwrap_or(Addr::NULL);
        processes.push(DumpedProcess {
            image_pid: encode::image_pid(process.pid),
            proc: &process.proc,
            pages: std::mem::take(&mut space.pages),
            lowest,
        });
    }
    let plan = PageDump::plan(processes, &census.objects).at(PHASE)?;
    progress.phase(PHASE, Some(plan.bytes()));
    let mut advance = |bytes| {
        progress.advance(bytes);
        if progress.is_abandoned() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    plan.write(dump, &mut advance).at(PHASE)
}
