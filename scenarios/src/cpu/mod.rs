//! What the CPU holds for a thread: registers of all kinds.

pub(crate) mod spin;

pub(crate) mod alignment_check;
pub(crate) mod avx;
pub(crate) mod avx512;
pub(crate) mod bases;
pub(crate) mod cpuid;
pub(crate) mod registers;
pub(crate) mod thread_areas;
pub(crate) mod x87_sse;
