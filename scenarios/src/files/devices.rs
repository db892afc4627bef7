//! The memory devices: null, zero, full, random, urandom.
//!
//! Verified: each still is what it was.
//! CRIU: works.

use std::fs::File;
use std::io::{Read, Write};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let open = |name| File::options().read(true).write(true).open(name).expect("open a device");
    let [mut null, mut zero, mut full] = ["/dev/null", "/dev/zero", "/dev/full"].map(open);
    let [mut random, mut urandom] =
        ["/dev/random", "/dev/urandom"].map(|n| File::open(n).expect("open"));

    cx.ready_and_wait();

    let mut bytes = [7; 64];
    check_eq!(null.read(&mut bytes).ok(), Some(0), "reading null");
    check_eq!(null.write(&bytes).ok(), Some(64), "writing null");
    check_eq!(zero.read(&mut bytes).ok().map(|n| (n, bytes)), Some((64, [0; 64])), "reading zero");
    let error = full.write(&bytes).map_err(|e| e.raw_os_error());
    check_eq!(error, Err(Some(libc::ENOSPC)), "writing full");
    for device in [&mut random, &mut urandom] {
        let mut other = [0; 64];
        check!(
            device.read_exact(&mut bytes).is_ok() && device.read_exact(&mut other).is_ok(),
            "reading"
        );
        check!(bytes != other, "random bytes came twice");
    }
}
