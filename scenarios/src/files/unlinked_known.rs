//! A file whose name was removed while it has another one in the same directory, which is found
//! without a link of the dump's own.
//!
//! Verified: it is still the file of the other name: same inode, writes show; the removed name
//! stays free.
//! CRIU: refuses to dump it.

use super::unlinked_linked::run;
use crate::Scenario;

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);
