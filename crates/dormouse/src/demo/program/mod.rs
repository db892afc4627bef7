//! The program that the demo freezes: a server that counts primes.
//!
//! The root process is an epoll server. A client asks for one block of numbers after the other, and
//! is told of each how many primes are in it, how many there were so far, and a digest of all it
//! was told. The counting is done by two worker processes, which a thread each of the server talks
//! to by pipes; a worker has one thread that reads its pipe and one that computes. What a
//! connection has been told is nowhere but in the server's memory: had it been started again, or
//! had it lost or repeated a single block, the client would notice.
//!
//! Nothing in it knows of checkpoints.

mod ledger;
mod primes;
mod server;
mod worker;

use std::io;

use clap::ValueEnum;

pub(super) use ledger::Ledger;
pub(super) use primes::primes_in;

/// The hidden command that is this program.
pub(crate) const PROGRAM: &str = "demo-program";
/// What a client sends for the next block.
pub(super) const REQUEST: &[u8] = b"next\n";

/// What a process of the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Serves clients.
    Server,
    /// Counts.
    Worker,
}

/// Runs one process of the program.
pub(super) fn run(role: Role) -> io::Result<()> {
    match role {
        Role::Server => server::run(),
        Role::Worker => worker::run(),
    }
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}
