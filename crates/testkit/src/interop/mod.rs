//! The interop square: who restores whose images, scenario by scenario.

mod square;
mod table;

pub(crate) use square::is_of_criu;
pub use square::{Beside, InteropError, beside, main};
