//! `kernel::ptrace` on real processes.
#![allow(unsafe_code, clippy::unwrap_used)]

use dormouse_kernel::proc::{BlockedIn, ProcDir, TaskState};
use dormouse_kernel::ptrace::{
    Error, Event, Exit, Halt, Options, Outcome, Queue, Registers, Request, Running, Stop, Stopped,
    SyscallUserDispatch, reap,
};
use dormouse_kernel::signal::{SigInfoKind, SigSet, Signal};
use dormouse_kernel::{Addr, HostPid};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// Words that a child shares with the test.
struct Shared(&'static [AtomicU32; 16]);

impl Shared {
    fn new() -> Self {
        // SAFETY: a fresh mapping of zeroed memory, which is never unmapped.
        unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(page, libc::MAP_FAILED);
            Self(&*page.cast())
        }
    }

    fn get(&self, index: usize) -> u32 {
        self.0[index].load(SeqCst)
    }

    fn set(&self, index: usize, value: u32) {
        self.0[index].store(value, SeqCst);
    }

    fn wait_for(&self, index: usize, value: u32) {
        until(|| self.get(index) == value);
    }
}

#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came true");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A child process, killed at the end.
struct Child(HostPid);

impl Child {
    fn spawn(body: impl FnOnce()) -> Self {
        // SAFETY: the child only runs `body`, and ends without unwinding into
        // the test harness.
        unsafe {
            let pid = libc::fork();
            assert!(pid >= 0);
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // In the test's process group, which may be an orphaned one,
                // only SIGSTOP would stop it.
                libc::setpgid(0, 0);
                body();
                libc::_exit(0);
            }
            Self(HostPid::from_raw(pid).unwrap())
        }
    }

    fn kill(&self, signal: Signal) {
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::kill(self.0.as_raw(), signal.as_raw()) }, 0);
    }

    fn state(&self) -> TaskState {
        ProcDir::open(self.0).unwrap().status().unwrap().state
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let threads = ProcDir::open(self.0).and_then(|dir| dir.tasks()).unwrap_or_default();
        // SAFETY: no memory is involved.
        unsafe {
            libc::kill(self.0.as_raw(), libc::SIGKILL);
            // Those that are traced, as after a failure, come before the first.
            for tid in threads.into_iter().rev() {
                libc::waitpid(tid.as_raw(), std::ptr::null_mut(), libc::__WALL);
            }
            libc::waitpid(self.0.as_raw(), std::ptr::null_mut(), libc::__WALL);
        }
    }
}

fn seize(child: &Child) -> Running {
    Running::seize(child.0, Options::TRACESYSGOOD).unwrap()
}

fn halt(running: Running) -> Stopped {
    match running.halt().unwrap() {
        Halt::Halted { task, born } => {
            assert!(born.is_empty());
            task
        }
        Halt::Exited { exit, .. } => panic!("{exit:?}"),
        Halt::Ended { .. } => unreachable!("nobody has said so"),
    }
}

fn wait(running: Running) -> Stopped {
    match running.wait().unwrap() {
        Outcome::Stopped(task) => task,
        Outcome::Exited(exit) => panic!("{exit:?}"),
    }
}

fn pause() {
    loop {
        // SAFETY: no memory is involved.
        unsafe { libc::pause() };
    }
}

fn sigmask(signals: &[Signal]) {
    // SAFETY: the sets are local.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, signal.as_raw());
        }
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

#[test]
fn a_first_thread_that_ends_while_others_go_on_is_not_waited_for() {
    let shared = Shared::new();
    let child = Child::spawn(|| {
        thread::spawn(pause);
        shared.set(0, 1);
        shared.wait_for(0, 2);
        // SAFETY: no memory is involved; nothing of this thread is used by the other.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    shared.wait_for(0, 1);
    let running = seize(&child);
    shared.set(0, 2);
    until(|| child.state() == TaskState::Zombie);
    let has_ended = || child.state() == TaskState::Zombie;
    assert!(matches!(
        running.begin_halt().unwrap().finish_unless(has_ended).unwrap(),
        Halt::Ended { .. }
    ));
}

#[test]
fn a_running_task_is_stopped_changed_and_let_go() {
    let shared = Shared::new();
    let child = Child::spawn(|| {
        loop {
            shared.0[0].fetch_add(1, SeqCst);
        }
    });
    until(|| shared.get(0) > 0);
    let mut task = halt(seize(&child));
    assert_eq!(task.stop(), Stop::Event(Event::Stop));
    let count = shared.get(0);

    let registers = task.registers().unwrap();
    assert_eq!((registers.cs, registers.syscall()), (0x33, None));
    let changed = Registers { r15: !registers.r15, ..registers };
    task.set_registers(&changed).unwrap();
    assert_eq!(task.registers().unwrap(), changed);
    task.set_registers(&registers).unwrap();

    let xstate = task.xstate().unwrap();
    assert!(xstate.len() >= 576, "legacy area and header: {}", xstate.len());
    task.set_xstate(&xstate).unwrap();
    assert_eq!(task.xstate().unwrap(), xstate);
    let mut other = xstate.clone();
    other[160] ^= 0xff; // xmm0
    other[512] |= 2; // which is not in its initial state
    task.set_xstate(&other).unwrap();
    assert_eq!(task.xstate().unwrap()[160], other[160]);
    task.set_xstate(&xstate).unwrap();
    assert!(matches!(
        task.set_xstate(&xstate[..xstate.len() - 64]),
        Err(Error::Refused { request: Request::SetXstate, .. })
    ));

    assert_eq!(task.sigmask().unwrap(), SigSet::EMPTY);
    let mask = SigSet::EMPTY.with(Signal::USR1).with(Signal::MAX);
    task.set_sigmask(mask).unwrap();
    assert_eq!(task.sigmask().unwrap(), mask);
    assert_eq!(ProcDir::open(child.0).unwrap().status().unwrap().blocked, mask);

    // The C library registers each thread, from version 2.35 on.
    let rseq = task.rseq().unwrap().unwrap();
    assert_eq!(rseq.signature, 0x5305_3053);
    assert!(rseq.size >= 20);
    assert_eq!(task.syscall_user_dispatch().unwrap(), None);
    let selector = Addr::from_raw(4096);
    for (offset, len) in [(0, 0), (8192, 4096), (12_288, 4096_u64.wrapping_neg())] {
        let dispatch = SyscallUserDispatch { selector, offset, len };
        task.set_syscall_user_dispatch(dispatch).unwrap();
        assert_eq!(task.syscall_user_dispatch().unwrap(), Some(dispatch));
    }

    assert_eq!(shared.get(0), count, "it did not run in between");
    task.detach(None).unwrap();
    until(|| shared.get(0) > count);
}

#[test]
fn each_thread_is_a_task_of_its_own() {
    let shared = Shared::new();
    let child = Child::spawn(|| {
        for index in 1..4 {
            let word = &shared.0[index];
            thread::spawn(move || {
                loop {
                    word.fetch_add(1, SeqCst);
                    thread::yield_now();
                }
            });
        }
        pause();
    });
    until(|| (1..4).all(|index| shared.get(index) > 0));
    let pauses = |dir: ProcDir| {
        let pause = libc::SYS_pause as u64;
        matches!(dir.syscall().unwrap(), BlockedIn::Syscall { number, .. } if number == pause)
    };
    until(|| pauses(ProcDir::open(child.0).unwrap()));
    let tids = ProcDir::open(child.0).unwrap().tasks().unwrap();
    assert_eq!(tids.len(), 4);
    let seized: Vec<_> =
        tids.iter().map(|&tid| Running::seize(tid, Options::empty()).unwrap()).collect();
    let stopped: Vec<_> = seized.into_iter().map(halt).collect();
    let counts: Vec<_> = (1..4).map(|index| shared.get(index)).collect();
    let stacks: std::collections::BTreeSet<_> =
        stopped.iter().map(|task| task.registers().unwrap().rsp).collect();
    assert_eq!(stacks.len(), 4);
    assert_eq!(stopped[0].registers().unwrap().syscall(), Some(libc::SYS_pause as u64));
    thread::sleep(Duration::from_millis(5));
    assert_eq!(counts, (1..4).map(|index| shared.get(index)).collect::<Vec<_>>());
    for task in stopped {
        task.detach(None).unwrap();
    }
    until(|| (1..4).all(|index| shared.get(index) > counts[index - 1]));
}

#[test]
fn a_task_held_by_job_control_stays_so() {
    let shared = Shared::new();
    let child = Child::spawn(|| {
        loop {
            shared.0[0].fetch_add(1, SeqCst);
        }
    });
    until(|| shared.get(0) > 0);
    child.kill(Signal::TSTP);
    until(|| child.state() == TaskState::Stopped);
    let task = halt(seize(&child));
    assert_eq!(task.stop(), Stop::Group(Signal::TSTP));
    assert_eq!(child.state(), TaskState::TracingStop);
    let count = shared.get(0);
    task.detach(None).unwrap();
    until(|| child.state() == TaskState::Stopped);
    assert_eq!(shared.get(0), count);

    // Resumed by its tracer it runs, for all that job control says; and is
    // held again when it is let go.
    let running = halt(seize(&child)).resume(None).unwrap();
    until(|| shared.get(0) > count);
    let task = halt(running);
    assert_eq!(task.stop(), Stop::Group(Signal::TSTP));
    let count = shared.get(0);
    task.detach(None).unwrap();
    until(|| child.state() == TaskState::Stopped);
    assert_eq!(shared.get(0), count);

    // While the tracer listens it is held as if there was none.
    let listening = halt(seize(&child)).listen().unwrap();
    let listening = listening.try_wait().unwrap().unwrap_err();
    assert_eq!(shared.get(0), count);
    child.kill(Signal::CONT);
    let task = wait(listening);
    assert_eq!(task.stop(), Stop::Event(Event::Stop));
    task.detach(None).unwrap();
    until(|| shared.get(0) > count);
}

#[test]
fn only_a_group_stop_can_be_listened_to() {
    let child = Child::spawn(pause);
    let mut task = halt(seize(&child));
    task.interrupt().unwrap();
    child.kill(Signal::USR1);
    let running = task.resume(None).unwrap();
    let task = wait(running);
    assert_eq!(task.stop(), Stop::Event(Event::Stop), "it comes before the signal");
    let task = wait(task.resume(None).unwrap());
    assert_eq!(task.stop(), Stop::Signal(Signal::USR1));
    assert!(matches!(
        task.listen(),
        Err(Error::Refused { request: Request::Listen, source: dormouse_kernel::Errno::IO, .. })
    ));
}

#[test]
fn pending_signals_are_seen_in_order_and_stay() {
    let shared = Shared::new();
    let rt = |n: i32| Signal::from_raw(40 + n).unwrap();
    let child = Child::spawn(|| {
        sigmask(&[Signal::USR1, Signal::USR2, rt(0), rt(1)]);
        shared.set(0, 1);
        pause();
    });
    shared.wait_for(0, 1);
    let pid = child.0.as_raw();
    // More than are looked at in one go; and out of the order of numbers.
    for n in 0..100_usize {
        let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(n) };
        let signal = rt(i32::from(n % 3 == 0)).as_raw();
        // SAFETY: the value is only handed on.
        assert_eq!(unsafe { libc::sigqueue(pid, signal, value) }, 0);
    }
    child.kill(Signal::USR1);
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGUSR2) };

    let task = halt(seize(&child));
    for _ in 0..2 {
        let thread = task.queued_signals(Queue::Thread).unwrap();
        assert_eq!(thread.len(), 1);
        assert_eq!(thread[0].signal(), Some(Signal::USR2));
        assert_eq!(thread[0].code(), libc::SI_TKILL);
        let process = task.queued_signals(Queue::Process).unwrap();
        assert_eq!(process.len(), 101);
        for (n, info) in process.iter().take(100).enumerate() {
            assert_eq!(info.signal(), Some(rt(i32::from(n % 3 == 0))));
            let value = n as u64;
            assert!(matches!(info.kind(), SigInfoKind::Queue { value: v, .. } if v == value));
        }
        assert_eq!(process[100].signal(), Some(Signal::USR1));
    }
    task.detach(None).unwrap();
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handler(_: libc::c_int) {
    HANDLED.fetch_add(1, SeqCst);
}

#[test]
fn halting_passes_on_the_signal_that_came_first() {
    let shared = Shared::new();
    let child = Child::spawn(|| {
        // SAFETY: the handler only counts.
        unsafe { libc::signal(libc::SIGUSR1, handler as *const () as usize) };
        shared.set(0, 1);
        loop {
            shared.set(1, HANDLED.load(SeqCst));
        }
    });
    shared.wait_for(0, 1);
    for round in 1..=20 {
        let running = seize(&child);
        child.kill(Signal::USR1);
        until(|| child.state() == TaskState::TracingStop);
        let task = halt(running);
        assert_eq!(task.stop(), Stop::Event(Event::Stop));
        task.detach(None).unwrap();
        shared.wait_for(1, round);
    }
}

#[test]
fn a_stop_signal_on_the_way_ends_in_a_group_stop() {
    let child = Child::spawn(pause);
    let running = seize(&child);
    child.kill(Signal::STOP);
    until(|| child.state() == TaskState::TracingStop);
    let task = halt(running);
    assert_eq!(task.stop(), Stop::Group(Signal::STOP));
    task.detach(None).unwrap();
    until(|| child.state() == TaskState::Stopped);
}

#[test]
fn death_is_an_outcome() {
    let child = Child::spawn(pause);
    let mut task = halt(seize(&child));
    child.kill(Signal::KILL);
    until(|| child.state() == TaskState::Zombie);
    assert!(task.registers().unwrap_err().is_death());
    assert!(task.set_sigmask(SigSet::ALL).unwrap_err().is_death());
    assert!(task.queued_signals(Queue::Thread).unwrap_err().is_death());
    let killed = Exit::Signaled { signal: Signal::KILL, core_dumped: false };
    let running = task.resume(None).unwrap();
    assert!(matches!(running.wait().unwrap(), Outcome::Exited(exit) if exit == killed));
    assert!(reap(child.0).unwrap_err().is_death(), "it was reaped");

    let child = Child::spawn(pause);
    let task = halt(seize(&child));
    assert_eq!(reap(child.0).unwrap(), None);
    child.kill(Signal::KILL);
    until(|| child.state() == TaskState::Zombie);
    assert!(task.detach(None).unwrap_err().is_death());
    assert_eq!(reap(child.0).unwrap(), Some(killed));

    let child = Child::spawn(pause);
    let running = seize(&child);
    child.kill(Signal::KILL);
    assert!(matches!(running.halt().unwrap(), Halt::Exited { exit, .. } if exit == killed));

    let child = Child::spawn(|| ());
    until(|| child.state() == TaskState::Zombie);
    assert!(matches!(
        Running::seize(child.0, Options::empty()),
        Err(Error::Refused { request: Request::Seize, .. })
    ));
    let pid = child.0;
    drop(child);
    assert!(Running::seize(pid, Options::empty()).unwrap_err().is_death());
}

#[test]
fn new_tasks_are_attached_and_reported() {
    let shared = Shared::new();
    let child = Child::spawn(|| {
        while shared.get(0) == 0 {
            thread::yield_now();
        }
        // SAFETY: the child of the child does nothing else.
        if unsafe { libc::fork() } == 0 {
            shared.set(1, 1);
            pause();
        }
        thread::spawn(pause);
        pause();
    });
    let options = Options::TRACEFORK | Options::TRACECLONE | Options::EXITKILL;
    let running = Running::seize(child.0, options).unwrap();
    shared.set(0, 1);
    let task = wait(running);
    assert_eq!(task.stop(), Stop::Event(Event::Fork));
    let born = HostPid::from_raw(task.event_message().unwrap() as i32).unwrap();
    let grandchild = wait(Running::attached(born));
    let last = Child(born);
    assert_eq!(grandchild.stop(), Stop::Event(Event::Stop));
    assert_eq!(grandchild.registers().unwrap().rax, 0);
    assert_eq!(shared.get(1), 0, "it has not begun");

    let mut running = task.resume(None).unwrap();
    until(|| child.state() == TaskState::TracingStop);
    running.interrupt().unwrap();
    let Halt::Halted { task, born } = running.halt().unwrap() else { panic!("it has ended") };
    assert_eq!(born.len(), 1);
    let thread = wait(Running::attached(born[0]));
    assert_eq!(ProcDir::open(born[0]).unwrap().status().unwrap().tgid, child.0);
    thread.detach(None).unwrap();
    task.detach(None).unwrap();
    grandchild.detach(None).unwrap();
    shared.wait_for(1, 1);
    drop(last);
}

#[test]
fn system_calls_are_seen_at_both_ends() {
    let child = Child::spawn(pause);
    until(|| child.state() == TaskState::Sleeping);
    let task = halt(seize(&child));
    let before = task.registers().unwrap();
    assert_eq!(before.rax.cast_signed(), -514, "ERESTARTNOHAND");
    // The call was broken off; resumed, the task makes it once more.
    let task = wait(task.resume_to_syscall(None).unwrap());
    assert_eq!(task.stop(), Stop::Syscall);
    let registers = task.registers().unwrap();
    assert_eq!(registers.syscall(), Some(libc::SYS_pause as u64));
    assert_eq!(registers.rip, before.rip);
    task.detach(None).unwrap();
}

#[test]
fn code_of_32_bits_is_refused() {
    let shared = Shared::new();
    let child = Child::spawn(|| {
        // SAFETY: a fresh page below 4 GiB gets an endless loop, and a far
        // return to the 32-bit code segment goes there. It never comes back.
        unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
                -1,
                0,
            );
            page.cast::<[u8; 2]>().write([0xeb, 0xfe]);
            shared.set(0, 1);
            std::arch::asm!("push 0x23", "push {}", "retfq", in(reg) page, options(noreturn));
        }
    });
    shared.wait_for(0, 1);
    thread::sleep(Duration::from_millis(50));
    let task = halt(seize(&child));
    assert!(matches!(task.registers(), Err(Error::Ia32 { tid }) if tid == child.0));
}

#[test]
fn who_executes_takes_the_place_of_the_first_thread() {
    let shared = Shared::new();
    let child = Child::spawn(|| {
        let shared = Shared(shared.0);
        thread::spawn(move || {
            shared.wait_for(0, 1);
            let args = [c"sleep".as_ptr(), c"60".as_ptr(), std::ptr::null()];
            // SAFETY: the list of arguments ends with a null.
            unsafe { libc::execv(c"/bin/sleep".as_ptr(), args.as_ptr()) };
        });
        pause();
    });
    let tasks = || ProcDir::open(child.0).unwrap().tasks().unwrap().len();
    until(|| tasks() == 2);
    let task = halt(seize(&child));
    assert!(task.is_at_rest().unwrap());
    shared.set(0, 1);
    until(|| tasks() == 1);
    assert!(!task.is_at_rest().unwrap());
}
