//! Ranges of another process's memory that are moved piece by piece.

use dormouse_kernel::AddrRange;

/// Leaves out of `ranges` the bytes that have been moved, from the beginning; what was moved only in
/// part is asked for again, and then fails with its address.
pub(super) fn skip(ranges: &mut [AddrRange], mut moved: usize) -> &mut [AddrRange] {
    let mut first = 0;
    while let Some(range) = ranges.get_mut(first) {
        let len = range.len() as usize;
        if moved < len {
            let start = range.start().checked_add(moved as u64).expect("inside of the range");
            *range = AddrRange::new(start, range.end()).expect("the rest");
            break;
        }
        moved -= len;
        first += 1;
    }
    &mut ranges[first..]
}

#[cfg(test)]
mod tests {
    use dormouse_kernel::{Addr, AddrRange};

    use super::skip;

    #[test]
    fn what_was_moved_is_left_out() {
        let range = |start, len| AddrRange::with_len(Addr::from_raw(start), len).unwrap();
        let all = || [range(100, 10), range(200, 5), range(300, 1)];
        assert_eq!(skip(&mut all(), 0), all());
        assert_eq!(skip(&mut all(), 3), [range(103, 7), range(200, 5), range(300, 1)]);
        assert_eq!(skip(&mut all(), 10), [range(200, 5), range(300, 1)]);
        assert_eq!(skip(&mut all(), 14), [range(204, 1), range(300, 1)]);
        assert_eq!(skip(&mut all(), 16), []);
    }
}
