//! A restore in the foreground: this process stands for the restored program
//! until that ends. What it is signalled goes on to the program, it stops when
//! the program stops, and it ends with the program's status. A shell that continues it gives the
//! terminal to its process group; the program's has that passed on, and goes on as a whole.
//!
//! As long as the restore is not done, signals do to this process what they
//! always do; the engine sees to it that nothing is left behind.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use dormouse_kernel::HostPid;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, getpgid, getpgrp, getpid, getppid,
    getsid, kill_process, kill_process_group, pidfd_open, pidfd_send_signal, wait, waitid,
};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use signal_hook::consts::signal::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;
use signal_hook::low_level::emulate_default_handler;
use tracing::{debug, warn};

use super::Done;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::persona::Persona;

/// What a terminal, a shell or a service manager sends to a program.
const PASSED_ON: [i32; 10] =
    [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCONT, SIGTSTP, SIGWINCH];

/// Who gets the signals that arrive here.
#[derive(Debug)]
enum Receiver {
    /// This process: nothing runs yet.
    Ourselves,
    /// The program, which may run, but whose root is not known yet.
    Soon(Vec<Received>),
    /// This process.
    Root(Root),
}

/// The root of the restored program.
#[derive(Debug)]
struct Root {
    pid: Pid,
    pidfd: OwnedFd,
    /// The terminal signals it by itself, being one group with us.
    in_our_group: bool,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug)]
struct Received {
    signal: i32,
    /// The kernel sent it, for a key pressed at the terminal or the like.
    by_kernel: bool,
}

/// This process, standing for the program.
#[derive(Debug)]
pub(super) struct Foreground {
    receiver: Arc<Mutex<Receiver>>,
}

impl Foreground {
    /// Takes over the signals; not so as CRIU, which leaves them alone.
    pub(super) fn begin(persona: Persona) -> Result<Self, Failure> {
        let receiver = Arc::new(Mutex::new(Receiver::Ourselves));
        if persona == Persona::Criu {
            return Ok(Self { receiver });
        }
        let mut signals = SignalsInfo::<WithRawSiginfo>::new(PASSED_ON)
            .map_err(|source| Failure::Signals { source })?;
        let shared = Arc::clone(&receiver);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for info in &mut signals {
                    let received = Received {
                        signal: info.si_signo,
                        by_kernel: info.si_code == libc::SI_KERNEL,
                    };
                    lock(&shared).receive(received);
                }
            })
            .map_err(|source| Failure::Signals { source })?;
        Ok(Self { receiver })
    }

    /// The program begins to run.
    pub(super) fn released(&self) {
        lock(&self.receiver).released();
    }

    /// Waits until the program ends.
    pub(super) fn wait(self, persona: Persona, root: HostPid) -> Result<Done, Failure> {
        let failed = |e: rustix::io::Errno| Failure::Wait { pid: root, source: e.into() };
        if persona == Persona::Criu {
            // CRIU waits for every child it has got, however it ends.
            return loop {
                match wait(WaitOptions::empty()) {
                    Err(rustix::io::Errno::CHILD) => break Ok(Done::Exit(Exit::Success)),
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => break Err(failed(error)),
                }
            };
        }
        let pid = Pid::from_raw(root.as_raw()).expect("a pid is positive");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
        let ours = Root {
            pid,
            pidfd: pidfd.try_clone().map_err(|source| Failure::Wait { pid: root, source })?,
            in_our_group: getpgid(Some(pid)).is_ok_and(|group| group == getpgrp()),
        };
        lock(&self.receiver).set(ours);

        let status = loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED;
            match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
                Ok(Some(status)) if status.stopped() => stop_too(),
                Ok(Some(status)) => break status,
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        };
        debug!(pid = root.as_raw(), "the program has ended");
        let status = match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => status,
            (None, Some(signal)) => 128 + signal,
            (None, None) => unreachable!("waitid was asked for nothing else"),
        };
        Ok(Done::Program(u8::try_from(status & 0xff).expect("eight bits")))
    }
}

/// Stops this process, as the program has stopped, if a shell watches it.
fn stop_too() {
    let session_of = |pid| getsid(pid).ok();
    let is_watched = getppid().is_some_and(|parent| session_of(Some(parent)) == session_of(None));
    if !is_watched || terminal().is_none() {
        return;
    }
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        warn!(%error, "cannot stop");
    }
}

/// The controlling terminal.
fn terminal() -> Option<File> {
    File::open("/dev/tty").ok()
}

fn lock(receiver: &Mutex<Receiver>) -> std::sync::MutexGuard<'_, Receiver> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    fn receive(&mut self, received: Received) {
        match self {
            Self::Ourselves => {
                if let Err(error) = emulate_default_handler(received.signal) {
                    warn!(signal = received.signal, %error, "cannot be carried out");
                }
            }
            Self::Soon(waiting) => waiting.push(received),
            Self::Root(root) => root.pass_on(received),
        }
    }

    /// The program begins to run.
    fn released(&mut self) {
        if matches!(self, Self::Ourselves) {
            *self = Self::Soon(Vec::new());
        }
    }

    fn set(&mut self, root: Root) {
        if let Self::Soon(waiting) = self {
            for received in waiting.drain(..) {
                root.pass_on(received);
            }
        }
        *self = Self::Root(root);
    }
}

impl Root {
    fn pass_on(&self, received: Received) {
        if received.by_kernel && self.in_our_group {
            return;
        }
        if received.signal == SIGCONT && !self.in_our_group {
            return self.go_on();
        }
        let signal = Signal::from_named_raw(received.signal).expect("one of PASSED_ON");
        match pidfd_send_signal(&self.pidfd, signal) {
            // It has ended; we are about to hear of it.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => warn!(signal = received.signal, %error, "cannot be passed on"),
        }
    }

    /// Has the program go on, in the foreground if this process is there: as a whole, as its
    /// process group was stopped by a key.
    fn go_on(&self) {
        // Its own number again only when it has been waited for, and then this process ends.
        let Ok(group) = getpgid(Some(self.pid)) else { return };
        // First, or the program would be stopped again when it reads.
        if let Some(terminal) = terminal().filter(|tty| tcgetpgrp(tty) == Ok(getpgrp()))
            && let Err(error) = tcsetpgrp(&terminal, group)
        {
            warn!(%error, "cannot be given the terminal");
        }
        if let Err(error) = kill_process_group(group, Signal::CONT) {
            warn!(%error, "cannot be continued");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn script(text: &str) -> (Child, HostPid) {
        let mut child =
            Command::new("sh").args(["-c", text]).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 1];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let pid = HostPid::from_raw(child.id().cast_signed()).unwrap();
        (child, pid)
    }

    /// One test, for signals are sent to the whole process.
    #[test]
    fn signals_go_to_the_program_and_its_status_comes_back() {
        let foreground = Foreground::begin(Persona::Dormouse).unwrap();
        foreground.released();
        let (_child, pid) = script("trap 'exit 9' USR1; echo; while :; do sleep 0.02; done");
        // The root is not known yet: the signal has to be kept.
        kill_process(getpid(), Signal::USR1).unwrap();
        assert_eq!(foreground.wait(Persona::Dormouse, pid).unwrap(), Done::Program(9));

        let foreground = Foreground::begin(Persona::Dormouse).unwrap();
        foreground.released();
        let (_child, pid) = script("echo; exec sleep 60");
        let soon = thread::spawn(|| {
            thread::sleep(std::time::Duration::from_millis(100));
            kill_process(getpid(), Signal::TERM).unwrap();
        });
        assert_eq!(foreground.wait(Persona::Dormouse, pid).unwrap(), Done::Program(128 + 15));
        soon.join().unwrap();

        let foreground = Foreground::begin(Persona::Criu).unwrap();
        let (_child, pid) = script("echo; exit 3");
        assert_eq!(foreground.wait(Persona::Criu, pid).unwrap(), Done::Exit(Exit::Success));
    }
}
