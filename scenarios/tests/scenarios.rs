//! Every scenario under every action. See `dormouse_testkit::suite`.
//!
//! Run some: `cargo build -p dormouse && cargo nextest run -p dormouse-scenarios tree::sleeper`;
//! with `DORMOUSE_TRY=1` also those whose state the engine is said to lack. Try the harness with
//! CRIU: `CHECKPOINTER=criu CRIU_BIN=/path/to/criu cargo nextest run -p dormouse-scenarios`.

use std::path::Path;
use std::process::ExitCode;

/// Kinds of state the engine does not know yet, as scenarios name them in `needs`.
const LACKS: &[(&str, &str)] = &[
    ("*", "the engine does not dump yet"),
    ("locks", "file locks are not dumped yet"),
    ("sockets", "sockets are not dumped yet"),
    ("sysvipc", "System V IPC is not dumped yet"),
];

fn main() -> ExitCode {
    dormouse_testkit::suite::main(Path::new(env!("CARGO_BIN_EXE_dormouse-scenario")), LACKS)
}
