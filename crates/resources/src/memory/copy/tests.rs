use std::os::unix::fs::FileExt;

use dormouse_kernel::Addr;
use proptest::prelude::*;

use super::*;
use crate::memory::samples::pages;
use crate::memory::workers::CHUNK;

fn output(pieces: Vec<Piece>) -> Output {
    Output { image: ImageName::Pages(1), pieces }
}

fn piece(range: AddrRange) -> Piece {
    Piece { source: 0, zero_is_nothing: true, range }
}

proptest! {
    #[test]
    fn jobs_are_all_pieces_in_order(
        lens in prop::collection::vec(prop::collection::vec(1..200u64, 0..30), 0..4),
    ) {
        let outputs: Vec<Output> = lens
            .iter()
            .map(|lens| {
                let at = (0..).map(|number| number * 1000);
                output(lens.iter().zip(at).map(|(&len, at)| piece(pages(at, len))).collect())
            })
            .collect();
        let mut parts: Vec<Vec<Piece>> = vec![Vec::new(); outputs.len()];
        let mut last = 0;
        for job in jobs(&outputs) {
            prop_assert!(job.chunk.bytes > 0 && job.chunk.bytes <= CHUNK && job.output >= last);
            last = job.output;
            let mut bytes = 0;
            for (number, part) in job.pieces(&outputs[job.output]) {
                bytes += part.range.len();
                let whole = outputs[job.output].pieces[number].range;
                prop_assert_eq!(part.range.intersection(whole), Some(part.range));
                let parts = &mut parts[job.output];
                match parts.last_mut() {
                    Some(last) if last.range.end() == part.range.start() => {
                        last.range =
                            AddrRange::new(last.range.start(), part.range.end()).unwrap();
                    }
                    _ => parts.push(part),
                }
            }
            prop_assert_eq!(bytes, job.chunk.bytes);
        }
        for (parts, output) in parts.iter().zip(&outputs) {
            prop_assert_eq!(parts, &output.pieces);
        }
    }
}

#[test]
fn one_call_is_not_asked_for_more_pieces_than_it_takes() {
    let scattered: Vec<_> = (0..3000).map(|page| piece(pages(2 * page, 1))).collect();
    // So few bytes that nothing else ends a job.
    let tiny = |piece: &Piece| Piece {
        range: AddrRange::with_len(piece.range.start(), 16).unwrap(),
        ..*piece
    };
    let jobs = jobs(&[output(scattered.iter().map(tiny).collect())]);
    assert_eq!(jobs.iter().map(|job| job.chunk.bytes / 16).collect::<Vec<_>>(), [1024, 1024, 952]);
}

/// A buffer of this process as a source: three pages of ones, two of zeros, one of ones.
#[test]
fn pages_of_zeros_are_left_out_where_they_may() {
    let mut buffer = vec![0u8; 8 * PAGE];
    let start = buffer.as_ptr().addr().next_multiple_of(PAGE) - buffer.as_ptr().addr();
    buffer[start..start + 3 * PAGE].fill(1);
    buffer[start + 5 * PAGE..start + 6 * PAGE].fill(2);
    let first = Addr::from_raw(buffer[start..].as_ptr().addr() as u64);
    let range = AddrRange::with_len(first, 6 * PAGE_SIZE).unwrap();
    let own = HostPid::from_raw(rustix::process::getpid().as_raw_nonzero().get()).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let file = |number: usize| dir.path().join(number.to_string());
    let create = |number| {
        let file = File::create_new(file(number));
        file.map_err(|source| Error::Pages {
            operation: "create",
            image: ImageName::Pages(1),
            source,
        })
    };
    let whole = Piece { zero_is_nothing: false, ..piece(range) };
    let outputs = [output(vec![piece(range)]), output(vec![whole, piece(range)])];
    let mut told = 0;
    let left_out = copy(&[Source::Process(own)], &outputs, create, &mut |bytes| {
        told += bytes;
        ControlFlow::Continue(())
    })
    .unwrap();
    let zeros = AddrRange::with_len(first.checked_add(3 * PAGE_SIZE).unwrap(), 2 * PAGE_SIZE);
    let zeros = zeros.unwrap();
    assert_eq!(left_out, [vec![(0, zeros)], vec![(1, zeros)]]);
    assert_eq!(told, 3 * range.len());

    let contents = std::fs::read(file(0)).unwrap();
    assert_eq!(contents.len(), 4 * PAGE);
    assert!(contents[..3 * PAGE].iter().all(|&byte| byte == 1));
    assert!(contents[3 * PAGE..].iter().all(|&byte| byte == 2));
    let second = File::open(file(1)).unwrap();
    assert_eq!(second.metadata().unwrap().len(), 10 * PAGE_SIZE);
    let mut page = [1; PAGE];
    second.read_exact_at(&mut page, 3 * PAGE_SIZE).unwrap();
    assert_eq!(page, ZERO);
}

#[test]
fn a_page_that_is_not_there_is_an_error() {
    let own = HostPid::from_raw(rustix::process::getpid().as_raw_nonzero().get()).unwrap();
    // Mapped and readable at first, then nothing.
    let buffer = vec![1u8; PAGE];
    let good = Addr::from_raw(buffer.as_ptr().addr() as u64).page_start();
    let good = AddrRange::with_len(good, PAGE_SIZE).unwrap();
    let bad = pages(1, 2);
    let outputs = [output(vec![piece(good), piece(bad)])];
    let dir = tempfile::tempdir().unwrap();
    let create = |_| Ok(File::create(dir.path().join("pages")).unwrap());
    let error = copy(&[Source::Process(own)], &outputs, create, &mut |_| ControlFlow::Continue(()))
        .unwrap_err();
    match error {
        Error::Vanished { pid, at } => assert_eq!((pid, at), (own, bad.start())),
        other => panic!("{other}"),
    }
}
