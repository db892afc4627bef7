//! Two dumps of the same stopped tree are the same, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::Failure;
use dormouse_testkit::snapshot::Snapshot;
use dormouse_testkit::target::Target;
use rustix::process::Pid;
use rustix::thread::{self, CpuSet};

use crate::new_images;

/// What tells when the dump was made, and how long it took.
const OF_THE_DUMP: [&str; 2] = ["dump.log", "stats-dump"];

/// The first dump stops the tree, which shows in its images. The second may still see parents being told
/// that their children have stopped. The others find the tree as they leave it.
pub(crate) fn same_bytes(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    pin(before.pids())?;
    let [running, _, once, again] = ["running", "stopping", "once", "again"].map(|name| {
        let images = new_images(dir, name)?;
        checkpointer.dump(target.root, &images, dir, &["--leave-stopped"]).succeed()?;
        Ok(images)
    });
    let (running, once, again) = (running?, files(&once?)?, files(&again?)?);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    if names(&once) != names(&again) {
        return Err(Failure::Verdict(format!("{:?} and {:?}", names(&once), names(&again))));
    }
    if let Some((name, _)) = once.iter().find(|(name, bytes)| again[*name] != **bytes) {
        return Err(Failure::Verdict(format!("{name:?} differs")));
    }
    target.kill(before.pids())?;
    let took = checkpointer.restore(&running, &dir.join("pid"), dir, &[]).succeed()?.took;
    target.judge(took)
}

/// Keeps processes on one processor: the kernel writes its number into their memory, at every return from
/// it (`rseq(2)`).
fn pin(pids: &[i32]) -> Result<(), Failure> {
    let first = thread::sched_getaffinity(None).map(|all| (0..1024).find(|&it| all.is_set(it)));
    let mut one = CpuSet::new();
    one.set(first.ok().flatten().unwrap_or_default());
    for pid in pids {
        let tasks = PathBuf::from(format!("/proc/{pid}/task"));
        let failed = |source| Failure::Io { operation: "pin", path: tasks.clone(), source };
        for task in fs::read_dir(&tasks).map_err(failed)? {
            let task = task.map_err(failed)?.file_name();
            let task = task.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
            thread::sched_setaffinity(task, &one).map_err(|e| failed(e.into()))?;
        }
    }
    Ok(())
}

/// All images, those in directories as well.
fn files(images: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
    let mut found = BTreeMap::new();
    let mut todo = vec![images.to_owned()];
    while let Some(dir) = todo.pop() {
        let failed = |source| Failure::Io { operation: "read", path: dir.clone(), source };
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            let name = path.strip_prefix(images).unwrap_or(&path).to_owned();
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_symlink() {
                let leads = fs::read_link(&path).map_err(failed)?;
                found.insert(name, leads.into_os_string().into_encoded_bytes());
            } else if !OF_THE_DUMP.iter().any(|it| name.ends_with(it)) {
                found.insert(name, fs::read(&path).map_err(failed)?);
            }
        }
    }
    Ok(found)
}
