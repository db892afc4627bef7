//! What only `kcmp(2)` tells: which tasks of a tree share which kernel objects.
//!
//! The harness calls `dormouse-scenario --probe PID...` before a dump and after
//! a restore and compares the two.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};

/// `enum kcmp_type` of `include/uapi/linux/kcmp.h`.
#[derive(Clone, Copy)]
enum Kind {
    File = 0,
    Vm = 1,
    Files = 2,
    Fs = 3,
    Sighand = 4,
    Io = 5,
    Sysvsem = 6,
}

/// The kinds that belong to a task as a whole.
const OF_TASKS: [(Kind, &str); 6] = [
    (Kind::Vm, "vm"),
    (Kind::Files, "files"),
    (Kind::Fs, "fs"),
    (Kind::Sighand, "sighand"),
    (Kind::Io, "io"),
    (Kind::Sysvsem, "sysvsem"),
];

fn kcmp(kind: Kind, (tid1, fd1): Member, (tid2, fd2): Member) -> io::Result<Ordering> {
    // SAFETY: kcmp takes five plain numbers.
    match unsafe { libc::syscall(libc::SYS_kcmp, tid1, tid2, kind as i32, fd1, fd2) } {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        3 => Err(io::Error::other("kcmp knows no order here")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A task, or a descriptor of it.
type Member = (i32, u64);

/// Groups the members by kernel object. Each object is named by its first
/// member, so the result does not depend on addresses in the kernel.
fn classes(kind: Kind, members: &[Member]) -> io::Result<Vec<(Member, Member)>> {
    let mut sorted: Vec<Member> = Vec::new();
    for &member in members {
        // Binary insertion, for a failing kcmp must not become a wrong order.
        let (mut low, mut high) = (0, sorted.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match kcmp(kind, sorted[middle], member)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal | Ordering::Greater => high = middle,
            }
        }
        sorted.insert(low, member);
    }
    let mut first: Vec<(Member, Member)> = Vec::new();
    let mut from = 0;
    while from < sorted.len() {
        let mut to = from + 1;
        while to < sorted.len() && kcmp(kind, sorted[from], sorted[to])?.is_eq() {
            to += 1;
        }
        let class = &sorted[from..to];
        let leader = *class.iter().min().expect("a class has a member");
        first.extend(class.iter().map(|&m| (m, leader)));
        from = to;
    }
    first.sort_unstable();
    Ok(first)
}

fn numbers(dir: &str) -> io::Result<Vec<i32>> {
    let names = fs::read_dir(dir)?.map(|e| Ok(e?.file_name().to_string_lossy().parse().ok()));
    let mut list: Vec<i32> = names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect();
    list.sort_unstable();
    Ok(list)
}

fn is_zombie(pid: i32) -> io::Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(status.lines().any(|l| l.starts_with("State:") && l.contains("Z")))
}

/// Prints, for every thread of the processes, `KIND TID OWNER`, and for every
/// descriptor of every distinct fd table `file TID/FD OWNER-TID/FD`, where the owner is the
/// first task or descriptor with the same object.
///
/// # Errors
/// A pid that is no number, a process that has gone, or a refusal by the kernel.
pub fn print(pids: &[&str]) -> io::Result<()> {
    let mut tids = Vec::new();
    for pid in pids {
        let pid: i32 = pid.parse().map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))?;
        if !is_zombie(pid)? {
            tids.extend(numbers(&format!("/proc/{pid}/task"))?);
        }
    }
    let members: Vec<Member> = tids.iter().map(|&t| (t, 0)).collect();
    let mut tables = BTreeMap::new();
    for (kind, name) in OF_TASKS {
        for ((tid, _), (owner, _)) in classes(kind, &members)? {
            println!("{name} {tid} {owner}");
            if matches!(kind, Kind::Files) {
                tables.insert(owner, ());
            }
        }
    }
    let mut descriptors = Vec::new();
    for &tid in tables.keys() {
        descriptors
            .extend(numbers(&format!("/proc/{tid}/fd"))?.into_iter().map(|fd| (tid, fd as u64)));
    }
    for ((tid, fd), (owner, owner_fd)) in classes(Kind::File, &descriptors)? {
        println!("file {tid}/{fd} {owner}/{owner_fd}");
    }
    Ok(())
}
