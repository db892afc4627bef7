//! Puppets that are real processes.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dormouse_kernel::clone::{CloneFlags, spawn_bare};
use dormouse_kernel::proc::{Perms, ProcDir, VmaName};
use dormouse_kernel::ptrace::{Halt, Options, Running, Stopped};
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{Addr, AddrRange, HostPid, NsPid};
use dormouse_puppet::{
    Bare, Batch, Borrowed, Ending, Error, Host, borrow_each, run_all, run_each, vacate_together,
};

struct Sleeper(Child);

impl Sleeper {
    fn start(seconds: &str) -> Self {
        let child =
            Command::new("sleep").arg(seconds).stdin(Stdio::null()).spawn().expect("sleep starts");
        std::thread::sleep(Duration::from_millis(50));
        Self(child)
    }

    fn pid(&self) -> HostPid {
        HostPid::from_raw(self.0.id() as i32).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn halt(pid: HostPid, options: Options) -> Stopped {
    match Running::seize(pid, options).unwrap().halt().unwrap() {
        Halt::Halted { task, .. } => task,
        Halt::Exited { .. } | Halt::Ended { .. } => panic!("it ended"),
    }
}

fn vdso(proc: &ProcDir) -> Option<AddrRange> {
    let maps = proc.maps().unwrap();
    maps.iter().find(|vma| vma.name == VmaName::Vdso).map(|vma| vma.range)
}

#[test]
fn a_sleeper_answers_and_sleeps_on() {
    let mut sleeper = Sleeper::start("1");
    let begun = Instant::now();
    let proc = ProcDir::open(sleeper.pid()).unwrap();
    let maps = proc.maps().unwrap();
    let task = halt(sleeper.pid(), Options::empty());
    let before = (task.registers().unwrap(), task.xstate().unwrap(), task.sigmask().unwrap());
    let host = Host::prepare(&proc, vdso(&proc), []).unwrap();
    let status = proc.status().unwrap();
    let (task, pid) = host.borrow(task, &status, |puppet| {
        let mut batch = Batch::new();
        let pid = batch.call(libc::SYS_getpid, []);
        let group = batch.call(libc::SYS_getpgid, [(&pid).into()]);
        let bad = batch.may_fail(libc::SYS_close, [(-1).into()]);
        let out = batch.out(24);
        batch.call(libc::SYS_sigaltstack, [0.into(), (&out).into()]);
        let replies = puppet.run(batch)?;
        assert_eq!(replies.result(&bad), Err(dormouse_kernel::Errno::BADF));
        assert!(replies.value(&group) > 0);
        let mut batch = Batch::new();
        batch.call(libc::SYS_close, [12345.into()]);
        match puppet.run(batch) {
            Err(error @ Error::Call { .. }) => {
                assert!(error.to_string().starts_with("close(0x3039)"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        Ok::<_, Error>(replies.value(&pid))
    });
    let task = task.unwrap();
    assert_eq!(pid.unwrap(), u64::from(sleeper.0.id()));
    host.leave().unwrap();
    assert_eq!(
        before,
        (task.registers().unwrap(), task.xstate().unwrap(), task.sigmask().unwrap())
    );
    assert_eq!(maps, proc.maps().unwrap());
    task.detach(None).unwrap();
    assert!(sleeper.0.wait().unwrap().success());
    assert!(begun.elapsed() > Duration::from_millis(850), "{:?}", begun.elapsed());
}

/// Borrows tasks of several sleepers at once; what they were is what they are afterwards, and they
/// sleep on.
fn borrow_sleepers(
    sleepers: &mut [Sleeper],
    work: impl FnOnce(&mut [Borrowed<'_>]) -> Result<(), (usize, Error)>,
) -> Result<(), (usize, Error)> {
    let procs: Vec<_> =
        sleepers.iter().map(|sleeper| ProcDir::open(sleeper.pid()).unwrap()).collect();
    let hosts: Vec<_> =
        procs.iter().map(|proc| Host::prepare(proc, vdso(proc), []).unwrap()).collect();
    let tasks: Vec<_> =
        sleepers.iter().map(|sleeper| halt(sleeper.pid(), Options::empty())).collect();
    let maps = |proc: &ProcDir| proc.maps().unwrap();
    let before: Vec<_> = tasks.iter().map(|task| task.registers().unwrap()).collect();
    let mapped: Vec<_> = procs.iter().map(maps).collect();
    let statuses: Vec<_> = procs.iter().map(|proc| proc.status().unwrap()).collect();
    let tasks = hosts.iter().zip(tasks).zip(&statuses);
    let tasks = tasks.map(|((host, task), status)| (host, task, status)).collect();
    let (back, result) = borrow_each(tasks, work);
    hosts.into_iter().for_each(|host| host.leave().unwrap());
    let back: Vec<_> = back.into_iter().map(Option::unwrap).collect();
    let after: Vec<_> = back.iter().map(|task| task.registers().unwrap()).collect();
    assert_eq!(before, after);
    assert_eq!(mapped, procs.iter().map(maps).collect::<Vec<_>>());
    back.into_iter().for_each(|task| task.detach(None).unwrap());
    for sleeper in sleepers {
        assert!(sleeper.0.wait().unwrap().success());
    }
    result
}

#[test]
fn several_processes_answer_at_once() {
    let mut sleepers = [Sleeper::start("1"), Sleeper::start("1"), Sleeper::start("1")];
    let pids = [0, 1, 2].map(|index: usize| u64::from(sleepers[index].0.id()));
    borrow_sleepers(&mut sleepers, |puppets| {
        let asked = puppets.iter().map(|_| {
            let mut batch = Batch::new();
            let slot = batch.call(libc::SYS_getpid, []);
            (batch, slot)
        });
        let (batches, slots): (Vec<_>, Vec<_>) = asked.unzip();
        let replies = run_each(puppets, &batches)?;
        let told: Vec<_> =
            replies.iter().zip(&slots).map(|(replies, slot)| replies.value(slot)).collect();
        assert_eq!(told, pids);
        Ok(())
    })
    .unwrap();
}

#[test]
fn of_several_processes_the_one_that_fails_is_named() {
    let mut sleepers = [Sleeper::start("1"), Sleeper::start("1")];
    let result = borrow_sleepers(&mut sleepers, |puppets| {
        let (well, mut bad) = (Batch::new(), Batch::new());
        bad.call(libc::SYS_close, [12345.into()]);
        run_each(puppets, &[well, bad]).map(drop)
    });
    assert!(matches!(result, Err((1, Error::Call { .. }))), "{result:?}");
}

#[test]
fn of_several_processes_one_dies_and_the_others_sleep_on() {
    let mut sleepers = [Sleeper::start("1"), Sleeper::start("30"), Sleeper::start("1")];
    let procs = [0, 1, 2].map(|index: usize| ProcDir::open(sleepers[index].pid()).unwrap());
    let hosts = procs.each_ref().map(|proc| Host::prepare(proc, vdso(proc), []).unwrap());
    let tasks = procs.each_ref().map(|proc| halt(proc.pid(), Options::empty()));
    let statuses = procs.each_ref().map(|proc| proc.status().unwrap());
    let before = tasks.each_ref().map(|task| task.registers().unwrap());
    let tasks = hosts.iter().zip(tasks).zip(&statuses);
    let tasks = tasks.map(|((host, task), status)| (host, task, status)).collect();
    let (back, result) = borrow_each(tasks, |puppets| {
        let mut batches = [Batch::new(), Batch::new(), Batch::new()];
        let to = procs[1].pid().as_raw();
        batches[1].call(libc::SYS_kill, [to.into(), libc::SIGKILL.into()]);
        run_each(puppets, &batches).map(drop)
    });
    let died = procs[1].pid();
    assert!(matches!(result, Err((1, Error::Died(task))) if task == died), "{result:?}");
    assert!(back[1].is_none());
    let gone = hosts.map(|host| host.leave().is_err());
    assert_eq!(gone, [false, true, false]);
    for (index, task) in back.into_iter().enumerate() {
        let Some(task) = task else { continue };
        assert_eq!(task.registers().unwrap(), before[index]);
        task.detach(None).unwrap();
        assert!(sleepers[index].0.wait().unwrap().success());
    }
}

/// A free place for puppets in this process, and so in its forks.
fn room() -> AddrRange {
    AddrRange::with_len(Addr::from_raw(0x6000_0000_0000), 64 << 20).unwrap()
}

fn bare() -> Bare {
    let pid = spawn_bare(&[], CloneFlags::empty()).unwrap();
    let task = halt(pid, Options::EXITKILL | Options::TRACESYSGOOD);
    Bare::take_over(task, NsPid::from_raw(pid.as_raw()).unwrap(), room()).unwrap()
}

#[test]
fn a_bare_child_is_stripped_and_multiplies() {
    let mut root = bare();
    root.strip().unwrap();
    let proc = ProcDir::open(root.tid()).unwrap();
    let left: Vec<_> = proc.maps().unwrap().into_iter().map(|vma| vma.name).collect();
    assert_eq!(left.len(), 3, "code, memory for batches and the vsyscall page: {left:?}");

    let base = root.tid().as_raw();
    let own = NsPid::from_raw(base).unwrap();
    let mut batch = Batch::new();
    // Far from those the kernel gives next, and below `pid_max`, whatever it is.
    let first = if base < 16_000 { base + 1000 } else { 1000 };
    let free: Vec<_> = (first..)
        .filter(|pid| HostPid::from_raw(*pid).is_some_and(|pid| ProcDir::open(pid).is_err()))
        .take(101)
        .collect();
    let child = NsPid::from_raw(free[0]).unwrap();
    let slot = batch.clone_task(CloneFlags::empty(), Some(Signal::CHLD), child);
    let threads = CloneFlags::VM
        | CloneFlags::FS
        | CloneFlags::FILES
        | CloneFlags::SIGHAND
        | CloneFlags::THREAD
        | CloneFlags::SYSVSEM;
    for &tid in &free[1..] {
        batch.clone_task(threads, None, NsPid::from_raw(tid).unwrap());
    }
    let replies = root.run(batch).unwrap();
    assert_eq!(replies.value(&slot), free[0] as u64);
    let tid = |raw| HostPid::from_raw(raw).unwrap();
    let mut child = Bare::adopt(&root, tid(free[0]), child, child).unwrap();
    let mut batch = Batch::new();
    let parent = batch.call(libc::SYS_getppid, []);
    assert_eq!(child.run(batch).unwrap().value(&parent), base as u64);
    for &raw in &free[1..] {
        let mut thread = Bare::adopt(&root, tid(raw), NsPid::from_raw(raw).unwrap(), own).unwrap();
        let mut batch = Batch::new();
        let (process, number) =
            (batch.call(libc::SYS_getpid, []), batch.call(libc::SYS_gettid, []));
        let replies = thread.run(batch).unwrap();
        assert_eq!((replies.value(&process), replies.value(&number)), (base as u64, raw as u64));
    }
    child.end(Ending::Exit(3)).unwrap();
    let mut batch = Batch::new();
    let status = batch.out(4);
    batch.call(libc::SYS_wait4, [(-1).into(), (&status).into(), 0.into(), 0.into()]);
    let replies = root.run(batch).unwrap();
    assert_eq!(i32::from_ne_bytes(*replies.array(&status)), 3 << 8);

    vacate_together([&mut root]).unwrap();
    let stopped = root.become_program((&Default::default(), &xstate()), SigSet::EMPTY).err();
    // Registers of all zeros are no program's.
    assert!(stopped.is_some());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(base).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

fn xstate() -> Vec<u8> {
    let sleeper = Sleeper::start("5");
    halt(sleeper.pid(), Options::empty()).xstate().unwrap()
}

/// A program of several threads, each of which counts its naps and must get all of them.
const NAPPERS: &str = "
import threading, time
def nap():
    for _ in range(60):
        time.sleep(0.02)
threads = [threading.Thread(target=nap) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
";

struct Nappers(Sleeper);

/// Stops all threads of a process, has the first lend its memory to the others, and `work` do
/// something with those; then lets them go. Each that lives must come back as it was.
fn lend(
    proc: &ProcDir,
    work: impl FnOnce(&mut [Borrowed<'_>]) -> Result<(), Error>,
) -> (Vec<HostPid>, Result<(), Error>) {
    let tids = proc.tasks().unwrap();
    let mut tasks: Vec<_> = tids.iter().map(|&tid| halt(tid, Options::empty())).collect();
    let was = |task: &Stopped| (task.registers().unwrap(), task.sigmask().unwrap());
    let before: Vec<_> = tasks.iter().map(|task| (task.tid(), was(task))).collect();
    let host = Host::prepare(proc, vdso(proc), []).unwrap();
    let status = |tid| proc.task(tid).unwrap().status().unwrap();
    let statuses: Vec<_> = tids.iter().map(|&tid| status(tid)).collect();
    let others = tasks.split_off(1);
    let mut back = Vec::new();
    let (first, result) = host.borrow(tasks.remove(0), &statuses[0], |puppet| {
        assert!(puppet.lends_to() >= others.len());
        let (others, result) = puppet.lend(others.into_iter().zip(&statuses[1..]), work);
        back = others;
        result
    });
    host.leave().unwrap();
    let back: Vec<_> = first.into_iter().chain(back).collect();
    let there = back.iter().map(Stopped::tid).collect();
    for task in back {
        assert!(before.contains(&(task.tid(), was(&task))), "{} is not as it was", task.tid());
        task.detach(None).unwrap();
    }
    (there, result)
}

impl Nappers {
    fn start() -> Self {
        let mut python = Command::new("python3");
        let child = python.args(["-c", NAPPERS]).stdin(Stdio::null()).spawn().unwrap();
        let nappers = Self(Sleeper(child));
        while nappers.proc().tasks().unwrap().len() < 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        nappers
    }

    /// Its shared mappings, as memory for batches is one.
    fn shared(&self) -> Vec<AddrRange> {
        let maps = self.proc().maps().unwrap();
        let shared = maps.iter().filter(|vma| vma.perms.contains(Perms::SHARED));
        shared.map(|vma| vma.range).collect()
    }

    fn proc(&self) -> ProcDir {
        ProcDir::open(self.0.pid()).unwrap()
    }
}

#[test]
fn threads_answer_at_once_in_the_memory_of_one() {
    let mut nappers = Nappers::start();
    let before = nappers.shared();
    let tids = nappers.proc().tasks().unwrap();
    lend(&nappers.proc(), |lent| {
        let mut asked = Vec::new();
        let batches = lent.iter().map(|_| {
            let mut batch = Batch::new();
            asked.push(batch.call(libc::SYS_gettid, []));
            batch
        });
        let batches = batches.collect();
        let replies = run_all(lent, batches)?;
        for ((replies, asked), tid) in replies.iter().zip(&asked).zip(&tids[1..]) {
            assert_eq!(replies.value(asked), tid.as_raw() as u64);
        }
        Ok(())
    })
    .1
    .unwrap();
    assert_eq!(nappers.shared(), before);
    assert!(nappers.0.0.wait().unwrap().success());
}

#[test]
fn a_thread_that_goes_astray_comes_back_and_all_others_do() {
    let mut nappers = Nappers::start();
    let before = nappers.shared();
    let tids = nappers.proc().tasks().unwrap();
    let (back, result) = lend(&nappers.proc(), |lent| {
        let (mut astray, mut well) = (Batch::new(), Batch::new());
        let everything = astray.data(&[0; 8]);
        astray.call(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK.into(), everything.into(), 0.into(), 8.into()],
        );
        let tid = lent[0].task().tid().as_raw();
        astray.call(libc::SYS_tgkill, [tids[0].as_raw().into(), tid.into(), libc::SIGUSR1.into()]);
        well.call(libc::SYS_gettid, []);
        run_all(lent, vec![astray, well]).map(drop)
    });
    assert!(matches!(result, Err(Error::Astray { task, .. }) if task == tids[1]), "{result:?}");
    assert_eq!(back, tids);
    assert_eq!(nappers.shared(), before);
    assert!(nappers.0.0.wait().unwrap().success());
}

#[test]
fn a_thread_that_dies_keeps_no_other_from_coming_back() {
    let nappers = Nappers::start();
    let before = nappers.shared();
    let tids = nappers.proc().tasks().unwrap();
    let (back, result) = lend(&nappers.proc(), |lent| {
        let (mut ends, mut well) = (Batch::new(), Batch::new());
        ends.call(libc::SYS_exit, [0.into()]);
        well.call(libc::SYS_gettid, []);
        run_all(lent, vec![ends, well]).map(drop)
    });
    assert!(matches!(result, Err(Error::Died(task)) if task == tids[1]), "{result:?}");
    assert_eq!(back, [tids[0], tids[2], tids[3]]);
    assert_eq!(nappers.shared(), before);
    assert_eq!(nappers.proc().tasks().unwrap(), back);
}

/// Tells this program, run again, whom it is to trace.
const TRACEE: &str = "DORMOUSE_TRACEE";

/// The tracer dies in the middle of calls of some, while the first waits and others have done theirs.
#[test]
fn threads_that_share_memory_survive_their_tracer() {
    if let Ok(tracee) = std::env::var(TRACEE) {
        return trace(&tracee);
    }
    for naps in ["0 0 0", "0 100 200", "150 150 0"] {
        let mut nappers = Nappers::start();
        let before = nappers.shared();
        let mut tracer = Command::new(std::env::current_exe().unwrap());
        tracer.args(["--exact", "threads_that_share_memory_survive_their_tracer", "--nocapture"]);
        tracer.env(TRACEE, format!("{} {naps}", nappers.0.pid())).stdout(Stdio::piped());
        let mut tracer = tracer.spawn().unwrap();
        let said = std::io::BufReader::new(tracer.stdout.take().unwrap());
        assert!(said.lines().any(|line| line.unwrap().contains("lent")), "it came to nothing");
        std::thread::sleep(Duration::from_millis(50));
        tracer.kill().unwrap();
        tracer.wait().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(nappers.shared(), before, "after {naps:?}");
        assert!(nappers.0.0.wait().unwrap().success(), "after {naps:?}");
    }
}

/// Has threads nap as it is told, and waits to be killed.
fn trace(tracee: &str) {
    let words: Vec<i32> = tracee.split(' ').map(|word| word.parse().unwrap()).collect();
    let proc = ProcDir::open(HostPid::from_raw(words[0]).unwrap()).unwrap();
    lend(&proc, |lent| {
        println!("lent");
        let batches = words[1..].iter().map(|&millis| {
            let mut batch = Batch::new();
            let nap = batch.data(&timespec(millis as u64));
            batch.call(libc::SYS_nanosleep, [nap.into(), 0.into()]);
            batch
        });
        run_all(lent, batches.collect())?;
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    })
    .1
    .unwrap();
}

fn timespec(millis: u64) -> [u8; 16] {
    let words = [millis / 1000, millis % 1000 * 1_000_000];
    words.map(u64::to_ne_bytes).concat().try_into().unwrap()
}
