//! Tiny programs, one kernel behaviour each, that check themselves after a checkpoint.

fn main() {}
