//! The clients of the program that is frozen. They are threads of the demo itself, know what every
//! answer has to be, and look at the clock.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::program::{Ledger, REQUEST, primes_in};
use super::stage::{DemoError, PATIENCE};

/// How many clients there are.
pub(super) const CLIENTS: usize = 3;
/// How many answers each wants.
const ANSWERS: u64 = 60;

/// Clients at work.
#[derive(Debug)]
pub(super) struct Clients {
    threads: Vec<JoinHandle<Result<Duration, DemoError>>>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Clients {
    /// Each connects to the server, and asks.
    pub(super) fn start(server: SocketAddr) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let client = |number| {
            let heard = Arc::clone(&heard);
            thread::spawn(move || client(number, server, &heard))
        };
        let threads = (1..=CLIENTS).map(client).collect();
        Self { threads, heard }
    }

    /// All that they have heard, right so far.
    pub(super) fn heard(&self) -> Vec<String> {
        lock(&self.heard).clone()
    }

    /// Waits until they have heard so many answers.
    pub(super) fn wait_for(self, count: usize) -> Result<(Self, Vec<String>), DemoError> {
        let start = Instant::now();
        loop {
            let heard = self.heard();
            if heard.len() >= count {
                return Ok((self, heard));
            }
            // Whoever ends so early says why.
            if self.threads.iter().any(JoinHandle::is_finished) {
                self.finish()?;
                return Err(DemoError::Early);
            }
            if start.elapsed() >= PATIENCE {
                return Err(DemoError::Stuck);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until each has had all answers; returns them, and the longest time one was waited for.
    pub(super) fn finish(self) -> Result<(Vec<String>, Duration), DemoError> {
        let mut longest = Duration::ZERO;
        for client in self.threads {
            let waited = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            longest = longest.max(waited);
        }
        let heard = std::mem::take(&mut *lock(&self.heard));
        Ok((heard, longest))
    }
}

/// One client: asks, and checks. Returns the longest time it waited for an answer.
fn client(
    number: usize,
    server: SocketAddr,
    heard: &Mutex<Vec<String>>,
) -> Result<Duration, DemoError> {
    let talk = |doing| move |source: io::Error| DemoError::Io { doing, source };
    let mut stream = TcpStream::connect(server).map_err(talk("connect to the server"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(talk("connect to the server"))?;
    let copy = stream.try_clone().map_err(talk("connect to the server"))?;
    let mut answers = BufReader::new(copy);
    let mut expected = Ledger::new();
    let mut longest = Duration::ZERO;
    for block in 0..ANSWERS {
        let asked = Instant::now();
        stream.write_all(REQUEST).map_err(talk("ask the server"))?;
        let mut line = String::new();
        answers.read_line(&mut line).map_err(talk("hear the server's answer"))?;
        longest = longest.max(asked.elapsed());
        if line.strip_suffix('\n') != Some(&expected.enter(primes_in(block))) {
            return Err(DemoError::Changed);
        }
        lock(heard).push(format!("client {number}: {}", line.trim_end()));
    }
    Ok(longest)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
