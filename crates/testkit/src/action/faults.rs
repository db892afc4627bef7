//! Checkpointers that are killed, fail, or must refuse.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Pair, Session};
use crate::failure::{Failure, io_failure};

/// How many moments of a dump or restore are tried.
const MOMENTS: u32 = 12;

/// Moments spread evenly over the time something takes, and a little beyond.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> {
    (0..MOMENTS).map(move |k| whole * k / (MOMENTS - 2))
}

/// Is the dump in this directory complete? Its last file makes it so.
fn is_complete(images: &Path) -> bool {
    images.join("inventory.img").exists()
}

/// Kills dump commands at moments spread over their length. Each time the target must go on as if nothing
/// had happened, unless the dump was complete: then it must be good to restore from.
pub(super) fn killed_dump(session: &mut Session<'_>, pair: Pair<'_>) -> Result<(), Failure> {
    let images = session.new_images()?;
    let whole = session.dump(pair, &images, &["-R"]).succeed()?.took;
    session.held(whole);
    session.compare("after dump -R")?;
    for moment in moments(whole) {
        let images = session.new_images()?;
        let ended = session.dump(pair, &images, &[]).start()?.kill_after(moment)?;
        session.held(ended.took);
        // What the command has begun, another process ends or undoes.
        session.none_left("after a killed dump", session.before.pids())?;
        if is_complete(&images) {
            let gone = Instant::now();
            session.target.kill(session.before.pids())?;
            session.none_left("after a dump killed when it was complete", &[])?;
            session.held(gone.elapsed());
            session.bring_back(pair, &images)?;
        } else {
            session.compare("after a killed dump")?;
        }
    }
    session.cycle(pair)
}

/// Kills restores at moments spread over their length. Nothing of the tree may stay, unless the
/// restore was complete: then all of it, as it was.
pub(super) fn killed_restore(session: &mut Session<'_>, pair: Pair<'_>) -> Result<(), Failure> {
    let images = session.dump_away(pair)?;
    // None of those that are killed goes on: the one that does was away all the time.
    let gone = Instant::now();
    let ended = session.restore(pair, &images)?.succeed()?;
    session.allow(pair);
    session.compare("after restore")?;
    session.target.kill(session.before.pids())?;
    for moment in moments(ended.took) {
        session.restore(pair, &images)?.start()?.kill_after(moment)?;
        // The kernel takes the half-built tree away; a tree already set free stays whole.
        if session.whole_or_nothing("after a killed restore, and not as the whole tree")? {
            session
                .none_left("after a restore killed when it was complete", session.before.pids())?;
            session.target.kill(session.before.pids())?;
        }
    }
    session.held(gone.elapsed());
    session.bring_back(pair, &images)
}

/// Dumps into a full filesystem, a read-only one, and a directory that is not there.
pub(super) fn failed_dump(session: &mut Session<'_>, pair: Pair<'_>) -> Result<(), Failure> {
    let full = session.new_images()?;
    mount(&full, "size=16k,nr_inodes=8")?;
    fail_to_dump(session, pair, &full, "the filesystem is full")?;
    let frozen = session.new_images()?;
    mount(&frozen, "ro")?;
    fail_to_dump(session, pair, &frozen, "the filesystem is read-only")?;
    let absent = frozen.join("nowhere");
    fail_to_dump(session, pair, &absent, "the directory does not exist")?;
    session.cycle(pair)
}

fn fail_to_dump(
    session: &mut Session<'_>,
    pair: Pair<'_>,
    images: &Path,
    why: &'static str,
) -> Result<(), Failure> {
    let ended = session.dump(pair, images, &[]).fail(why, &[])?;
    session.held(ended.took);
    session.compare("after a failed dump")?;
    session.none_left("after a failed dump", session.before.pids())
}

/// A tmpfs; it goes away with the pen's mount namespace.
fn mount(at: &Path, options: &str) -> Result<(), Failure> {
    let status =
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
    match status.map_err(io_failure("run", "mount"))? {
        status if status.success() => Ok(()),
        status => Err(Failure::Command { command: "mount".into(), status }),
    }
}

/// Puts a stranger under each of up to three pids of the tree: the restore must name it and
/// start nothing.
pub(super) fn pid_taken(session: &mut Session<'_>, pair: Pair<'_>) -> Result<(), Failure> {
    let images = session.dump_away(pair)?;
    let gone = Instant::now();
    let pids = session.before.pids().to_vec();
    let chosen = [Some(&pids[0]), pids.get(pids.len() / 2), pids.last()];
    for &pid in chosen.into_iter().flatten() {
        let mut holder = occupy(pid)?;
        let naming = [pid.to_string(), "sleep".to_owned()];
        let ended = session.restore(pair, &images)?.fail("a pid is taken", &naming);
        let left = session.none_left("after a restore that found a pid taken", &[pid]);
        holder.kill().map_err(io_failure("kill", "sleep"))?;
        holder.wait().map_err(io_failure("wait for", "sleep"))?;
        ended?;
        left?;
    }
    // A number is free when nobody is left in its process group, which may take a moment.
    let last = *pids.last().expect("there is a root");
    let mut member = leave_group(last)?;
    session.held(gone.elapsed());
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            member.kill()?;
            member.wait()
        });
        let back = session.bring_back(pair, &images);
        let ended = ending.join().expect("it does not panic");
        ended.map_err(io_failure("end", "sleep"))?;
        back
    })
}

/// Has this pid stand for a process group alone, with one member.
fn leave_group(pid: i32) -> Result<std::process::Child, Failure> {
    let mut leader = occupy(pid)?;
    let member = Command::new("sleep").arg("600").stdin(Stdio::null()).process_group(pid).spawn();
    leader.kill().map_err(io_failure("kill", "sleep"))?;
    leader.wait().map_err(io_failure("wait for", "sleep"))?;
    member.map_err(io_failure("run", "sleep"))
}

/// Starts a process with this pid, which leads a process group: the pen's pid namespace gives out
/// the next number after
/// `ns_last_pid`. What is started afterwards gets numbers that nobody had.
fn occupy(pid: i32) -> Result<std::process::Child, Failure> {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let last = fs::read_to_string(LAST).map_err(io_failure("read", LAST))?;
    fs::write(LAST, (pid - 1).to_string()).map_err(io_failure("write", LAST))?;
    let holder = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(io_failure("run", "sleep"))?;
    fs::write(LAST, last.trim()).map_err(io_failure("write", LAST))?;
    if holder.id() as i32 == pid {
        Ok(holder)
    } else {
        let got = std::io::Error::other(format!("got pid {} for it instead of {pid}", holder.id()));
        Err(io_failure("start", "sleep")(got))
    }
}

/// The dump must fail and say why; the target goes on.
pub(super) fn refused(session: &Session<'_>, pair: Pair<'_>) -> Result<(), Failure> {
    let images = session.target.dir.with_file_name("images-refused");
    fs::create_dir(&images).map_err(io_failure("create", &images))?;
    session.dump(pair, &images, &[]).fail("this state cannot be dumped", &session.refusal())?;
    session.compare("after a refused dump")?;
    session.none_left("after a refused dump", session.before.pids())
}
