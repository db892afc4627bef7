//! A slave whose master is closed.
//!
//! Verified: reading gives the end of the file, writing and settings give EIO; so for a second open of
//! it; its number in `/proc/self/fd`. A terminal that has got the same number since works.
//! CRIU: works.

use std::os::fd::AsRawFd;

use super::{awaited, line, pseudo_terminal, slave, text, write};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    let (one, two) = (slave(&path), slave(&path));
    drop(master);
    let (master, path) = pseudo_terminal();
    let living = slave(&path);
    let name = |file: &std::os::fd::OwnedFd| {
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("readlink")
    };
    let before = line(&living);
    cx.ready_and_wait();
    for file in [&one, &two] {
        check_eq!(text(file).as_deref(), Ok(""), "reading");
        check_eq!(write(file, "x"), Err(libc::EIO), "writing");
        check!(line(file).starts_with("Err(5)"), "settings: {}", line(file));
        check!(name(file).to_string_lossy().ends_with(" (deleted)"), "{:?}", name(file));
    }
    check_eq!(line(&living), before, "settings of the living one");
    check_eq!(name(&living).as_os_str().as_encoded_bytes(), path.as_bytes(), "its name");
    check_eq!(write(&living, "alive"), Ok(5), "printing on it");
    check_eq!(awaited(&master, "alive"), "alive", "what was printed on it");
}
