//! A process that has many threads, one of which soon runs the program anew, for ever.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The word on the command line that asks for it.
pub const WORD: &str = "--exec-storm";

/// Becomes it; returns why not.
#[must_use]
pub fn run() -> io::Error {
    for _ in 0..20 {
        thread::spawn(|| {
            loop {
                thread::park();
            }
        });
    }
    let executor = thread::spawn(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        thread::sleep(Duration::from_micros(1000 + u64::from(now.subsec_nanos()) % 2000));
        Command::new("/proc/self/exe").arg(WORD).exec()
    });
    executor.join().unwrap_or_else(|_| io::Error::other("the thread panicked"))
}
