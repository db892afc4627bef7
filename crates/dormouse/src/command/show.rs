//! `show`

use super::Done;
use crate::args::Show;
use crate::failure::Failure;

pub(super) fn run(_: &Show) -> Result<Done, Failure> {
    Err(Failure::NotYet("show"))
}
