//! What a client has been told.

use std::fmt::Write as _;

/// What one client has been told so far.
#[derive(Debug)]
pub(in super::super) struct Ledger {
    next: u64,
    total: u64,
    digest: u64,
}

impl Ledger {
    /// Nothing.
    pub(in super::super) fn new() -> Self {
        // FNV-1a.
        Self { next: 0, total: 0, digest: 0xcbf2_9ce4_8422_2325 }
    }

    /// The block that is to be told of next.
    pub(in super::super) fn next(&self) -> u64 {
        self.next
    }

    /// Enters how many primes are in the next block; gives the line that tells of it.
    pub(in super::super) fn enter(&mut self, primes: u64) -> String {
        self.total += primes;
        let mut line = String::new();
        let (next, total) = (self.next, self.total);
        // Writing to a string cannot fail.
        let _ = write!(line, "block {next:>3}: {primes:>5} primes, {total:>7} so far");
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let _ = write!(line, ", digest {:016x}", self.digest);
        self.next += 1;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_repeated_answer_shows_for_ever() {
        let last = |answers: &[u64]| {
            let mut ledger = Ledger::new();
            answers.iter().map(|primes| ledger.enter(*primes)).last()
        };
        let right = last(&[5, 7, 7, 2]);
        assert_eq!(right, last(&[5, 7, 7, 2]));
        assert_ne!(right, last(&[5, 7, 2]));
        assert_ne!(right, last(&[5, 7, 7, 7, 2]));
        assert_ne!(right, last(&[7, 5, 7, 2]));
    }
}
