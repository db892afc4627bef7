//! Checkpoint running processes to image files and restore them.

fn main() {}
