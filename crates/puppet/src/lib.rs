//! Batches of system calls run by a stopped task.
