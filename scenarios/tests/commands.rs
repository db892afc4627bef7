//! What commands do whatever the program is.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dormouse_scenarios::exec_storm;
use dormouse_testkit::binaries::Binaries;
use dormouse_testkit::cases::{self, Case};
use dormouse_testkit::checkpointer::{Checkpointer, Invocation};
use dormouse_testkit::failure::Failure;
use dormouse_testkit::snapshot::Snapshot;
use dormouse_testkit::subject::{Facts, Subject, User};
use dormouse_testkit::target::{Target, none_left};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process};

mod at_prompt;
mod holders;
mod lacks;
mod outputs;
mod same_bytes;

type Test = fn(&Target, &Snapshot, &Checkpointer, &Path) -> Result<(), Failure>;

/// Each with the scenario it is done to.
const TESTS: &[(&str, &str, Test)] = &[
    ("caller_with_keyring", "keys::session", caller_with_keyring),
    ("caller_with_keyring_refused", "creds::plain", caller_with_keyring_refused),
    ("ending_meanwhile", "tree::sleeper", ending_meanwhile),
    ("executing_meanwhile", "tree::sleeper", executing_meanwhile),
    ("few_files", "files::numbers", few_files),
    ("hidden_edge", "epoll::edge_consumed", hidden_edge),
    ("hidden_keyrings", "keys::session", hidden_keyrings),
    ("hidden_order", "epoll::exclusive_opens", hidden_order),
    ("hidden_signals", "epoll::signals", hidden_signals),
    ("hidden_structures", "epoll::key_in_child", hidden_structures),
    ("hidden_structures_nested", "epoll::nested_deep", hidden_structures),
    ("hidden_structures_reused", "epoll::number_reused_watched", hidden_structures),
    ("holders_are_named", "tree::sleeper", holders::are_named),
    ("killed_dumps", "threads::two", killed_dumps),
    ("killed_dumps_of_epoll_wait", "syscalls::epoll_wait", killed_dumps),
    ("killed_dumps_of_semop", "syscalls::semop", killed_dumps),
    ("killed_dumps_of_sigwaitinfo", "syscalls::sigwaitinfo", killed_dumps),
    ("killed_dumps_of_futex", "syscalls::futex", killed_dumps),
    ("killed_dumps_of_stopped", "signals::stopped", killed_dumps),
    ("killed_dumps_and_others", "tree::wide", killed_dumps_and_others),
    ("killed_restores", "tree::wide", killed_restores),
    ("log_without_reader", "tree::sleeper", outputs::log_without_reader),
    ("logs", "threads::two", logs),
    ("other_kernel", "memory::vdso", other_kernel),
    ("queues_gone", "mqueue::messages", queues_gone),
    ("nowhere_for_names", "files::unlinked_taken", outputs::nowhere_for_names),
    ("other_processor", "tree::sleeper", other_processor),
    ("outputs_full", "tree::sleeper", outputs::full),
    ("outputs_led_elsewhere", "tree::sleeper", outputs::led_elsewhere),
    ("outputs_read_only", "tree::sleeper", outputs::read_only),
    ("refused_over_dump", "files::unlinked", outputs::refused_over_dump),
    ("same_bytes_of_epolls", "epoll::many_epolls", same_bytes::same_bytes),
    ("same_bytes_of_files", "files::table_shared", same_bytes::same_bytes),
    ("same_bytes_of_keys", "keys::families", same_bytes::same_bytes),
    ("same_bytes_of_memory", "memory::cow_children", same_bytes::same_bytes),
    ("same_bytes_of_sockets", "unix::rights_cycle", same_bytes::same_bytes),
    ("same_bytes_of_trees", "tree::sessions_crossed", same_bytes::same_bytes),
    ("sibling", "tree::sleeper", sibling),
    ("signalled_while_stopped", "syscalls::handlers", signalled_while_stopped),
    ("signalled_while_stopped_restored", "syscalls::handlers", signalled_while_stopped_restored),
    ("signalled_meanwhile", "threads::two", signalled_meanwhile),
    ("suspended_at_prompt", "tree::sleeper", at_prompt::suspended),
];

/// How often a command is killed, unless the environment has more patience.
const KILLS: u32 = 60;

fn kills() -> u32 {
    let asked = std::env::var("DORMOUSE_KILLS").ok();
    asked.and_then(|number| number.parse().ok()).unwrap_or(KILLS)
}

/// A number below one, another each time.
struct Dice(u64);

impl Dice {
    /// By the clock; says what it begins with.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        eprintln!("dice begin with {}", now.as_nanos() as u64);
        Self(now.as_nanos() as u64)
    }

    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

fn new_images(dir: &Path, name: &str) -> Result<std::path::PathBuf, Failure> {
    let path = dir.join(name);
    fs::create_dir(&path).map_err(|source| Failure::Io {
        operation: "create",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Dumps away; gives the images.
fn dump(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<std::path::PathBuf, Failure> {
    let images = new_images(dir, "images")?;
    checkpointer.dump(target.root, &images, dir, &[]).succeed()?;
    target.must_be_gone(before.pids(), "after dump")?;
    Ok(images)
}

/// A dump to a directory of its own that lets the program run on.
fn kept(
    target: &Target,
    checkpointer: &Checkpointer,
    dir: &Path,
    name: &str,
) -> Result<Invocation, Failure> {
    Ok(checkpointer.dump(target.root, &new_images(dir, name)?, dir, &["-R"]))
}

/// A dump that is killed at any moment has changed nothing, unless it was complete.
fn killed_dumps(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let whole = kept(target, checkpointer, dir, "first")?.succeed()?.took;
    let (mut dice, mut held) = (Dice::new(), whole);
    for number in 0..kills() {
        let ended = kept(target, checkpointer, dir, &format!("killed-{number}"))?.start()?;
        held += ended.kill_after(whole.mul_f64(dice.roll()))?.took;
        // What the command has begun, another process undoes or ends.
        none_left("after a killed dump", before.pids())?;
        target.must_equal(before, "after a killed dump", &[], Duration::from_secs(2))?;
    }
    target.judge(held)
}

/// A dump goes well right after another was killed, which may not have left the program yet.
fn killed_dumps_and_others(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let whole = kept(target, checkpointer, dir, "first")?.succeed()?.took;
    let (mut dice, mut held) = (Dice::new(), whole);
    for number in 0..kills() / 4 {
        let ended = kept(target, checkpointer, dir, &format!("killed-{number}"))?.start()?;
        let other = kept(target, checkpointer, dir, &format!("other-{number}"))?;
        held += ended.kill_after(whole.mul_f64(dice.roll()))?.took;
        held += other.succeed()?.took;
    }
    target.must_equal(before, "after killed dumps and others", &[], Duration::from_secs(2))?;
    target.judge(held)
}

/// A process that ends by itself while it is being frozen holds nobody up: there is a dump of it, or
/// an error.
fn ending_meanwhile(
    target: &Target,
    _: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    const PROGRAM: &str = "import os, sys, threading, time
for _ in range(12): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
time.sleep(float(sys.argv[1]))
os._exit(0)";
    let run = |operation| move |source| Failure::Io { operation, path: "python3".into(), source };
    let mut dice = Dice::new();
    let mut dumps = 0;
    let count = kills() / 2;
    for number in 0..count {
        let images = new_images(dir, &format!("ending-{number}"))?;
        let life = dice.roll() * 0.02;
        let mut child = Command::new(env!("CARGO_BIN_EXE_dormouse-scenario"))
            .args(["--exec", "/usr/bin/env", "python3", "-c", PROGRAM, &life.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .map_err(run("run"))?;
        let tasks = format!("/proc/{}/task", child.id());
        let threads = || fs::read_dir(&tasks).map_or(13, Iterator::count);
        while threads() < 13 && child.try_wait().map_err(run("wait for"))?.is_none() {}
        let ended = checkpointer.dump(child.id() as i32, &images, dir, &[]).finish()?;
        dumps += u32::from(ended.status.success());
        child.wait().map_err(run("wait for"))?;
        none_left("after its end", &[target.root])?;
    }
    eprintln!("{dumps} of {count} were dumped");
    target.judge(Duration::ZERO)
}

/// A process that runs another program while it is being frozen is dumped with the old or the new
/// one, and neither it nor the dump waits for the other for ever.
fn executing_meanwhile(
    target: &Target,
    _: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let run = |operation| move |source| Failure::Io { operation, path: "storm".into(), source };
    let program = env!("CARGO_BIN_EXE_dormouse-scenario");
    let mut child = Command::new(program)
        .args(["--exec", program, exec_storm::WORD])
        .stdin(Stdio::null())
        .spawn()
        .map_err(run("run"))?;
    let dumped = (0..kills()).try_for_each(|number| {
        let images = new_images(dir, &format!("executing-{number}"))?;
        checkpointer.dump(child.id() as i32, &images, dir, &["-R"]).succeed().map(drop)
    });
    let ended = child.try_wait().map_err(run("wait for"))?;
    child.kill().map_err(run("kill"))?;
    child.wait().map_err(run("wait for"))?;
    dumped?;
    match ended {
        None => target.judge(Duration::ZERO),
        Some(status) => Err(Failure::Verdict(format!("it has ended: {status}"))),
    }
}

/// Kills restores at `moments`, which are parts of the time of a whole one: each has restored all or
/// nothing, and the next one succeeds. `prepare` comes before each but the last.
fn kill_restores(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    (dir, images): (&Path, &Path),
    moments: impl IntoIterator<Item = f64>,
    prepare: impl Fn(),
) -> Result<(), Failure> {
    let restore = || checkpointer.restore(images, &dir.join("pidfile"), dir, &[]);
    prepare();
    let whole = restore().succeed()?.took;
    target.kill(before.pids())?;
    for moment in moments {
        prepare();
        let _ = fs::remove_file(dir.join("pidfile"));
        restore().start()?.kill_after(whole.mul_f64(moment))?;
        if target.whole_or_nothing(before, "after a killed restore", &[])? {
            none_left("after a restore killed when it was complete", before.pids())?;
            target.kill(before.pids())?;
        }
    }
    let _ = fs::remove_file(dir.join("pidfile"));
    restore().succeed()?;
    target.judge(whole)
}

/// A restore that is killed at any moment has restored all or nothing.
fn killed_restores(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    // Most moments are late in a restore, where tasks are let go.
    let mut dice = Dice::new();
    let moments = (0..kills())
        .map(|number| if number % 3 == 0 { dice.roll() } else { 0.6 + 0.5 * dice.roll() });
    kill_restores(target, before, checkpointer, (dir, &images), moments, || ())
}

/// Message queues that are gone are made again, and what killed restores have left of them is in
/// nobody's way.
fn queues_gone(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    let remove = || {
        for what in ["messages", "empty"] {
            let name = CString::new(format!("/dormouse.{}.{what}", target.root)).expect("no zero");
            // SAFETY: the name lives over the call. If there is none, a restore has made none.
            unsafe { libc::mq_unlink(name.as_ptr()) };
        }
    };
    let mut dice = Dice::new();
    let moments = (0..kills() / 3).map(|_| 0.2 + 0.9 * dice.roll());
    kill_restores(target, before, checkpointer, (dir, &images), moments, remove)
}

/// `--restore-sibling`: the root is a child of whoever has called the command.
fn sibling(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    // Reads the parent's number while it is there itself.
    let script = r#""$1" restore -d "$2" -D "$3" -o restore.log && echo $$ $(awk '/^PPid/ { print $2 }' "/proc/$4/status")"#;
    for (option, is_child) in [("-S", true), ("-v0", false)] {
        let said = Command::new("bash")
            .args(["-c", script, "bash"])
            .arg(&checkpointer.program)
            .arg(option)
            .arg(&images)
            .arg(target.root.to_string())
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Failure::Io { operation: "run", path: "bash".into(), source })?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let numbers: Vec<&str> = text.split_whitespace().collect();
        match numbers[..] {
            [caller, parent] if (caller == parent) == is_child => {}
            _ => {
                let error = String::from_utf8_lossy(&said.stderr).into_owned();
                return Err(Failure::Verdict(format!("caller and parent: {text:?}; {error}")));
            }
        }
        if is_child {
            target.kill(before.pids())?;
        }
    }
    target.judge(Duration::from_secs(1))
}

/// A log says what was done, to whom, at the level that was asked for, and how it ended in the words that
/// tools look for.
fn logs(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    const DUMPED: &str = "Dumping finished successfully";
    const RESTORED: &str = "Restore finished successfully. Tasks resumed.";
    let told = |log: &Path, words: &[(&str, bool)]| {
        let failed = |source| Failure::Io { operation: "read", path: log.to_owned(), source };
        let text = fs::read_to_string(log).map_err(failed)?;
        match words.iter().find(|(words, is_there)| text.contains(words) != *is_there) {
            None => Ok(()),
            Some(wrong) => {
                Err(Failure::Verdict(format!("a log is wrong about {wrong:?}:\n{text}")))
            }
        }
    };
    let task = format!("a process pid={}", target.root);
    let mut images = dir.to_owned();
    for (level, has_tasks, has_calls) in
        [("-v3", false, false), ("-v4", true, false), ("-v5", true, true)]
    {
        images = new_images(dir, level)?;
        checkpointer.dump(target.root, &images, dir, &["-R", level]).succeed()?;
        let words = [
            ("pages: begins", true),
            (&task, has_tasks),
            ("get_robust_list(", has_calls),
            (DUMPED, true),
        ];
        told(&images.join("dump.log"), &words)?;
    }
    target.kill(before.pids())?;
    let restore = checkpointer.restore(&images, &dir.join("pid"), dir, &["-v5"]);
    let took = restore.succeed()?.took;
    let words = [("memory: begins", true), ("set_robust_list(", true), (RESTORED, true)];
    told(&images.join("restore.log"), &words)?;
    target.judge(took)
}

/// What is in the vDSO of a dump is not what this kernel has: its functions lead to this kernel's.
/// The program goes on as before, is dumped again, and again restored with a vDSO unlike this
/// kernel's, without there being more than two.
fn other_kernel(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let first = dump(target, before, checkpointer, dir)?;
    estrange(&first)?;
    checkpointer.restore(&first, &dir.join("first.pid"), dir, &[]).succeed()?;
    let once = mappings(target)?;
    let second = new_images(dir, "second")?;
    checkpointer.dump(target.root, &second, dir, &[]).succeed()?;
    target.must_be_gone(before.pids(), "after the second dump")?;
    estrange(&second)?;
    let took = checkpointer.restore(&second, &dir.join("second.pid"), dir, &[]).succeed()?.took;
    let twice = mappings(target)?;
    let executable = |maps: &str| maps.lines().filter(|line| line.contains(" r-xp ")).count();
    if executable(&once) != executable(&twice) || !twice.contains("[vdso]") {
        return Err(Failure::Verdict(format!("once:\n{once}twice:\n{twice}")));
    }
    target.judge(took)
}

/// Images that tell of a processor whose registers take another number of bytes are refused, unless
/// nobody is to look.
fn other_processor(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    const XSAVE_SIZE: u8 = 9 << 3;
    let images = new_images(dir, "images")?;
    checkpointer.dump(target.root, &images, dir, &["--cpu-cap"]).succeed()?;
    target.must_be_gone(before.pids(), "after dump")?;
    let path = images.join("cpuinfo.img");
    let fail = |operation| {
        let path = path.clone();
        move |source| Failure::Io { operation, path, source }
    };
    let mut bytes = fs::read(&path).map_err(fail("read"))?;
    // The last two fields are two sizes, of two bytes each as numbers of bytes are.
    match &mut bytes[..] {
        [.., XSAVE_SIZE, size, _, _, _, _] => *size ^= 1,
        other => return Err(Failure::Verdict(format!("cpuinfo.img ends otherwise: {other:?}"))),
    }
    fs::write(&path, bytes).map_err(fail("write"))?;
    let restore = |options: &[&str]| checkpointer.restore(&images, &dir.join("pid"), dir, options);
    let naming = ["stores its registers in".to_owned(), "--cpu-cap=none".to_owned()];
    restore(&[]).fail("on another processor", &naming)?;
    target.must_be_gone(before.pids(), "after the refused restore")?;
    target.judge(restore(&["--cpu-cap=none"]).succeed()?.took)
}

/// A program that gets signals all the time while it is dumped, of those by which its own tasks report
/// that they have made their calls.
fn signalled_meanwhile(
    target: &Target,
    _: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let pid = Pid::from_raw(target.root).expect("the target has a pid");
    let done = AtomicBool::new(false);
    let mut held = Duration::ZERO;
    let dumped = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for signal in [Signal::URG, Signal::WINCH, Signal::CHILD] {
                    // The target is there: nobody kills it.
                    let _ = kill_process(pid, signal);
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        let dumped = (0..kills() / 2).try_for_each(|number| {
            let images = new_images(dir, &format!("signalled-{number}"))?;
            held += checkpointer.dump(target.root, &images, dir, &["-R"]).succeed()?.took;
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        dumped
    });
    dumped?;
    target.judge(held)
}

/// A signal that comes while a process stands still ends its call as any other would.
fn signalled_while_stopped(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let mut left = children(target, before);
    let mut took = Duration::ZERO;
    for number in 0.. {
        let dump = kept(target, checkpointer, dir, &format!("dump-{number}"))?.start()?;
        signal_stopped(&mut left);
        took += dump.wait()?.took;
        if left.is_empty() {
            break;
        }
        if number == 20 {
            return Err(Failure::Verdict(format!("{left:?} were never seen to stand still")));
        }
    }
    target.judge(took)
}

/// The same if it is killed, and restored.
fn signalled_while_stopped_restored(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = new_images(dir, "images")?;
    let dump = checkpointer.dump(target.root, &images, dir, &[]).start()?;
    let mut left = children(target, before);
    signal_stopped(&mut left);
    dump.wait()?;
    target.must_be_gone(before.pids(), "after dump")?;
    target.judge(checkpointer.restore(&images, &dir.join("pid"), dir, &[]).succeed()?.took)
}

fn children(target: &Target, before: &Snapshot) -> Vec<i32> {
    before.pids().iter().copied().filter(|&pid| pid != target.root).collect()
}

/// Sends SIGUSR1 to each that is seen to stand still, until the last is, or they have gone on.
fn signal_stopped(left: &mut Vec<i32>) {
    let is_stopped = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('t'))
    };
    let until = std::time::Instant::now() + Duration::from_secs(2);
    let mut begun = false;
    while !left.is_empty() && std::time::Instant::now() < until {
        let count = left.len();
        left.retain(|&pid| {
            let stopped = is_stopped(pid);
            if stopped && let Some(pid) = Pid::from_raw(pid) {
                // If it is gone by now, nothing is lost.
                let _ = kill_process(pid, Signal::USR1);
            }
            !stopped
        });
        match left.len() < count {
            true => begun = true,
            // All that were stopped go on by now.
            false if begun => return,
            false => {}
        }
    }
}

/// Programs may have more files open than the shell of whoever checkpoints them allows, and under
/// higher numbers.
fn few_files(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let few = Rlimit { current: Some(32), ..limit };
    rustix::process::setrlimit(Resource::Nofile, few).expect("a soft limit can be lowered");
    let images = dump(target, before, checkpointer, dir)?;
    let restored = checkpointer.restore(&images, &dir.join("pid"), dir, &[]).succeed()?;
    rustix::process::setrlimit(Resource::Nofile, limit).expect("and raised again");
    target.judge(restored.took)
}

/// From here on, whom this thread starts has a session keyring with a key in it.
fn join_session_keyring() {
    let (kind, name) = (c"user".as_ptr(), c"of the caller".as_ptr());
    // SAFETY: the strings live for ever, and the payload as long as the call.
    let made = unsafe {
        const SESSION: i32 = -3;
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0);
        libc::syscall(libc::SYS_add_key, kind, name, name, 1, SESSION)
    };
    assert!(made > 0, "add_key: {}", io::Error::last_os_error());
}

/// A program with a session keyring has its own again, whoever restores it.
fn caller_with_keyring(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    join_session_keyring();
    let took = checkpointer.restore(&images, &dir.join("pid"), dir, &[]).succeed()?.took;
    target.judge(took)
}

/// One without would have the keys of whoever restores it.
fn caller_with_keyring_refused(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    let pid = dir.join("pid");
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| {
            join_session_keyring();
            let naming = ["a thread without a session keyring".to_owned()];
            checkpointer.restore(&images, &pid, dir, &[]).fail("dormouse has one", &naming)
        });
        refused.join().expect("it does not panic")
    })?;
    let took = checkpointer.restore(&images, &pid, dir, &[]).succeed()?.took;
    target.judge(took)
}

/// From here on, the kernel in this pen has no type information.
fn hide_structures() -> Result<(), Failure> {
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    let hidden = rustix::mount::mount_bind("/dev/null", PATH);
    hidden.map_err(|source| Failure::Io {
        operation: "hide",
        path: PATH.into(),
        source: source.into(),
    })
}

/// An epoll is dumped where the kernel's structures cannot be read, if it has nothing to report.
fn hidden_structures(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    hide_structures()?;
    let images = dump(target, before, checkpointer, dir)?;
    let took = checkpointer.restore(&images, &dir.join("pid"), dir, &[]).succeed()?.took;
    target.judge(took)
}

/// If there is more to tell, it is refused with what it takes.
fn refused_if_hidden(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    (dir, reason): (&Path, &str),
) -> Result<(), Failure> {
    hide_structures()?;
    let images = new_images(dir, "images")?;
    let naming = [reason, "BTF", "CAP_BPF"].map(str::to_owned);
    let options = ["--tcp-established", "--network-lock=nftables"];
    let refused = checkpointer.dump(target.root, &images, dir, &options);
    let took = refused.fail("nobody can tell the state of the epoll", &naming)?.took;
    target.must_equal(before, "after a refused dump", &[], Duration::from_secs(2))?;
    target.judge(took)
}

/// Whether an edge was reported cannot be told then.
fn hidden_edge(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let reason = "whether it was reported";
    refused_if_hidden(target, before, checkpointer, (dir, reason))
}

/// Nor who is told first of those who watch one FIFO, each through an open file of their own.
fn hidden_order(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let reason = "may have to come before another";
    refused_if_hidden(target, before, checkpointer, (dir, reason))
}

/// Nor which keys are in a keyring.
fn hidden_keyrings(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    refused_if_hidden(target, before, checkpointer, (dir, "a thread that possesses keys"))
}

/// Nor whose signals an item watches.
fn hidden_signals(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let reason = "whose signals it watches";
    refused_if_hidden(target, before, checkpointer, (dir, reason))
}

fn mappings(target: &Target) -> Result<String, Failure> {
    let path = Path::new("/proc").join(target.root.to_string()).join("maps");
    fs::read_to_string(&path).map_err(|source| Failure::Io { operation: "read", path, source })
}

/// Makes the vDSO in the images that of another kernel: with another symbol for its version. Each
/// copy: the program's own may be there beside the kernel's.
fn estrange(images: &Path) -> Result<(), Failure> {
    const VERSION: &[u8] = b"LINUX_2.6\0";
    const NEW: &[u8] = b"LINUX_9.9\0";
    let path = images.join("pages-1.img");
    let fail = |operation| {
        let path = path.clone();
        move |source| Failure::Io { operation, path, source }
    };
    let mut bytes = fs::read(&path).map_err(fail("read"))?;
    let starts: Vec<usize> = (0..bytes.len())
        .step_by(4096)
        .filter(|&at| bytes[at..].starts_with(b"\x7fELF\x02\x01"))
        .collect();
    let mut found = false;
    for start in starts {
        let end = bytes.len().min(start + 4096);
        let page = &mut bytes[start..end];
        if let Some(at) = page.windows(VERSION.len()).position(|name| name == VERSION) {
            page[at..at + NEW.len()].copy_from_slice(NEW);
            found = true;
        }
    }
    if !found {
        return Err(Failure::Verdict("the images have no vDSO".into()));
    }
    fs::write(&path, bytes).map_err(fail("write"))
}

fn main() -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    let binaries = Binaries::find(scenario);
    let facts = match Facts::list(scenario, None) {
        Ok(facts) => facts,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    };
    let case = |&(name, subject, test): &(&'static str, &'static str, Test)| {
        let skip =
            cases::skip_all().or_else(|| cases::skip(name, &[""; 0], &binaries, lacks::LACKS));
        let facts = facts.iter().find(|facts| facts.name == subject).cloned();
        let under_test = binaries.under_test.as_ref().ok();
        let run = move |dir: &Path| {
            let (Some(facts), Some(checkpointer)) = (facts.clone(), under_test) else {
                let source = io::Error::other("it is not there");
                return Err(Failure::Io { operation: "use", path: subject.into(), source });
            };
            let subject = Subject { facts, user: User::Root };
            let target = Target::start(&subject, scenario, dir)?;
            let before = target.snapshot()?;
            test(&target, &before, checkpointer, dir)
        };
        Case { name: name.to_owned(), skip, run: Box::new(run) }
    };
    let cases: Vec<Case<'_>> = TESTS.iter().map(case).collect();
    cases::main(&cases)
}
