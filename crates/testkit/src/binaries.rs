//! Where the programs under test are.

use std::env;
use std::path::{Path, PathBuf};

use crate::checkpointer::Checkpointer;

/// The programs a suite works with.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `dormouse-scenario`.
    pub scenario: PathBuf,
    /// The checkpointer under test, or why there is none.
    pub under_test: Result<Checkpointer, Missing>,
    /// The other checkpointers of the interop square.
    pub dormouse: Result<Checkpointer, Missing>,
    /// CRIU, from `CRIU_BIN`.
    pub criu: Result<Checkpointer, Missing>,
}

/// Why a checkpointer cannot be used.
#[derive(thiserror::Error, Clone, Debug)]
pub enum Missing {
    /// The variable is not set.
    #[error("{0} is not set")]
    Unset(&'static str),
    /// There is no such file.
    #[error("{} is not there", .0.display())]
    NotBuilt(PathBuf),
}

impl Binaries {
    /// Finds them: `dormouse` by `DORMOUSE_BIN` or in the target directory of the
    /// running test, CRIU by `CRIU_BIN`. `CHECKPOINTER=criu` puts CRIU under test
    /// instead, which is how the harness itself is tried.
    #[must_use]
    pub fn find(scenario: &Path) -> Self {
        let dormouse = match env::var_os("DORMOUSE_BIN") {
            Some(path) => existing("dormouse", path.into()),
            None => existing("dormouse", beside(scenario, "dormouse")),
        };
        let criu = match env::var_os("CRIU_BIN") {
            Some(path) => existing("criu", path.into()),
            None => Err(Missing::Unset("CRIU_BIN")),
        };
        let under_test = if env::var_os("CHECKPOINTER").is_some_and(|c| c == "criu") {
            criu.clone()
        } else {
            dormouse.clone()
        };
        Self { scenario: scenario.to_owned(), under_test, dormouse, criu }
    }
}

/// Cargo puts all binaries of a profile into one directory.
fn beside(scenario: &Path, name: &str) -> PathBuf {
    scenario.with_file_name(name)
}

fn existing(name: &'static str, program: PathBuf) -> Result<Checkpointer, Missing> {
    if program.is_file() {
        Ok(Checkpointer { name, program, caller: None })
    } else {
        Err(Missing::NotBuilt(program))
    }
}
