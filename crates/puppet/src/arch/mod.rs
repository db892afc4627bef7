//! What differs between processors: the code puppets run, and how its
//! registers are set up.

mod x86_64;

pub(crate) use x86_64::{
    BATCHES, ENTRY, INDIRECT, MAY_FAIL, RESULT, SCRATCH, boot_result, done, left, map_scratch,
};
pub use x86_64::{CODE, Code, Context, Place, boot, walk};
