//! A process to look at, killed and reaped in the end.
#![allow(clippy::unwrap_used, dead_code)]

use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{BlockedIn, ProcDir};
use std::process::{Child, Command, Stdio};

pub(crate) struct Sleeper(pub(crate) Child);

impl Sleeper {
    /// A `sleep`, asleep, with `/dev/null` as its standard input.
    pub(crate) fn start() -> Self {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let sleeper = Self(child);
        let dir = sleeper.dir();
        // Until the exec is over.
        loop {
            if let Ok(BlockedIn::Syscall { number, .. }) = dir.syscall()
                && i64::try_from(number) == Ok(libc::SYS_clock_nanosleep)
            {
                return sleeper;
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn pid(&self) -> HostPid {
        HostPid::from_raw(self.0.id().cast_signed()).unwrap()
    }

    pub(crate) fn dir(&self) -> ProcDir {
        ProcDir::open(self.pid()).unwrap()
    }

    /// Kills it and waits for it.
    pub(crate) fn reap(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
