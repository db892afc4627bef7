//! Files that hold a number or two.

use super::scan::{ParseError, Scan};
use crate::HostPid;

/// `task/TID/children`: pids, each with a blank behind it.
pub(super) fn parse_children(bytes: &[u8]) -> Result<Vec<HostPid>, ParseError> {
    let mut scan = Scan::new(bytes);
    let mut children = Vec::new();
    while !scan.is_empty() {
        let Some(pid) = HostPid::from_raw(scan.dec("a pid")?) else {
            return scan.error("a positive pid");
        };
        children.push(pid);
        scan.blanks();
    }
    Ok(children)
}
