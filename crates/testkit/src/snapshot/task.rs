//! Processes, threads and descriptors in `/proc`.

use std::fs;
use std::path::Path;

use super::{Inodes, Snapshot, maps};
use crate::failure::{Failure, io_failure};

/// Fields of `/proc/PID/stat` (`proc_pid_stat(5)`) that a program can tell, by number.
const STAT: [(usize, &str); 20] = [
    (7, "tty_nr"),
    (18, "priority"),
    (19, "nice"),
    (20, "num_threads"),
    (26, "startcode"),
    (27, "endcode"),
    (28, "startstack"),
    (38, "exit_signal"),
    (40, "rt_priority"),
    (41, "policy"),
    (45, "start_data"),
    (46, "end_data"),
    (47, "start_brk"),
    (48, "arg_start"),
    (49, "arg_end"),
    (50, "env_start"),
    (51, "env_end"),
    (52, "exit_code"),
    (5, "pgrp"),
    (6, "session"),
];

/// Lines of `status` that a program can tell, by thread.
const STATUS: [&str; 26] = [
    "Name",
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "VmLck",
    "Threads",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed",
    "THP_enabled",
];

/// Whole files of a process.
const FILES: [&str; 10] = [
    "cmdline",
    "environ",
    "limits",
    "oom_score_adj",
    "coredump_filter",
    "personality",
    "timerslack_ns",
    "loginuid",
    "uid_map",
    "timens_offsets",
];

const LINKS: [&str; 3] = ["exe", "cwd", "root"];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Fields of a zombie's `stat`.
const ZOMBIE: [&str; 8] =
    ["priority", "nice", "exit_signal", "rt_priority", "policy", "exit_code", "pgrp", "session"];

/// Lines of a zombie's `status`.
const ZOMBIE_STATUS: [&str; 15] = [
    "Name",
    "Uid",
    "Gid",
    "Groups",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Cpus_allowed",
];

/// The pids of the tree, parents before children.
pub(super) fn tree(root: i32) -> Result<Vec<i32>, Failure> {
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(&pid) = pids.get(next) {
        for tid in numbers(format!("/proc/{pid}/task"))? {
            pids.extend(children(pid, tid)?);
        }
        next += 1;
    }
    Ok(pids)
}

fn children(pid: i32, tid: i32) -> Result<Vec<i32>, Failure> {
    let text = read(format!("/proc/{pid}/task/{tid}/children"))?;
    Ok(text.split_whitespace().filter_map(|w| w.parse().ok()).collect())
}

/// Everything about one process, except which objects it shares.
pub(super) fn process(
    snapshot: &mut Snapshot,
    pid: i32,
    tree: &[i32],
    inodes: &mut Inodes,
) -> Result<(), Failure> {
    let dir = format!("/proc/{pid}");
    let stat = read(format!("{dir}/stat"))?;
    let fields = stat_fields(&stat);
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or("");
    let state = match field(3) {
        letter @ ("Z" | "T" | "t" | "X") => letter,
        _ => "alive",
    };
    snapshot.put(pid, "state", state);
    let parent = field(4).parse().unwrap_or(0);
    let parent = if tree.contains(&parent) { parent.to_string() } else { "outside".into() };
    snapshot.put(pid, "ppid", parent);
    snapshot.put(pid, "comm", read(format!("{dir}/comm"))?);
    for (number, name) in STAT.into_iter().filter(|(_, n)| state != "Z" || ZOMBIE.contains(n)) {
        snapshot.put(pid, format!("stat/{name}"), field(number));
    }
    if state == "Z" {
        put_status(snapshot, pid, (pid, &dir), &ZOMBIE_STATUS)?;
        return Ok(());
    }
    for file in FILES {
        snapshot.put(pid, file, read(format!("{dir}/{file}"))?);
    }
    // Everyone is at the root of a hierarchy somebody mounts meanwhile.
    let cgroups = read(format!("{dir}/cgroup"))?;
    let cgroups: Vec<&str> = cgroups.lines().filter(|l| !l.ends_with(":/")).collect();
    snapshot.put(pid, "cgroup", cgroups.join("\n"));
    snapshot.put(pid, "auxv", auxv(&bytes(format!("{dir}/auxv"))?));
    for link in LINKS {
        snapshot.put(pid, link, target(format!("{dir}/{link}"))?);
    }
    for namespace in NAMESPACES {
        snapshot.put(pid, format!("ns/{namespace}"), target(format!("{dir}/ns/{namespace}"))?);
    }
    let smaps = read(format!("{dir}/smaps"))?;
    let broken =
        || io_failure("parse", format!("{dir}/smaps"))(std::io::ErrorKind::InvalidData.into());
    for mapping in maps::parse(&smaps).ok_or_else(broken)? {
        let name = match mapping.name() {
            // It ends in the number of its inode.
            name if name.starts_with("socket:") => inodes.name(name),
            name => name.to_owned(),
        };
        snapshot.put(pid, format!("map/{}", mapping.key()), mapping.value(&name));
    }
    for tid in numbers(format!("{dir}/task"))? {
        thread(snapshot, pid, tid)?;
    }
    descriptors(snapshot, pid, &dir, "fd", inodes)
}

fn thread(snapshot: &mut Snapshot, pid: i32, tid: i32) -> Result<(), Failure> {
    let dir = format!("/proc/{pid}/task/{tid}");
    put_status(snapshot, pid, (tid, &dir), &STATUS)?;
    let stat = read(format!("{dir}/stat"))?;
    let fields = stat_fields(&stat);
    for (number, name) in
        STAT.into_iter().filter(|(_, n)| matches!(*n, "nice" | "rt_priority" | "policy"))
    {
        snapshot.put(
            pid,
            format!("task/{tid}/{name}"),
            fields.get(number - 3).copied().unwrap_or(""),
        );
    }
    for link in ["cwd", "root"] {
        snapshot.put(pid, format!("task/{tid}/{link}"), target(format!("{dir}/{link}"))?);
    }
    // In the kernel's order, in which they are waited for.
    let children = children(pid, tid)?;
    snapshot.put(pid, format!("task/{tid}/children"), format!("{children:?}"));
    Ok(())
}

/// Some lines of the `status` in the directory of a thread.
fn put_status(
    snapshot: &mut Snapshot,
    pid: i32,
    (tid, dir): (i32, &str),
    lines: &[&str],
) -> Result<(), Failure> {
    for line in read(format!("{dir}/status"))?.lines() {
        if let Some((name, value)) = line.split_once(':')
            && lines.contains(&name)
        {
            snapshot.put(pid, format!("task/{tid}/{name}"), value.trim());
        }
    }
    Ok(())
}

/// One fd table: the descriptors of the process or thread in `dir`, under the name `table`.
pub(super) fn descriptors(
    snapshot: &mut Snapshot,
    pid: i32,
    dir: &str,
    table: &str,
    inodes: &mut Inodes,
) -> Result<(), Failure> {
    for fd in numbers(format!("{dir}/fd"))? {
        let link = target(format!("{dir}/fd/{fd}"))?;
        snapshot.put(pid, format!("{table}/{fd}/link"), inodes.name(&link));
        let info = read(format!("{dir}/fdinfo/{fd}"))?;
        let mut rest = Vec::new();
        for line in info.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name.trim() {
                // Chosen by the kernel: the identity of the object is compared by kcmp.
                "ino" | "eventfd-id" | "map_id" => {}
                // Time goes on.
                "it_value" => {}
                name @ ("pos" | "flags" | "mnt_id") => {
                    snapshot.put(pid, format!("{table}/{fd}/{name}"), value.trim());
                }
                // "1: FLOCK ..." has its place in the kernel's list as its number.
                "lock" => {
                    rest.push(value.trim().split_once(' ').map_or(value, |(_, l)| l).to_owned())
                }
                // Targets of an epoll: the inode number of an anonymous one means nothing.
                "tfd" => rest.push(line.split("pos:").next().unwrap_or(line).trim().to_owned()),
                // "  op=6, task_works=0", of an io_uring's request: whether the kernel has anything to do
                // before its task is back in the program, which any tick of the clock may give it.
                _ => rest.push(line.split(", task_works=").next().unwrap_or(line).to_owned()),
            }
        }
        rest.sort_unstable();
        if !rest.is_empty() {
            snapshot.put(pid, format!("{table}/{fd}/info"), rest.join("\n"));
        }
    }
    Ok(())
}

/// The auxiliary vector as `TYPE=VALUE` words.
fn auxv(raw: &[u8]) -> String {
    let words: Vec<u64> =
        raw.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default())).collect();
    words.chunks_exact(2).map(|pair| format!("{}={:#x} ", pair[0], pair[1])).collect()
}

/// The fields of `stat` from the third on, which is the first after the name in parentheses.
fn stat_fields(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map_or(vec![], |(_, rest)| rest.split_whitespace().collect())
}

fn bytes(path: impl AsRef<Path>) -> Result<Vec<u8>, Failure> {
    fs::read(&path).map_err(io_failure("read", &path))
}

pub(super) fn read(path: impl AsRef<Path>) -> Result<String, Failure> {
    Ok(String::from_utf8_lossy(&bytes(path)?).into_owned())
}

fn target(path: impl AsRef<Path>) -> Result<String, Failure> {
    let link = fs::read_link(&path).map_err(io_failure("read the link", &path))?;
    Ok(link.to_string_lossy().into_owned())
}

/// The numeric names in a directory of `/proc`, ascending.
pub(super) fn numbers(path: impl AsRef<Path>) -> Result<Vec<i32>, Failure> {
    let mut list = Vec::new();
    for entry in fs::read_dir(&path).map_err(io_failure("list", &path))? {
        let entry = entry.map_err(io_failure("list", &path))?;
        list.extend(entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()));
    }
    list.sort_unstable();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(stat_fields("7 (a) b) S 1 7")[..2], ["S", "1"]);
    }

    #[test]
    fn auxv_is_pairs() {
        let raw: Vec<u8> = [6u64, 4096, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(auxv(&raw), "6=0x1000 0=0x0 ");
    }

    #[test]
    fn a_real_process_is_seen_whole() {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        // Until it answers, it is being loaded, and files come and go in it.
        child.stdin.as_ref().unwrap().write_all(b"?").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let mut snapshot = Snapshot::default();
        let seen = process(&mut snapshot, pid, &[pid], &mut Inodes::default());
        child.kill().unwrap();
        child.wait().unwrap();
        seen.unwrap();
        let keys: Vec<String> = snapshot.facts.keys().map(ToString::to_string).collect();
        for wanted in ["comm", "fd/0/flags", &format!("task/{pid}/SigBlk"), "ns/pid"] {
            assert!(keys.contains(&format!("{pid}/{wanted}")), "{wanted} is not in {keys:?}");
        }
    }
}
