//! Counting primes.

/// How many numbers are in a block.
const BLOCK: u64 = 50_000;

/// How many primes are in a block, by sieving it with every number whose
/// square is in it or below.
pub(in super::super) fn primes_in(block: u64) -> u64 {
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
}
