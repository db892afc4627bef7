//! `demo`

use crate::args::Demo;
use crate::command::Done;
use crate::failure::Failure;

/// The hidden command that is the program which `demo` freezes.
pub(crate) const PROGRAM: &str = "demo-program";

/// What a process of that program does.
#[derive(Debug, clap::Args)]
pub(crate) struct Role {}

pub(crate) fn run(_: &Demo) -> Result<Done, Failure> {
    Err(Failure::NotYet("demo"))
}

pub(crate) fn program(_: &Role) -> Result<Done, Failure> {
    Err(Failure::NotYet("demo"))
}
