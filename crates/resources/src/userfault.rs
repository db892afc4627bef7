//! Memory whose page faults a userfaultfd reports: what the mappings of a process tell of it.

use dormouse_kernel::AddrRange;
use dormouse_kernel::userfaultfd::Modes;

/// A mapping that is registered with a userfaultfd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Where.
    pub range: AddrRange,
    /// Which faults are reported.
    pub modes: Modes,
    /// Pages that are write-protected, those that were never there among them. They ascend.
    pub protected: Vec<AddrRange>,
    /// Pages of the file that are mapped, where it matters.
    pub mapped: Vec<AddrRange>,
}
