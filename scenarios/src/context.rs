//! What a scenario is given: its directory, and the few verbs of the protocol.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::check::FAULT;
use crate::{User, sys};

/// How often `go` is looked for.
const POLL: Duration = Duration::from_millis(5);

/// How long a scenario waits for one of its own processes before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A scenario's directory and role.
#[derive(Clone)]
pub struct Context {
    dir: PathBuf,
    go: PathBuf,
    user: User,
}

impl Context {
    /// A scenario's root process with its directory, which must be absolute.
    #[must_use]
    pub fn new(dir: &Path, user: User) -> Self {
        Self { dir: dir.to_owned(), go: dir.join("go"), user }
    }

    /// The user it runs as.
    pub(crate) fn user(&self) -> User {
        self.user
    }

    /// A file of this scenario.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Announces that all state is set up. Only the root calls it, once.
    pub(crate) fn ready(&self) {
        self.publish("ready", &format!("{}\n", std::process::id()));
    }

    /// Waits, in short sleeps, until the harness says go; returns for how long
    /// it held the tree frozen or gone, as it tells.
    ///
    /// It allocates nothing while it waits, so that the memory map stands still.
    pub(crate) fn wait_go(&self) -> Duration {
        let path = sys::CPath::new(&self.go);
        let before = sys::untold();
        while !path.exists() {
            // An early return is fine here; the scenarios about sleeping check theirs.
            sys::nap(POLL);
        }
        check_eq!(sys::untold(), before, "what only the thread can tell");
        let text = fs::read_to_string(&self.go).unwrap_or_default();
        Duration::from_micros(text.trim().parse().unwrap_or(0))
    }

    /// Has the harness said go?
    pub(crate) fn gone(&self) -> bool {
        sys::CPath::new(&self.go).exists()
    }

    /// [`Context::ready`], then [`Context::wait_go`].
    pub(crate) fn ready_and_wait(&self) -> Duration {
        self.ready();
        self.wait_go()
    }

    /// Forks a child which runs `body` and exits with 0, or with 101 if it panics.
    pub(crate) fn fork(&self, body: impl FnOnce(&Self)) -> i32 {
        match sys::fork() {
            0 => self.live_as_child(body),
            child => child,
        }
    }

    /// The same, of a child that has in common with this process what `flags` name (`CLONE_*`).
    pub(crate) fn fork_sharing(&self, flags: i32, body: impl FnOnce(&Self)) -> i32 {
        let flags = flags as u64;
        let ask = sys::Clone3 { flags, exit_signal: libc::SIGCHLD, ..sys::Clone3::default() };
        match sys::clone3(&ask).expect("clone3") {
            0 => self.live_as_child(body),
            child => child,
        }
    }

    /// Starts a process that is in no tree with this one: it has a session of its own, and its parent has
    /// ended. There it runs `body`.
    pub(crate) fn stranger(&self, body: impl FnOnce(&Self)) {
        let parent = self.fork(|cx| {
            let middle = sys::gettid();
            cx.fork(|cx| {
                rustix::process::setsid().expect("setsid");
                until("the parent's end", || sys::parent() != middle);
                body(cx);
            });
        });
        self.reap(parent);
    }

    /// Starts a thread and waits for its [`Context::arrive`]; returns it with its tid.
    pub(crate) fn thread<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> (JoinHandle<T>, i32) {
        let cx = self.clone();
        let (tell, hear) = mpsc::channel();
        let thread = thread::spawn(move || {
            tell.send(sys::gettid()).expect("the starting thread listens");
            drop(tell);
            body(&cx)
        });
        let tid = hear.recv().expect("the thread told its tid");
        self.await_arrival(tid);
        (thread, tid)
    }

    /// The life of a child that was made by another call than [`Context::fork`].
    pub(crate) fn live_as_child(&self, body: impl FnOnce(&Self)) -> ! {
        let outcome = catch_unwind(AssertUnwindSafe(|| body(self)));
        sys::exit(if outcome.is_ok() { 0 } else { 101 })
    }

    /// Tells the process waiting in [`Context::await_arrival`] that task `id`
    /// has its state set up.
    pub(crate) fn arrive(&self, id: i32) {
        self.publish(&format!("at.{id}"), "");
    }

    /// Waits for the task's [`Context::arrive`].
    pub(crate) fn await_arrival(&self, id: i32) {
        let path = self.path(&format!("at.{id}"));
        until(&format!("arrival of {id}"), || path.exists());
    }

    /// Waits until the thread is asleep in the syscall.
    pub(crate) fn await_blocked(&self, tid: i32, syscall: libc::c_long) {
        until(&format!("{tid} to block in syscall {syscall}"), || sys::sleeps_in(tid, syscall));
    }

    /// Waits until so many faults are to be told of.
    pub(crate) fn await_faults(&self, file: impl std::os::fd::AsFd, count: usize) {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
        let pending = format!("pending:\t{count}");
        until(&format!("{count} faults"), || {
            fs::read_to_string(&path).is_ok_and(|text| text.lines().any(|line| line == pending))
        });
    }

    /// Waits until the task's state letter in `/proc` is this one.
    pub(crate) fn await_state(&self, pid: i32, letter: char) {
        until(&format!("{pid} to be in state {letter}"), || sys::state(pid) == Some(letter));
    }

    /// Waits for a child, which must exit with 0.
    #[track_caller]
    pub(crate) fn reap(&self, pid: i32) {
        check_eq!(sys::wait_status(pid), Ok(0), "wait status of child {pid}");
    }

    /// The verdict of the whole scenario, from the faults its tasks wrote to `err`.
    #[must_use]
    pub fn verdict(&self) -> String {
        let err = fs::read(self.path("err")).unwrap_or_default();
        let text = String::from_utf8_lossy(&err);
        let faults: Vec<&str> =
            text.lines().filter(|l| l.starts_with(FAULT) || l.contains("panicked at")).collect();
        if faults.is_empty() { "ok".into() } else { faults.join("\n") }
    }

    /// Writes a file which is either there with all its text or not there.
    pub fn publish(&self, name: &str, text: &str) {
        let staged = self.path(&format!(".{name}.{}", std::process::id()));
        fs::write(&staged, text).expect("the state directory is writable");
        fs::rename(&staged, self.path(name)).expect("both names are in the state directory");
    }
}

/// Polls until the condition holds; panics with `what` if it never does.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Polls until the condition holds, however long the harness takes over the checkpoint.
pub(crate) fn until_forever(mut holds: impl FnMut() -> bool) {
    while !holds() {
        sys::nap(POLL);
    }
}
