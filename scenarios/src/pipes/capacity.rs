//! Pipes with another capacity than usual, and flags that differ between the ends.
//!
//! Verified: capacity, that exactly so much fits, contents, non-blocking mode of each end.
//! CRIU: works, but a partly filled page stays so: in a pipe of one page there is no room left.

use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size, pipe};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const SIZES: [usize; 4] = [4096, 16_384, 262_144, 1 << 20];

fn run(cx: &mut Context) {
    let pipes: Vec<(OwnedFd, OwnedFd)> = SIZES
        .into_iter()
        .map(|size| {
            let (reader, writer) = pipe().expect("pipe");
            check_eq!(fcntl_setpipe_size(&writer, size), Ok(size), "F_SETPIPE_SZ");
            fcntl_setfl(&writer, OFlags::NONBLOCK).expect("F_SETFL");
            check_eq!(
                write(&writer, &vec![size as u8 ^ 0x55; size / 2]),
                Ok(size / 2),
                "filling half of it"
            );
            (reader, writer)
        })
        .collect();

    cx.ready_and_wait();

    for ((reader, writer), size) in pipes.iter().zip(SIZES) {
        check_eq!(fcntl_getpipe_size(reader), Ok(size), "capacity");
        let nonblocking = |fd| fcntl_getfl(fd).map(|f| f.contains(OFlags::NONBLOCK));
        check_eq!(
            (nonblocking(reader), nonblocking(writer)),
            (Ok(false), Ok(true)),
            "non-blocking mode"
        );
        check_eq!(
            write(writer, &vec![1; size / 2]),
            Ok(size / 2),
            "filling the other half of {size}"
        );
        check_eq!(write(writer, b"x"), Err(Errno::AGAIN), "one byte more than {size}");
        // What should be there must not be waited for.
        fcntl_setfl(reader, OFlags::NONBLOCK).expect("F_SETFL");
        let mut bytes = vec![0; size];
        let mut at = 0;
        while at < size {
            match read(reader, &mut bytes[at..]) {
                Ok(n @ 1..) => at += n,
                end => {
                    check!(false, "reading at {at} of {size}: {end:?}");
                    break;
                }
            }
        }
        check!(
            bytes[..size / 2].iter().all(|&b| b == size as u8 ^ 0x55),
            "bytes of the first half of {size}"
        );
        check!(bytes[size / 2..].iter().all(|&b| b == 1), "bytes of the second half of {size}");
    }
}
