//! What differs between processors: the code puppets run, and how its
//! registers are set up.

mod x86_64;

pub use x86_64::{CODE, Code, Context, Place, boot, walk};
pub(crate) use x86_64::{
    ENTRY, INDIRECT, MAY_FAIL, RESULT, SCRATCH, boot_result, left, map_scratch,
};
