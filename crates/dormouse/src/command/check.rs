//! `check`

use super::Done;
use crate::args::Check;
use crate::failure::Failure;
use crate::persona::Persona;

pub(super) fn run(_: Persona, _: &Check) -> Result<Done, Failure> {
    Err(Failure::NotYet("check"))
}
