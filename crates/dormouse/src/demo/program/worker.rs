//! A process that counts: blocks come in by its standard input, numbers go out.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{PROGRAM, broken, primes_in};

/// How long a worker rests after each block, for people to be able to follow.
const REST: Duration = Duration::from_millis(20);

/// Runs one.
pub(super) fn run() -> io::Result<()> {
    rustix::thread::set_name(c"primes-worker")?;
    let (hand_over, blocks) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    thread::Builder::new().name("computing".to_owned()).spawn(move || {
        for block in blocks {
            if answer.send(primes_in(block)).is_err() {
                break;
            }
            thread::sleep(REST);
        }
    })?;
    for line in io::stdin().lock().lines() {
        let block = line?.parse().map_err(|_| broken())?;
        hand_over.send(block).map_err(|_| broken())?;
        let primes: u64 = answers.recv().map_err(|_| broken())?;
        let mut out = io::stdout().lock();
        writeln!(out, "{primes}")?;
        out.flush()?;
    }
    Ok(())
}

/// A worker as the server sees it.
#[derive(Debug)]
pub(super) struct Worker {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    pub(super) fn spawn() -> io::Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args([PROGRAM, "worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take().expect("it was asked for");
        let answers = process.stdout.take().expect("it was asked for");
        Ok(Self { process, requests, answers: BufReader::new(answers) })
    }

    /// Has it count the primes in a block.
    pub(super) fn count(&mut self, block: u64) -> io::Result<u64> {
        writeln!(self.requests, "{block}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim_end().parse().map_err(|_| broken())
    }

    /// Has it end, and waits for that.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { mut process, requests, .. } = self;
        drop(requests);
        if process.wait()?.success() { Ok(()) } else { Err(broken()) }
    }
}
