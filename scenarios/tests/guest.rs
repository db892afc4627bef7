//! Scenarios on another kernel than this machine's.
//!
//! `GUEST_KERNEL` names a directory with an unpacked kernel package, see `docs/other-kernels.md`; if it is
//! not set, all of them are counted as skipped. Every scenario there:
//! `cargo run -p xtask -- guest DIR FILTER`.

use std::path::Path;
use std::process::ExitCode;

use dormouse_testkit::cases::{self, Case};
use dormouse_testkit::failure::Failure;
use dormouse_testkit::guest::{GuestError, Kernel};
use dormouse_testkit::suite;

mod lacks;

/// Each boots a machine for some tests of the suite: those that a kernel is most likely to see in
/// its own way.
const TESTS: &[(&str, &[&str])] = &[
    (
        "epolls",
        &[
            "epoll::edge_consumed::root::dump_restore",
            "epoll::key_closed::root::dump_restore",
            "epoll::oneshot_fired::root::dump_restore",
            "epoll::order::root::leave_running",
        ],
    ),
    (
        "files",
        &[
            "files::eventfd_semaphore::root::dump_restore",
            "inet::unconnected::root::dump_restore",
            "mqueue::messages::root::dump_restore",
            "mqueue::notify::root::dump_restore",
            "tcp::both_ends::root::dump_restore",
            "unix::rights_nested::root::dump_restore",
        ],
    ),
    (
        "tasks",
        &[
            "cpu::avx::root::dump_restore",
            "memory::aio::root::dump_restore",
            "memory::locked::root::dump_restore",
            "syscalls::nanosleep::root::leave_running",
            "sysv::undo::root::dump_restore",
        ],
    ),
];

/// Tells the test executable that it is in the guest.
const INSIDE: &str = "DORMOUSE_GUEST";

fn main() -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    if std::env::var_os(INSIDE).is_some() {
        return suite::main(scenario, lacks::LACKS);
    }
    let kernel = std::env::var_os("GUEST_KERNEL");
    let skip = match &kernel {
        None => Some("GUEST_KERNEL is not set".to_owned()),
        Some(_) => cases::skip_all(),
    };
    let kernel = kernel.unwrap_or_default();
    let case = |&(name, tests): &(&str, &'static [&'static str])| {
        let kernel = Path::new(&kernel);
        let run = move |dir: &Path| smoke(kernel, tests, dir);
        Case { name: name.to_owned(), skip: skip.clone(), run: Box::new(run) }
    };
    cases::main(&TESTS.iter().map(case).collect::<Vec<_>>())
}

/// Runs the tests in a guest; all of them must be said to be fine.
fn smoke(kernel: &Path, tests: &[&str], dir: &Path) -> Result<(), Failure> {
    let broken = |error: GuestError| Failure::Verdict(error.to_string());
    let io = |operation| {
        move |source| Failure::Io { operation, path: "qemu-system-x86_64".into(), source }
    };
    let suite = std::env::current_exe().map_err(io("find the tests beside"))?;
    let beside = suite.parent().unwrap_or(Path::new("/"));
    let target = beside.parent().unwrap_or(beside);
    let mut script = format!("export {INSIDE}=1\n");
    for test in tests {
        script.push_str(&format!("{} --color never --exact {test}\n", suite.display()));
    }
    let mut guest = Kernel::find(kernel)
        .and_then(|kernel| kernel.boot(&script, target, dir))
        .map_err(broken)?;
    let output = guest.output().map_err(io("run"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = |test: &&&str| said.contains(&format!("test {test} ... ok"));
    let failed: Vec<_> = tests.iter().filter(|test| !passed(test)).collect();
    match failed[..] {
        [] => Ok(()),
        _ => Err(Failure::Verdict(format!("not passed: {failed:?}\n{said}"))),
    }
}
