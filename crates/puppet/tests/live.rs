//! Puppets that are real processes.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dormouse_kernel::clone::{CloneFlags, spawn_bare};
use dormouse_kernel::proc::{ProcDir, VmaName};
use dormouse_kernel::ptrace::{Halt, Options, Running, Stopped};
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{Addr, AddrRange, HostPid, NsPid};
use dormouse_puppet::{Bare, Batch, Ending, Error, Host};

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
    let (task, pid) = host
        .borrow(task, &status, |puppet| {
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
        })
        .unwrap();
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

    let stopped =
        root.become_program((&Default::default(), &xstate()), SigSet::EMPTY, None, true).err();
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
