//! Every scenario under every action. See `dormouse_testkit::suite`.
//!
//! Run some: `cargo build -p dormouse && cargo nextest run -p dormouse-scenarios tree::sleeper`;
//! with `DORMOUSE_TRY=1` also those whose state the engine is said to lack. Try the harness with
//! CRIU: `CHECKPOINTER=criu CRIU_BIN=/path/to/criu cargo nextest run -p dormouse-scenarios`.

use std::path::Path;
use std::process::ExitCode;

mod lacks;

fn main() -> ExitCode {
    dormouse_testkit::suite::main(Path::new(env!("CARGO_BIN_EXE_dormouse-scenario")), lacks::LACKS)
}
