//! Looking at all rings of a tree.
//!
//! Requests complete while the tree stands still: timers fire, data arrives, threads of the kernel work. Most
//! complete only when the task that made them runs for a moment, which it does last when it
//! is read. So all rings are looked at after that, and once more when files and memory have been: if nothing has
//! completed in between, they are of one moment. What happens later happens to requests that wait, and they
//! find it when they are made again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};

use dormouse_kernel::io_uring::Setup;
use dormouse_kernel::{HostPid, NsPid};
use epoll_interest::kernel_memory::{Address, ReadError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;

use super::inside::{Found, Inside};
use super::registered::{self, Registered};
use super::request::{On, Request};
use super::waiting::{OP_TIMEOUT, Waiting};
use super::{refused, unkept, unreadable};
use crate::file::{CollectCx, FileId, FileRef, FsMagic, Probe, SocketFamily};
use crate::{Error, Result};

/// How many descriptors are held at a time to learn whose they are.
const BATCH: usize = 256;
/// All that `poll(2)` can tell of, but for `POLLNVAL`.
const ALL_EVENTS: u16 = 0x7fdf;

/// All rings of a tree.
#[derive(Default)]
pub struct RingSurvey {
    inside: Option<Inside>,
    /// As they were when they were looked at last.
    rings: BTreeMap<Address, Found>,
    /// The tasks of the tree that live.
    tasks: BTreeSet<HostPid>,
    /// Every open file, once that is asked for.
    files: Option<HashMap<Address, FileId>>,
    /// Requests that all rings read so far have taken, or completions given if those are more.
    pub(super) used: u64,
}

/// What completes without anything else happening. A request that has waited, for something that has
/// happened, is not of it: it completes when its task runs.
#[derive(Debug)]
pub struct Completing {
    /// So many requests.
    pub count: usize,
    /// The tasks that may have to see to that.
    pub tasks: Vec<HostPid>,
    /// Whether they have to ask for it.
    pub asked: bool,
}

impl RingSurvey {
    /// Of a tree with these tasks.
    #[must_use]
    pub fn new(tasks: BTreeSet<HostPid>) -> Self {
        Self { tasks, ..Self::default() }
    }

    /// Whether the file is a ring.
    #[must_use]
    pub fn concerns(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some("io_uring") && !probe.is_path_only()
    }

    /// Whether there is any ring.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rings.is_empty()
    }

    /// Looks at a ring.
    ///
    /// # Errors
    /// It cannot be saved, or the kernel does not tell.
    pub fn look(&mut self, probe: &Probe) -> Result<Completing> {
        let found = self.read(probe, &probe.duplicate()?)?;
        if let Some(problem) = unkept(found.setup).or(found.more.map(|more| more.problem())) {
            return Err(refused(probe, problem));
        }
        // What they are linked to may wait for as long as they do.
        if let Some(problem) = found.waiting.iter().find_map(Waiting::problem) {
            return Err(refused(probe, problem));
        }
        let count = found.completing as usize;
        let tasks = found.users.iter().filter_map(|&task| HostPid::from_raw(task)).collect();
        let asked = found.setup.contains(Setup::DEFER_TASKRUN);
        self.rings.insert(found.at, found);
        Ok(Completing { count, tasks, asked })
    }

    /// Looks at a ring again, and tells whether anything has completed since it was looked at last.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn has_gone_on(&mut self, probe: &Probe) -> Result<bool> {
        let now = self.read(probe, &probe.duplicate()?)?;
        Ok(self.rings.get(&now.at).is_none_or(|before| still(before) != still(&now)))
    }

    /// What a ring was when it was looked at last.
    pub(super) fn of(&mut self, probe: &Probe, ring: &OwnedFd) -> Result<Found> {
        let at = self.inside(probe)?.private(ring.as_fd()).map_err(|_| unreadable(probe))?;
        self.rings
            .get(&at)
            .cloned()
            .ok_or_else(|| refused(probe, ("it was made while the tree stood still", "dump again")))
    }

    fn inside(&mut self, probe: &Probe) -> Result<&mut Inside> {
        match &mut self.inside {
            Some(inside) => Ok(inside),
            none => {
                let opened = Inside::open().map_err(|error| {
                    warn!(%error, "rings cannot be read");
                    unreadable(probe)
                })?;
                Ok(none.insert(opened))
            }
        }
    }

    fn read(&mut self, probe: &Probe, ring: &OwnedFd) -> Result<Found> {
        match self.inside(probe)?.read(ring.as_fd()) {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(ReadError::Fault) => {
                let reason = "requests complete without a pause";
                Err(refused(probe, (reason, "dump again when less is going on")))
            }
            Err(ReadError::Run(_)) => Err(unreadable(probe)),
        }
    }

    /// A task of the tree that lives, by its number here.
    pub(super) fn task(&self, cx: &CollectCx<'_>, pid: i32) -> Option<NsPid> {
        let pid = HostPid::from_raw(pid).filter(|pid| self.tasks.contains(pid))?;
        cx.ns_pid(pid)
    }

    /// Requests that wait, as they are to be made again.
    pub(super) fn requests(
        &mut self,
        cx: &CollectCx<'_>,
        (probe, ring): (&Probe, &OwnedFd),
        waiting: &[Waiting],
    ) -> Result<Vec<Request>> {
        let unseen = |_: ReadError| unreadable(probe);
        let mut requests = Vec::new();
        let mut told = Vec::new();
        for request in waiting {
            let task = self.inside(probe)?.pid(request.task).map_err(unseen)?;
            let task = self.task(cx, task);
            let strange = |reason| {
                let hint = "checkpoint the tree that has it as well";
                refused(probe, (reason, hint))
            };
            let task = task.ok_or_else(|| strange("a task has made requests that is elsewhere"))?;
            let on = match request.file {
                0 => None,
                file => {
                    let &id = self.files(cx, probe)?.get(&file).ok_or_else(|| {
                        strange("a request in flight is on a file that nobody has open")
                    })?;
                    Some((FileRef(id), on(&cx.probes[&id])))
                }
            };
            let made = Request::of(request, task, on).map_err(|problem| refused(probe, problem))?;
            if let Some((file, _)) = on
                && made.tells_when_made()
            {
                told.push((requests.len(), request.at, ready(&cx.probes[&file.0])?));
            }
            requests.push(made);
        }
        if told.is_empty() {
            return Ok(requests);
        }
        // What was there before nobody had woken the poll since, it has told.
        let now = self.read(probe, ring)?.waiting;
        for (number, at, ready) in told {
            if now.iter().any(|request| request.at == at && !request.is_woken) {
                requests[number].has_told(ready);
            }
        }
        Ok(requests)
    }

    /// What is registered with a ring.
    pub(super) fn registered(
        &mut self,
        cx: &CollectCx<'_>,
        probe: &Probe,
        Found { files, event, submitter, users, .. }: &Found,
    ) -> Result<Option<Registered>> {
        const ALONE: &str = "have the program keep a descriptor of each";
        if files.is_empty() && event.is_none() {
            return Ok(None);
        }
        let refuse = |reason, hint| Err(refused(probe, (reason, hint)));
        if files.len() > registered::MOST as usize {
            return refuse("more than 16384 files are registered with it", "register fewer");
        }
        let mut tasks = submitter.iter().chain(users);
        let Some(task) = tasks.find_map(|&task| self.task(cx, task)) else {
            let hint = "checkpoint the tree that uses it as well";
            return refuse("files are registered with it, and no task of the tree uses it", hint);
        };
        let mut places = BTreeMap::new();
        for (place, file) in (0..).zip(files).filter(|&(_, &file)| file != 0) {
            let Some(&id) = self.files(cx, probe)?.get(file) else {
                return refuse("a file is registered with it that nobody has open", ALONE);
            };
            places.insert(place, FileRef(id));
        }
        let event = match *event {
            None => None,
            Some((context, late)) => match self.eventfd(cx, probe, context)? {
                Some(file) => Some((file, late)),
                None => {
                    return refuse("an eventfd is registered with it that nobody has open", ALONE);
                }
            },
        };
        Ok(Some(Registered { task, len: files.len() as u32, files: places, event }))
    }

    /// The eventfd that is this one.
    fn eventfd(
        &mut self,
        cx: &CollectCx<'_>,
        probe: &Probe,
        context: Address,
    ) -> Result<Option<FileRef>> {
        let is_one = |it: &&Probe| it.anonymous_inode() == Some("eventfd") && !it.is_path_only();
        for eventfd in cx.probes.values().filter(is_one) {
            let file = eventfd.duplicate()?;
            let own = self.inside(probe)?.private(file.as_fd()).map_err(|_| unreadable(probe))?;
            if own == context {
                return Ok(Some(FileRef(eventfd.id)));
            }
        }
        Ok(None)
    }

    /// All files that are open, by their `struct file`.
    fn files(&mut self, cx: &CollectCx<'_>, probe: &Probe) -> Result<&HashMap<Address, FileId>> {
        if self.files.is_none() {
            self.files = Some(self.all_files(cx, probe)?);
        }
        Ok(self.files.as_ref().expect("they were just looked up"))
    }

    fn all_files(&mut self, cx: &CollectCx<'_>, probe: &Probe) -> Result<HashMap<Address, FileId>> {
        let mut found = HashMap::new();
        let open: Vec<_> = cx.probes.values().filter(|probe| probe.has_description()).collect();
        for probes in open.chunks(BATCH) {
            let files = probes.iter().map(|probe| probe.duplicate()).collect::<Result<Vec<_>>>()?;
            let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let addresses = self.inside(probe)?.files(&fds).map_err(|_| unreadable(probe))?;
            found.extend(addresses.into_iter().zip(probes.iter().map(|probe| probe.id)));
        }
        Ok(found)
    }
}

/// What does not change before a task runs, although requests are woken and timers expire.
fn still(found: &Found) -> Found {
    let (timeouts, others): (Vec<_>, Vec<_>) =
        found.waiting.iter().cloned().partition(|request| request.operation == OP_TIMEOUT);
    let asleep = others.into_iter().map(|request| Waiting { is_woken: false, ..request });
    Found {
        completing: found.completing + timeouts.len() as u32,
        waiting: asleep.collect(),
        ..found.clone()
    }
}

fn on(probe: &Probe) -> On {
    if probe.anonymous_inode() == Some("signalfd") {
        return On::Signals;
    }
    let inet = [SocketFamily::INET, SocketFamily::INET6];
    let is_inet = probe.file_system == FsMagic::SOCKET
        && probe.socket_family().is_some_and(|family| inet.contains(&family));
    if is_inet { On::Internet } else { On::Other }
}

/// The events that are ready on a file, `POLL*`.
fn ready(probe: &Probe) -> Result<u32> {
    let file = probe.duplicate()?;
    let all = PollFlags::from_bits_retain(ALL_EVENTS);
    let mut polled = [PollFd::from_borrowed_fd(file.as_fd(), all)];
    poll(&mut polled, Some(&Timespec::default())).map_err(Error::kernel("poll", &probe.link))?;
    Ok(polled[0].revents().bits().into())
}
