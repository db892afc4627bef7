//! How many mappings a process may have.
//!
//! - Kernel object: `mm_struct.map_count`, `vm.max_map_count`

use std::fs;

use super::vma::{Backing, Vma};

/// How many more a process needs for a while: some are the puppet's, and what is changed in the
/// middle of a mapping splits it in three.
const MORE: usize = 8;

/// So many may be had everywhere.
const FEW: usize = 1 << 13;

/// Whether a process has so many mappings that those it needs besides, while it is dumped or made,
/// may not be had. Where the limit cannot be read the kernel will tell.
#[must_use]
pub fn is_crowded(vmas: &[Vma]) -> bool {
    let count = vmas.iter().filter(|vma| vma.backing != Backing::Vsyscall).count();
    if count < FEW {
        return false;
    }
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let limit: Option<usize> = limit.and_then(|text| text.trim().parse().ok());
    limit.is_some_and(|limit| count + MORE > limit)
}
