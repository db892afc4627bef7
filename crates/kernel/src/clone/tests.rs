use super::{CloneArgs, CloneFlags, Error, spawn_bare, spawn_orphan};
use crate::proc::{ProcDir, Stat, TaskState};
use crate::signal::SigSet;
use crate::{Errno, HostPid, NsPid};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

fn wait(pid: HostPid) -> WaitStatus {
    let pid = Pid::from_raw(pid.as_raw()).unwrap();
    waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1
}

fn kill(pid: HostPid) {
    kill_process(Pid::from_raw(pid.as_raw()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(wait(pid).terminating_signal(), Some(libc::SIGKILL));
}

#[test]
fn a_bare_child_waits_with_all_signals_blocked() {
    let pid = spawn_bare(&[], CloneFlags::empty()).unwrap();
    let dir = ProcDir::open(pid).unwrap();
    while dir.stat().unwrap().state != TaskState::Sleeping {
        std::thread::yield_now();
    }
    let status = dir.status().unwrap();
    assert_eq!(status.ppid, Some(ProcDir::of_self().unwrap().pid()));
    let unblockable =
        [crate::signal::Signal::KILL, crate::signal::Signal::STOP].into_iter().collect();
    assert_eq!(status.blocked.union(unblockable), SigSet::ALL);
    assert!(status.caught.is_empty());
    assert_eq!(dir.stat().unwrap().exit_signal, libc::SIGCHLD);
    // The parent's mask is as it was.
    let tid = HostPid::of_thread();
    let mine = ProcDir::of_self().unwrap().task(tid).unwrap().status().unwrap();
    assert!(mine.blocked.is_empty());
    kill(pid);
}

#[test]
fn it_ends_with_the_thread_that_made_it() {
    let made = std::thread::spawn(|| spawn_bare(&[], CloneFlags::empty()).unwrap());
    let pid = made.join().unwrap();
    // The thread may end before the child has asked to be told.
    let status = wait(pid);
    let killed = status.terminating_signal() == Some(libc::SIGKILL);
    assert!(killed || status.exit_status() == Some(1), "{status:?}");
}

#[test]
fn it_has_the_number_asked_for() {
    // One that was free a moment ago.
    let free = spawn_bare(&[], CloneFlags::empty()).unwrap();
    kill(free);
    let wanted = NsPid::from_raw(free.as_raw()).unwrap();
    let pid = spawn_bare(&[wanted], CloneFlags::empty()).unwrap();
    assert_eq!(pid.as_raw(), wanted.as_raw());
    let error = spawn_bare(&[wanted], CloneFlags::empty()).unwrap_err();
    assert!(matches!(&error, Error::PidTaken { pids } if **pids == [wanted]));
    assert_eq!(error.to_string(), format!("pid {wanted} is taken"));
    kill(pid);
    let beyond = NsPid::from_raw(i32::MAX).unwrap();
    let error = spawn_bare(&[beyond], CloneFlags::empty()).unwrap_err();
    assert!(matches!(error, Error::Clone { source: Errno::INVAL, .. }));
}

#[test]
fn an_orphan_is_nobodys_child() {
    let free = spawn_bare(&[], CloneFlags::empty()).unwrap();
    kill(free);
    let wanted = NsPid::from_raw(free.as_raw()).unwrap();
    let maker = std::thread::spawn(move || {
        let pid = spawn_orphan(wanted).unwrap();
        assert_eq!(pid.as_raw(), wanted.as_raw());
        assert!(matches!(spawn_orphan(wanted), Err(Error::PidTaken { .. })));
        let status = ProcDir::open(pid).unwrap().status().unwrap();
        assert_ne!(status.ppid, Some(ProcDir::of_self().unwrap().pid()));
        pid
    });
    // It ends with the thread that made it.
    let pid = maker.join().unwrap();
    let lives = |stat: Stat| !matches!(stat.state, TaskState::Zombie | TaskState::Dead);
    while ProcDir::open(pid).and_then(|dir| dir.stat()).is_ok_and(lives) {
        std::thread::yield_now();
    }
}

#[test]
fn the_first_of_a_pid_namespace() {
    let first = NsPid::from_raw(1).unwrap();
    let flags = CloneFlags::NEWPID | CloneFlags::NEWTIME | CloneFlags::NEWUTS;
    let pid = spawn_bare(&[first], flags).unwrap();
    let dir = ProcDir::open(pid).unwrap();
    let ns_pids = dir.status().unwrap().ns_pid;
    assert_eq!((ns_pids[0].as_raw(), ns_pids[1]), (pid.as_raw(), first));
    kill(pid);
}

#[test]
#[should_panic(expected = "only namespaces")]
fn it_shares_nothing() {
    let _ = spawn_bare(&[], CloneFlags::VM);
}

#[test]
fn args_lie_in_memory_as_the_kernel_reads_them() {
    let args = CloneArgs { flags: 1, set_tid_size: 2, cgroup: 3, ..CloneArgs::default() };
    let bytes = args.to_bytes();
    assert_eq!((bytes[0], bytes[72], bytes[80]), (1, 2, 3));
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 3);
}
