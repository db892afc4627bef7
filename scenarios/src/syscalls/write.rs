//! `write` to a pipe that is full: nothing of it has gone in.
//!
//! Verified: it stays blocked until there is room, and then returns the full length, as one unbroken write;
//! blocked signals are as before. What has gone in in part is the subject of `moved_in_part`.
//! CRIU: works.

use rustix::io::{read, write};
use rustix::pipe::pipe;

use super::blocking::until_woken;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const LEN: usize = 200_000;

fn run(cx: &mut Context) {
    let (reader, writer) = pipe().expect("pipe");
    check_eq!(write(&writer, &[1; 65_536]), Ok(65_536), "filling the pipe");
    let wait = move || write(&writer, &[2; 4096]);
    until_woken(cx, libc::SYS_write, &Ok(4096), wait, |_| {
        let mut bytes = vec![0; LEN];
        let mut total = 0;
        while total < 65_536 + 4096 {
            match read(&reader, &mut bytes[total..]) {
                Ok(n @ 1..) => total += n,
                end => return check!(false, "reading at {total}: {end:?}"),
            }
        }
        check!(bytes[..65_536].iter().all(|&b| b == 1), "bytes that filled the pipe");
        check!(bytes[65_536..total].iter().all(|&b| b == 2), "bytes of the blocked write");
    });
}
