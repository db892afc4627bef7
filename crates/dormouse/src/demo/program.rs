//! The program that the demo freezes: it counts primes.
//!
//! A root process hands out blocks of numbers over pipes to two worker
//! processes, one thread for each of them; a worker has one thread that reads
//! the pipe and one that computes. The root puts the answers in order and
//! writes a line for each. What it has counted so far, and a digest of every
//! line, is nowhere but in its memory: a program that had been started again,
//! or had lost or repeated a single block, would end with other lines.
//!
//! Nothing in it knows of checkpoints.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

/// The hidden command that is this program.
pub(crate) const PROGRAM: &str = "demo-program";
/// How many blocks there are.
pub(super) const BLOCKS: u64 = 200;
/// How many numbers are in a block.
const BLOCK: u64 = 50_000;
/// How many processes compute.
const WORKERS: usize = 2;
/// How long a worker rests after each block, for people to be able to follow.
const REST: Duration = Duration::from_millis(20);

/// What a process of the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Hands out blocks and puts the answers together.
    Root,
    /// Counts.
    Worker,
}

/// Runs one process of the program.
pub(super) fn run(role: Role) -> io::Result<()> {
    match role {
        Role::Root => root(),
        Role::Worker => worker(),
    }
}

/// What has been counted, in order of the blocks.
#[derive(Debug)]
struct Ledger {
    next: u64,
    total: u64,
    digest: u64,
    /// Answers that wait for an earlier one.
    early: BTreeMap<u64, u64>,
}

impl Ledger {
    fn new() -> Self {
        // FNV-1a.
        Self { next: 0, total: 0, digest: 0xcbf2_9ce4_8422_2325, early: BTreeMap::new() }
    }

    /// Enters an answer; gives the lines that are complete with it.
    fn enter(&mut self, block: u64, primes: u64) -> String {
        self.early.insert(block, primes);
        let mut lines = String::new();
        while let Some(primes) = self.early.remove(&self.next) {
            self.total += primes;
            let mut line = String::new();
            // Writing to a string cannot fail.
            let _ = write!(
                line,
                "block {:>3}: {primes:>5} primes, {:>7} so far",
                self.next, self.total
            );
            for byte in line.bytes() {
                self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            let _ = writeln!(lines, "{line}, digest {:016x}", self.digest);
            self.next += 1;
        }
        lines
    }
}

/// Everything the program writes if nobody disturbs it.
pub(super) fn expected() -> String {
    let mut ledger = Ledger::new();
    (0..BLOCKS).map(|block| ledger.enter(block, primes_in(block))).collect()
}

fn root() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::thread::set_name(c"primes")?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(spawn_worker()?);
    }
    let next = Mutex::new(0..BLOCKS);
    let ledger = Mutex::new(Ledger::new());
    thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|(_, requests, answers)| {
                scope.spawn(|| {
                    while let Some(block) = lock(&next).next() {
                        writeln!(requests, "{block}")?;
                        let primes = number(&mut *answers)?;
                        let mut ledger = lock(&ledger);
                        let lines = ledger.enter(block, primes);
                        io::stdout().write_all(lines.as_bytes())?;
                        drop(ledger);
                    }
                    io::Result::Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| broken())?)
    })?;
    for (mut worker, requests, _) in workers {
        drop(requests);
        if !worker.wait()?.success() {
            return Err(broken());
        }
    }
    Ok(())
}

fn spawn_worker() -> io::Result<(Child, ChildStdin, BufReader<ChildStdout>)> {
    let mut child = Command::new(env::current_exe()?)
        .args([PROGRAM, "worker"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let requests = child.stdin.take().expect("it was asked for");
    let answers = child.stdout.take().expect("it was asked for");
    Ok((child, requests, BufReader::new(answers)))
}

fn worker() -> io::Result<()> {
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

fn number(from: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    line.trim_end().parse().map_err(|_| broken())
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many primes are in a block, by sieving it with every number whose
/// square is in it or below.
fn primes_in(block: u64) -> u64 {
    let (start, end) = (block * BLOCK, (block + 1) * BLOCK);
    let mut composite = vec![false; usize::try_from(BLOCK).expect("a block fits in memory")];
    for factor in (2..).take_while(|f| f * f < end) {
        let first = start.div_ceil(factor).max(factor) * factor;
        for multiple in (first..end).step_by(usize::try_from(factor).expect("a root is small")) {
            composite[usize::try_from(multiple - start).expect("within the block")] = true;
        }
    }
    let not_primes = if block == 0 { 2 } else { 0 };
    let primes = composite.iter().filter(|c| !**c).count();
    u64::try_from(primes).expect("no more than a block") - not_primes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_counted() {
        let pi = |n: u64| (0..n).map(primes_in).sum::<u64>();
        // The number of primes below 50,000, 100,000 and 1,000,000.
        assert_eq!(pi(1), 5_133);
        assert_eq!(pi(2), 9_592);
        assert_eq!(pi(20), 78_498);
    }

    #[test]
    fn answers_are_put_in_order() {
        let mut in_order = Ledger::new();
        let expected: String = (0..4).map(|b| in_order.enter(b, b * 10)).collect();
        let mut mixed = Ledger::new();
        let lines: String = [2, 0, 3, 1].into_iter().map(|b| mixed.enter(b, b * 10)).collect();
        assert_eq!(lines, expected);
        let mut lost = Ledger::new();
        assert_ne!(
            [0, 2, 3].into_iter().map(|b| lost.enter(b, b * 10)).collect::<String>(),
            expected
        );
    }

    #[test]
    fn a_run_is_as_expected() {
        let lines = expected();
        assert_eq!(lines.lines().count() as u64, BLOCKS);
        assert!(lines.starts_with("block   0:  5133 primes,    5133 so far, digest "));
    }
}
