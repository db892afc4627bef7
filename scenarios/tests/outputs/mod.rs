//! Where commands write what is no image: statistics, and the pidfile of a restore.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::Failure;
use dormouse_testkit::snapshot::Snapshot;
use dormouse_testkit::target::{Target, none_left};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::{dump, new_images};

fn failed(operation: &'static str, path: &Path) -> impl Fn(rustix::io::Errno) -> Failure {
    move |source| Failure::Io { operation, path: path.to_owned(), source: source.into() }
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Before anything is created: so nothing is, and nothing is left.
fn refused(
    checkpointer: &Checkpointer,
    (dir, images, pidfile): (&Path, &Path, &Path),
    (options, naming): (&[&str], &[&str]),
) -> Result<(), Failure> {
    let before = names(images);
    let options = [&["-o", "-"], options].concat();
    let restore = checkpointer.restore(images, pidfile, dir, &options);
    let naming: Vec<String> = naming.iter().map(|&word| word.to_owned()).collect();
    let said = restore.fail("it cannot write what it is to", &naming)?.said();
    none_left("after a refused restore", &[])?;
    if said.contains("create: begins") || names(images) != before {
        return Err(Failure::Verdict(format!("it has begun: {said}{:?}", names(images))));
    }
    Ok(())
}

/// Images on a read-only mount: the program comes back without statistics, unless those are asked
/// for; and not at all if its pid cannot be told.
pub(crate) fn read_only(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    mount_bind(&images, &images).map_err(failed("mount", &images))?;
    let read_only = MountFlags::BIND | MountFlags::RDONLY;
    mount_remount(&images, read_only, c"").map_err(failed("mount read-only", &images))?;

    let pidfile = dir.join("pid");
    let stats = (&["--display-stats"][..], &["stats-restore", "--work-dir"][..]);
    refused(checkpointer, (dir, &images, &pidfile), stats)?;
    for (pidfile, naming) in [
        (images.join("pid"), "--pidfile"),
        (dir.join("no/where"), "--pidfile"),
        (dir.to_owned(), "--pidfile"),
    ] {
        refused(checkpointer, (dir, &images, &pidfile), (&[], &[naming]))?;
    }
    if pidfile.exists() {
        return Err(Failure::Verdict("a refused restore has left a pidfile".into()));
    }
    let took = checkpointer.restore(&images, &pidfile, dir, &["-o", "-"]).succeed()?.took;
    if fs::read_to_string(&pidfile).ok() != Some(target.root.to_string()) {
        return Err(Failure::Verdict("the pidfile is wrong".into()));
    }
    let work = new_images(dir, "work")?;
    let other = ["-W", work.to_str().expect("it is text"), "--display-stats"];
    target.kill(before.pids())?;
    let shown = checkpointer.restore(&images, &pidfile, dir, &other).succeed()?.said();
    if !shown.contains("Restore time") || names(&work) != ["restore.log", "stats-restore"] {
        return Err(Failure::Verdict(format!("{shown}{:?}", names(&work))));
    }
    target.judge(took)
}

/// A file system without room: the same.
pub(crate) fn full(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    let full = new_images(dir, "full")?;
    mount("tmpfs", &full, "tmpfs", MountFlags::empty(), c"size=4k,nr_inodes=2")
        .map_err(failed("mount", &full))?;
    fs::write(full.join("all"), [0; 4096]).map_err(|source| Failure::Io {
        operation: "write",
        path: full.clone(),
        source,
    })?;
    let pidfile = full.join("pid");
    refused(checkpointer, (dir, &images, &pidfile), (&[], &["--pidfile"]))?;
    let work = ["-W", full.to_str().expect("it is text"), "-o", "-"];
    let took = checkpointer.restore(&images, &dir.join("pid"), dir, &work).succeed()?.took;
    if names(&full) != ["all"] {
        return Err(Failure::Verdict(format!("there is {:?}", names(&full))));
    }
    target.judge(took)
}

/// Somebody has put something else in the place of statistics: nobody is waited for, and nothing
/// else written.
pub(crate) fn led_elsewhere(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let fifo = |path: &Path| {
        let made = rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR);
        made.map_err(failed("make", path))
    };
    let work = new_images(dir, "work")?;
    fifo(&work.join("stats-dump"))?;
    let work_dir = ["-W", work.to_str().expect("it is text"), "-o", "-"];
    let images = new_images(dir, "images")?;
    checkpointer.dump(target.root, &images, dir, &work_dir).succeed()?;
    target.must_be_gone(before.pids(), "after dump")?;

    let (victim, link) = (dir.join("victim"), images.join("stats-restore"));
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::Io { operation: "lead elsewhere", path, source }
    };
    fs::write(&victim, "precious").map_err(wrong(&victim))?;
    std::os::unix::fs::symlink(&victim, &link).map_err(wrong(&link))?;
    checkpointer.restore(&images, &dir.join("pid"), dir, &[]).succeed()?;
    if fs::read_to_string(&victim).ok().as_deref() != Some("precious") {
        return Err(Failure::Verdict("another file was written to".into()));
    }
    target.kill(before.pids())?;
    fs::remove_file(&link).map_err(wrong(&link))?;
    fifo(&link)?;
    let took = checkpointer.restore(&images, &dir.join("pid"), dir, &[]).succeed()?.took;
    target.judge(took)
}

/// Files without a name cannot be made again where nothing can be made: that is said with what to
/// do about it, and nothing is left.
pub(crate) fn nowhere_for_names(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    let state = &target.dir.join("dir");
    mount_bind(state, state).map_err(failed("mount", state))?;
    mount_remount(state, MountFlags::BIND | MountFlags::RDONLY, c"")
        .map_err(failed("mount read-only", state))?;
    let restore = checkpointer.restore(&images, &dir.join("pid"), dir, &[]);
    let naming = ["Read-only file system", "writable and not full"].map(str::to_owned);
    restore.fail("the directory is read-only", &naming)?;
    none_left("after a failed restore", &[])?;
    unmount(state, UnmountFlags::empty()).map_err(failed("unmount", state))?;
    let names = names(state);
    let took = checkpointer.restore(&images, &dir.join("pid"), dir, &[]).succeed()?.took;
    if names.iter().any(|name| name.starts_with(".dormouse")) {
        return Err(Failure::Verdict(format!("there is {names:?}")));
    }
    target.judge(took)
}

/// A dump that is refused, early or late, leaves the one alone that is in the directory: its program
/// may have no other.
pub(crate) fn refused_over_dump(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = new_images(dir, "images")?;
    checkpointer.dump(target.root, &images, dir, &["-R"]).succeed()?;
    let there = names(&images);
    let own = std::process::id() as i32;
    for (pid, options, naming) in [
        (i32::MAX, &[][..], "there is no process"),
        (own, &[], "dormouse itself"),
        (target.root, &["--ghost-limit", "0"], "ghost-limit"),
    ] {
        let dump = checkpointer.dump(pid, &images, dir, options);
        dump.fail("it cannot be dumped", &[naming.to_owned()])?;
        target.must_equal(before, "after a refused dump", &[], Duration::from_secs(2))?;
        if names(&images) != there {
            return Err(Failure::Verdict(format!("{there:?} became {:?}", names(&images))));
        }
    }
    target.kill(before.pids())?;
    let took = checkpointer.restore(&images, &dir.join("pid"), dir, &[]).succeed()?.took;
    target.judge(took)
}

/// Nobody reads the log on standard error any more: what is told there changes nothing.
pub(crate) fn log_without_reader(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = new_images(dir, "images")?;
    let (images, pid) = (images.to_str().expect("it is text"), target.root.to_string());
    let started = Instant::now();
    for (command, words) in [
        ("dump", &["-t", &pid, "-D", images, "-v5"][..]),
        ("restore", &["-d", "-D", images, "-v5"]),
    ] {
        let run = |source| Failure::Io { operation: "run", path: command.into(), source };
        let (reader, writer) = std::io::pipe().map_err(run)?;
        drop(reader);
        let mut called = Command::new(&checkpointer.program);
        let called = called.arg(command).args(words).stdin(Stdio::null()).stderr(writer);
        let status = called.status().map_err(run)?;
        if !status.success() {
            return Err(Failure::Verdict(format!("{command} ended with {status}")));
        }
        if command == "dump" {
            target.must_be_gone(before.pids(), "after dump")?;
        }
    }
    target.judge(started.elapsed())
}
